"""OCSVM: a fitted one-class SVM as a pytree; fit, score, save, load."""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ocsvm_jax import kernels
from ocsvm_jax.arguments import as_float
from ocsvm_jax.kernels import Kernel, gram, rbf, resolve_gamma
from ocsvm_jax.solver import OCSVMSolution, Status, ocsvm_solve
from ocsvm_jax.solver.checks import check_nu, check_weights
from ocsvm_jax.solver.large import solve_large

# Up to here the Gram matrix is formed and solved whole.
_DENSE_POINTS = 1024
_WORKING_SET = 512
_QUERY_BLOCK = 1024
_FORMAT = "ocsvm_jax.OCSVM/1"
_SAVED_KERNELS = {
    "rbf": kernels.RBF,
    "laplacian": kernels.Laplacian,
    "linear": kernels.Linear,
    "polynomial": kernels.Polynomial,
    "sigmoid": kernels.Sigmoid,
    "scaled": kernels.Scaled,
}


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["support_vectors", "coefficients", "rho", "kernel"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class OCSVM:
    """A fitted one-class SVM: f(z) = sum_j coefficients_j k(support_vectors_j, z) - rho.

    Attributes:
      support_vectors: (m, d) the points with alpha > 0.
      coefficients: (m,) their alpha, summing to 1.
      rho: () offset, in units of the kernel.
      kernel: the kernel, itself a pytree.
    """

    support_vectors: Float[Array, "m d"]
    coefficients: Float[Array, " m"]
    rho: Float[Array, ""]
    kernel: Any

    def decision_function(self, x: Float[Array, "q d"]) -> Float[Array, " q"]:
        """F of each row of x, positive inside; memory O(1024 * m), whatever the number of rows."""
        x = as_float(x)
        m, d = self.support_vectors.shape
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x has shape {x.shape}; this model was fitted on points (n, {d}).")

        def score(block: Float[Array, "b d"]) -> Float[Array, " b"]:
            K = gram(self.kernel, block, self.support_vectors)
            return jnp.matmul(K, self.coefficients, precision=lax.Precision.HIGHEST) - self.rho

        q = x.shape[0]
        if q <= _QUERY_BLOCK:
            return score(x)
        blocks = -(-q // _QUERY_BLOCK)
        padded = jnp.pad(x, ((0, blocks * _QUERY_BLOCK - q), (0, 0)))
        return lax.map(score, padded.reshape(blocks, _QUERY_BLOCK, d)).reshape(-1)[:q]

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` without pickle; the kernel must be one of ocsvm_jax.kernels.

        The file appears whole or not at all: it is written beside `path` and renamed.
        """
        header = json.dumps({"format": _FORMAT, "kernel": _describe(self.kernel)})
        path = Path(path)
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "wb") as file:
            np.savez(
                file,
                header=np.frombuffer(header.encode(), np.uint8),
                support_vectors=np.asarray(self.support_vectors),
                coefficients=np.asarray(self.coefficients),
                rho=np.asarray(self.rho),
            )
        os.replace(temporary, path)

    @staticmethod
    def load(path: str | os.PathLike) -> "OCSVM":
        """Reads what `save` wrote; ValueError on any other or damaged file, never code execution."""
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes().decode())
                arrays = [file[k] for k in ("support_vectors", "coefficients", "rho")]
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
            kernel = _rebuild(header["kernel"])
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a model saved by OCSVM.save: {error}") from error
        vectors, coefficients, rho = arrays
        if vectors.ndim != 2 or coefficients.shape != vectors.shape[:1] or rho.shape != ():
            raise ValueError(f"{path} holds arrays whose shapes do not fit together.")
        return OCSVM(jnp.asarray(vectors), jnp.asarray(coefficients), jnp.asarray(rho), kernel)


def _describe(kernel: Any) -> dict[str, Any]:
    """A kernel as JSON: its name and its parameters, among which there may be a kernel."""
    names = [name for name, cls in _SAVED_KERNELS.items() if type(kernel) is cls]
    if not names:
        raise ValueError(
            f"the kernel is a {type(kernel).__name__}; only {sorted(_SAVED_KERNELS)} can be saved. "
            "Save the arrays of the model yourself and rebuild the kernel in code."
        )
    parameters = {f.name: getattr(kernel, f.name) for f in dataclasses.fields(kernel)}
    plain = {
        name: _describe(value) if name == "kernel" else np.asarray(value).tolist()
        for name, value in parameters.items()
    }
    return {"name": names[0], "parameters": plain}


def _rebuild(description: dict[str, Any]) -> Any:
    parameters = {
        name: _rebuild(value)
        if name == "kernel"
        else (np.asarray(value) if isinstance(value, list) else value)
        for name, value in description["parameters"].items()
    }
    return _SAVED_KERNELS[description["name"]](**parameters)


def ocsvm_fit(
    x: Float[Array, "n d"],
    nu: float,
    kernel: Kernel | None = None,
    *,
    gamma: Any = "scale",
    sample_weight: Float[Array, " n"] | None = None,
    tol: float | None = None,
    max_rounds: int = 10_000,
) -> tuple[OCSVM, OCSVMSolution]:
    """Fits a one-class SVM to points; up to 1,024 dense, beyond that without the Gram matrix.

    A host-level function: the number of support vectors is a shape, so it can't be traced. Inside
    jit use `ocsvm_solve`.

    Args:
      x: (n, d) points.
      nu: in (0, 1].
      kernel: any function of two points; by default `rbf(resolve_gamma(gamma, x))`.
      gamma: of the default kernel: a positive number, "scale" or "auto".
      sample_weight: (n,) non-negative weights.
      tol: bound on the KKT gap in units of K; by default that of `ocsvm_solve` for the dense solve and
        LIBSVM's (1e-3 / (nu * n) in this scale) beyond, but never below what the dtype can show.
      max_rounds: bound on the rounds of the large solver.

    Returns:
      The model and the solution over all n points: look at its status.

    Raises:
      ValueError: on NaN or infinite points, nu outside (0, 1], negative or all-zero weights, or
        shapes that do not fit.
    """
    x = as_float(x)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; ocsvm_fit takes points as rows, (n, d) with n >= 1."
        )
    if not np.all(np.isfinite(x)):
        raise ValueError("x holds NaN or infinite values; remove or impute those rows first.")
    check_nu(nu)
    n = x.shape[0]
    w = jnp.ones(n, x.dtype) if sample_weight is None else jnp.asarray(sample_weight, x.dtype)
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; x has {n} points, so it must be ({n},)."
        )
    check_weights(np.asarray(w))
    kernel = rbf(resolve_gamma(gamma, x)) if kernel is None else kernel
    if n <= _DENSE_POINTS:
        solution = _fit_dense(kernel, x, jnp.asarray(nu, x.dtype), w, tol)
    else:
        floor = 20 * float(jnp.finfo(x.dtype).eps)
        tol = max(1e-3 / (float(nu) * n), floor) if tol is None else tol
        C = w / (jnp.asarray(nu, x.dtype) * jnp.sum(w))
        solution = _fit_large(kernel, x, C, jnp.asarray(tol, x.dtype), max_rounds)
    support = np.flatnonzero(np.asarray(solution.alpha) > 0)
    model = OCSVM(x[support], solution.alpha[support], solution.rho, kernel)
    return model, solution


@jax.jit
def _fit_dense(kernel: Any, x: Array, nu: Array, w: Array, tol: Any) -> OCSVMSolution:
    return ocsvm_solve(gram(kernel, x), nu, sample_weight=w, tol=tol)


@partial(jax.jit, static_argnames="max_rounds")
def _fit_large(kernel: Any, x: Array, C: Array, tol: Array, max_rounds: int) -> OCSVMSolution:
    def columns(index: Array) -> Array:
        return gram(kernel, x, x[index])

    return solve_large(columns, C, tol=tol, working_set=_WORKING_SET, max_rounds=max_rounds)


__all__ = ["OCSVM", "Status", "ocsvm_fit"]
