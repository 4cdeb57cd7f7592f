"""OCSVM: a fitted one-class SVM as a pytree; fit, score, save, load."""

import dataclasses
import json
import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ocsvm_jax import kernels
from ocsvm_jax.arguments import as_float
from ocsvm_jax.files import whole_file
from ocsvm_jax.kernels import Kernel, gram, rbf, resolve_gamma
from ocsvm_jax.solver import OCSVMSolution, Status, ocsvm_solve
from ocsvm_jax.solver.checks import check_nu, check_weights
from ocsvm_jax.solver.large import solve_large

# Up to here the Gram matrix is formed and solved whole.
_DENSE_POINTS = 1024
_WORKING_SET = 512
_QUERY_BLOCK = 1024
_FORMAT = "ocsvm_jax.OCSVM/1"
_ARRAYS = ("support_vectors", "coefficients", "rho")
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
      kernel: the kernel, itself a pytree; a plain function is wrapped to be a static part of it.
    """

    # A model may be stacked, for `vmap`, as any pytree; older JAX fills it with placeholders there.
    support_vectors: Float[Array, "*batch m d"] | Any
    coefficients: Float[Array, "*batch m"] | Any
    rho: Float[Array, "*batch"] | Any
    kernel: Any

    def decision_function(self, x: Float[Array, "q d"]) -> Float[Array, " q"]:
        """The decision value of each row of x, positive inside and negative outside.

        Takes O(1024 * m) memory, whatever the number of rows. x is cast to the dtype of the model.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        return self.kernel_expansion(x) - self.rho

    def kernel_expansion(self, x: Float[Array, "q d"]) -> Float[Array, " q"]:
        """The decision function without its offset rho: sum_j coefficients_j k(z_j, x).

        It ranks points far from all support vectors, where the difference to rho rounds away.
        """
        x = as_float(x).astype(self.support_vectors.dtype)
        d = self.support_vectors.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x has shape {x.shape}; this model was fitted on points (n, {d}).")

        def expand(block: Float[Array, "b d"]) -> Float[Array, " b"]:
            # The first argument of `gram` is the one it centres: a value does not depend on the
            # other rows of its block.
            K = gram(self.kernel, self.support_vectors, block)
            return jnp.matmul(self.coefficients, K, precision=lax.Precision.HIGHEST)

        q = x.shape[0]
        if q <= _QUERY_BLOCK:
            return expand(x)
        blocks = -(-q // _QUERY_BLOCK)
        padded = jnp.pad(x, ((0, blocks * _QUERY_BLOCK - q), (0, 0)))
        return lax.map(expand, padded.reshape(blocks, _QUERY_BLOCK, d)).reshape(-1)[:q]

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` without pickle, whole or not at all.

        Raises:
          ValueError: if the kernel is not made of those of ocsvm_jax.kernels.
        """
        header = json.dumps({"format": _FORMAT, "kernel": _describe(self.kernel)})
        arrays = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        arrays["header"] = np.frombuffer(header.encode(), np.uint8)
        with whole_file(path) as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def load(path: str | os.PathLike) -> "OCSVM":
        """Reads what `save` wrote; never executes anything it finds in the file.

        float64 arrays become float32 where JAX's float64 is not enabled.

        Raises:
          OSError: if the file can not be read, FileNotFoundError among them.
          ValueError: on any other or damaged file.
        """
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    header = json.loads(archive["header"].tobytes())
                    vectors, coefficients, rho = (archive[name] for name in _ARRAYS)
                if header["format"] != _FORMAT:
                    raise ValueError(f"its format is {header['format']!r}, not {_FORMAT!r}")
                _check_arrays(vectors, coefficients, rho)
                kernel = _rebuild(header["kernel"], vectors)
            # A damaged archive raises almost anything.
            except Exception as error:
                message = f"{os.fspath(path)} is not a model saved by OCSVM.save"
                raise ValueError(f"{message}: {error}") from error
        return OCSVM(jnp.asarray(vectors), jnp.asarray(coefficients), jnp.asarray(rho), kernel)


def _check_arrays(vectors: np.ndarray, coefficients: np.ndarray, rho: np.ndarray) -> None:
    if vectors.ndim != 2 or coefficients.shape != vectors.shape[:1] or rho.shape != ():
        shapes = f"{vectors.shape}, {coefficients.shape} and {rho.shape}"
        raise ValueError(f"its arrays have shapes {shapes}, which do not fit together")
    dtypes = {vectors.dtype, coefficients.dtype, rho.dtype}
    if len(dtypes) > 1 or vectors.dtype not in (np.float32, np.float64):
        raise ValueError(f"its arrays hold {sorted(map(str, dtypes))}, not one of float32, float64")


def _describe(kernel: Any) -> dict[str, Any]:
    """A kernel as JSON: its name and its parameters, among which there may be a kernel."""
    names = [name for name, cls in _SAVED_KERNELS.items() if type(kernel) is cls]
    if not names:
        function = kernel.func if isinstance(kernel, partial) else kernel
        raise ValueError(
            f"the kernel is {getattr(function, '__name__', type(function).__name__)}; only "
            f"{sorted(_SAVED_KERNELS)} can be saved. Save the arrays of the model yourself and "
            "rebuild the kernel in code."
        )
    parameters = {f.name: getattr(kernel, f.name) for f in dataclasses.fields(kernel)}
    plain = {
        name: _describe(value) if name == "kernel" else np.asarray(value).tolist()
        for name, value in parameters.items()
    }
    return {"name": names[0], "parameters": plain}


def _rebuild(description: dict[str, Any], vectors: np.ndarray) -> Any:
    """The kernel of a description, its parameters in the dtype in which `vectors` are."""

    def parameter(name: str, value: Any) -> Any:
        if name == "kernel":
            return _rebuild(value, vectors)
        if name == "degree":
            return int(value)
        shape = vectors.shape[1:] if name == "scale" else ()
        array = np.asarray(value)
        if array.dtype.kind not in "if" or array.shape != shape:
            raise ValueError(f"{name} is {value!r}, not numbers of shape {shape}")
        return jnp.asarray(array, vectors.dtype)

    parameters = {k: parameter(k, value) for k, value in description["parameters"].items()}
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
      tol: bound on the KKT gap in units of K; by default that of `ocsvm_solve` for the dense solve
        and LIBSVM's (1e-3 / (nu * n) in this scale) beyond, but never below 20 eps of the dtype.
      max_rounds: bound on the rounds beyond 1,024 points.

    Returns:
      The model and the solution over all n points: look at its status.

    Raises:
      ValueError: on NaN or infinite points or kernel values, nu outside (0, 1], negative or
        all-zero weights, tol or max_rounds not positive, or shapes that do not fit.
    """
    x, share, w = _checked(x, nu, sample_weight, tol, max_rounds)
    kernel = rbf(resolve_gamma(gamma, x)) if kernel is None else _as_pytree(kernel)
    n = x.shape[0]
    if n <= _DENSE_POINTS:
        solution = _fit_dense(kernel, x, share, w, tol)
    else:
        if tol is None:
            tol = max(1e-3 / (float(nu) * n), 20 * float(jnp.finfo(x.dtype).eps))
        C = w / (share * jnp.sum(w))
        solution = _fit_large(kernel, x, C, jnp.asarray(tol, x.dtype), max_rounds)
    if solution.status == Status.INVALID:
        raise ValueError("the kernel gives NaN or infinite values on these points.")
    support = np.flatnonzero(np.asarray(solution.alpha) > 0)
    model = OCSVM(x[support], solution.alpha[support], solution.rho, kernel)
    return model, solution


def _checked(
    x: Any, nu: Any, sample_weight: Any, tol: Any, max_rounds: int
) -> tuple[Array, Array, Array]:
    """x, nu and the weights in one dtype; ValueError on what can not work."""
    x = as_float(x)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; ocsvm_fit takes points as rows, (n, d) with n >= 1."
        )
    if not np.all(np.isfinite(x)):
        raise ValueError("x holds NaN or infinite values; remove or impute those rows first.")
    nu = jnp.asarray(nu, x.dtype)
    if nu.ndim != 0:
        raise ValueError(f"nu has shape {nu.shape}; it is one number in (0, 1].")
    check_nu(nu)
    n = x.shape[0]
    w = jnp.ones(n, x.dtype) if sample_weight is None else jnp.asarray(sample_weight, x.dtype)
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; x has {n} points, so it must be ({n},)."
        )
    check_weights(np.asarray(w))
    if tol is not None and not float(tol) > 0:
        raise ValueError(f"tol is {float(tol)}; it must be positive, or None for the default.")
    if max_rounds < 1:
        raise ValueError(f"max_rounds is {max_rounds}; it must be at least 1.")
    return x, nu, w


def _as_pytree(kernel: Any) -> Any:
    """The kernel with every function that is a leaf of it made static: jit takes arrays only."""
    return jax.tree.map(lambda leaf: Partial(leaf) if callable(leaf) else leaf, kernel)


@partial(jax.jit, static_argnames="tol")
def _fit_dense(kernel: Any, x: Array, nu: Array, w: Array, tol: float | None) -> OCSVMSolution:
    return ocsvm_solve(gram(kernel, x), nu, sample_weight=w, tol=tol)


@partial(jax.jit, static_argnames="max_rounds")
def _fit_large(kernel: Any, x: Array, C: Array, tol: Array, max_rounds: int) -> OCSVMSolution:
    def columns(index: Array) -> Array:
        return gram(kernel, x, x[index])

    return solve_large(columns, C, tol=tol, working_set=_WORKING_SET, max_rounds=max_rounds)
