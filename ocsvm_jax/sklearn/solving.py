"""Solves the duals of the estimators: chooses the solver and the form of the points."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse

from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import Precomputed, gram, precomputed
from ocsvm_jax.sklearn.accuracy import Request, Solved, Values, as_solved, asked_gap
from ocsvm_jax.sklearn.host_kernels import (
    DENSE_DIMENSIONS,
    dense,
    has_host_form,
    host_diagonal,
    host_gram,
    host_square,
)
from ocsvm_jax.sklearn.scoring import fits_the_host, float64_enabled
from ocsvm_jax.solver import OCSVMSolution, Status, ocsvm_solve
from ocsvm_jax.solver.solution import ConvergenceWarning

# The solver compiles for seconds once per size and solves in milliseconds, so small problems are
# filled up to one of these sizes with points of weight 0. Larger ones use ocsvm_fit, which needs no
# Gram matrix.
_SIZES = (256, 1024)


def solve(kernel: Any, x: Any, request: Request) -> tuple[Solved, float]:
    """Solves the dual, and returns the solution and the gap that was asked for.

    Up to 1,024 points the first attempt is as exact as the dtype allows. The dual is solved a
    second time if the result is less exact than `tol` asks for, or if the kernel turns out to vary
    by less than 1, which an absolute tolerance presupposes.

    Args:
      kernel: a kernel of two points, or `precomputed()`.
      x: (n, d) points, dense or CSR, or an (n, n) Gram matrix.
      request: the settings of the solve.

    Raises:
      ValueError: if the kernel is not finite on these points.
    """
    kernel, x = _in_memory(kernel, x)
    # Below this nu no alpha reaches its bound, and 1 / nu would overflow.
    smallest = float(np.finfo(request.dtype).tiny / np.finfo(request.dtype).eps)
    request = request._replace(nu=max(request.nu, smallest))
    if x.shape[0] <= _SIZES[-1]:
        attempt = partial(_solve_small, kernel, _small_gram(kernel, x, request.dtype), x, request)
    else:
        attempt = partial(_solve_large, kernel, dense(x).astype(request.dtype), request)
    solved = attempt(None)
    asked = asked_gap(solved, request)
    if solved.status == Status.CONVERGED and solved.gap > asked:
        again = attempt(asked)
        solved = min(again, solved, key=lambda s: s.gap)
        asked = asked_gap(solved, request)
    return solved, asked


def _in_memory(kernel: Any, x: Any) -> tuple[Any, Any]:
    """Dense points; sparse points of many dimensions stay sparse or become a Gram matrix."""
    if not sparse.issparse(x):
        return kernel, x
    n, d = x.shape
    if isinstance(kernel, Precomputed) or d <= DENSE_DIMENSIONS or not has_host_form(kernel):
        return kernel, dense(x)
    if n <= _SIZES[-1] or n >= d:
        return kernel, x
    return precomputed(), host_square(kernel, x)


def _small_gram(kernel: Any, x: Any, dtype: np.dtype) -> Float[np.ndarray, "size size"]:
    """K, filled up to one of a few sizes."""
    n, d = x.shape
    size = min(s for s in _SIZES if s >= n)
    if isinstance(kernel, Precomputed):
        K = x
    elif sparse.issparse(x) or fits_the_host(kernel, n, n, d):
        K = host_square(kernel, x)
    else:
        # Filled up with copies of points, since kernels may centre the points they are given.
        with float64_enabled():
            return np.asarray(_gram(kernel, jnp.asarray(np.resize(x, (size, d)).astype(dtype))))
    with np.errstate(over="ignore"):
        return np.pad(K.astype(dtype), (0, size - n))


_gram = jax.jit(gram)


def _solve_small(
    kernel: Any, K: Float[np.ndarray, "size size"], x: Any, request: Request, tol: float | None
) -> Solved:
    n, size = x.shape[0], K.shape[0]
    w = np.pad(request.weights, (0, size - n)).astype(request.dtype)
    with float64_enabled():
        nu = jnp.asarray(request.nu, K.dtype)
        bound = None if tol is None else jnp.asarray(tol, K.dtype)
        solution = _solve(jnp.asarray(K), nu, jnp.asarray(w), bound, request.max_steps)
        status = int(solution.status)
    if status == Status.INVALID:
        raise ValueError("the kernel gives NaN or infinite values on these points.")
    alpha = np.asarray(solution.alpha)
    support = np.flatnonzero(alpha > 0)
    values = Values(np.diagonal(K)[support], lambda rows: K[support[rows][:, None], support])
    return as_solved(support, alpha[support], values, solution.rho, solution, request)


# Separate from the kernel, so that it is compiled once for all kernels and dimensions.
@partial(jax.jit, static_argnames="max_steps")
def _solve(
    K: Float[Array, "n n"],
    nu: Float[Array, ""],
    w: Float[Array, " n"],
    tol: Float[Array, ""] | None,
    max_steps: int,
) -> OCSVMSolution:
    return ocsvm_solve(K, nu, sample_weight=w, tol=tol, max_steps=max_steps)


def _solve_large(
    kernel: Any, x: Float[np.ndarray, "n d"], request: Request, tol: float | None
) -> Solved:
    # Not below the rounding error of a kernel of size 1.
    tol = max(request.tol, 4 * float(np.finfo(request.dtype).eps)) if tol is None else tol
    with float64_enabled(), warnings.catch_warnings():
        # The estimator itself warns, relative to its own tolerance.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ocsvm_fit(
            jnp.asarray(x),
            request.nu,
            kernel,
            sample_weight=jnp.asarray(request.weights.astype(request.dtype)),
            tol=tol,
            max_steps=request.max_steps,
        )
        assert model.info is not None
        support, alpha = np.asarray(model.info.support), np.asarray(model.coefficients)
        values = _values_at(kernel, x, support)
        return as_solved(support, alpha, values, model.rho, model.info, request)


def _values_at(kernel: Any, x: Float[np.ndarray, "n d"], support: Int[np.ndarray, " m"]) -> Values:
    if isinstance(kernel, Precomputed):
        return Values(x[support, support], lambda rows: x[support[rows][:, None], support])
    points = x[support]
    if has_host_form(kernel):
        return Values(host_diagonal(kernel, points), lambda i: host_gram(kernel, points[i], points))
    # The Cauchy-Schwarz bound, since exact values would take one more program to compile.
    diagonal = np.asarray(_diagonal(kernel, jnp.asarray(x))[support])
    roots = np.sqrt(np.abs(diagonal))
    return Values(diagonal, lambda i: roots[i][:, None] * roots[None, :])


@jax.jit
def _diagonal(kernel: Any, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return jax.vmap(kernel)(x, x)
