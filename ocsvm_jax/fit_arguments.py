"""Checks and conversions of the arguments of `ocsvm_fit`, with errors before long work."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ocsvm_jax import forks
from ocsvm_jax.arrays.arguments import (
    as_float,
    as_numbers,
    check_kernel,
    check_tol,
    checked_max_steps,
    float_dtype,
    is_concrete,
)
from ocsvm_jax.arrays.casts import check_parameters, less_a_constant
from ocsvm_jax.arrays.points import fitted_points
from ocsvm_jax.arrays.summary import shown
from ocsvm_jax.kernels import (
    PairwiseKernel,
    Precomputed,
    is_shift_invariant,
    rbf,
    resolve_gamma,
)
from ocsvm_jax.solver.checks import check_kernel_values, checked_nu, normalized_weights


class FitArguments(NamedTuple):
    """The arguments of a fit in one float dtype.

    Attributes:
      x: (n, d) points, or the (n, n) Gram matrix.
      centre: (2, d) the centre subtracted from the points, see `OCSVM`, or None.
      kernel: a pytree of arrays.
      nu: () in (0, 1].
      weights: (n,) in [0, 1].
    """

    x: Float[Array, "n d"]
    centre: Float[np.ndarray, "2 d"] | None
    kernel: Any
    nu: Float[Array, ""]
    weights: Float[Array, " n"]


def checked_fit(x: Any, nu: Any, kernel: Any, gamma: Any, sample_weight: Any) -> FitArguments:
    """Checks and converts arguments of `ocsvm_fit`.

    Args:
      x: (n, d) points or the (n, n) Gram matrix.
      nu: in (0, 1].
      kernel: a function of two points, or None.
      gamma: for the default kernel.
      sample_weight: (n,) non-negative weights, or None.

    Raises:
      TypeError, ValueError: as `ocsvm_fit`.
    """
    forks.refuse("ocsvm_fit")
    _refuse_tracers(x, nu, kernel, gamma, sample_weight)
    x = _checked_points(x)
    w = _checked_weights(sample_weight, x.shape[0])
    if kernel is None:
        kernel = rbf(resolve_gamma(gamma, less_a_constant(x), w))
    kernel = _checked_kernel(kernel, x)
    if isinstance(kernel, Precomputed):
        part = w > 0
        check_kernel_values(np.asarray(x)[part][:, part], float_dtype(x.dtype))
        points, centre = as_float(x, "x"), None
    else:
        points, centre = fitted_points(x, is_shift_invariant(kernel))
    share = checked_nu(nu, points.dtype)
    return FitArguments(points, centre, kernel, share, jnp.asarray(w, points.dtype))


def checked_limits(tol: Any, max_steps: Any) -> tuple[float | None, int | None]:
    """The bounds on the gap and on the steps; raises as `ocsvm_fit`."""
    check_tol(tol)
    steps = None if max_steps is None else checked_max_steps(max_steps)
    return None if tol is None else float(tol), steps


def _refuse_tracers(*arguments: Any) -> None:
    if not all(map(is_concrete, jax.tree.leaves(arguments))):
        raise TypeError(
            "ocsvm_fit was called inside jit, vmap or grad. The number of support vectors is a "
            "shape, so it only works outside. Inside, use "
            "ocsvm_solve(gram(kernel, x), nu) and decision_function, which are differentiable."
        )


def _checked_points(x: Any) -> np.ndarray | Array:
    """x in its own dtype, integers on the host; raises if it cannot be fitted."""
    x = as_numbers(x, "x")
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else np.asarray(x)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(
            f"x has shape {x.shape}; ocsvm_fit takes points as rows, (n, d) with n >= 1."
        )
    if x.dtype.kind not in "iub" and not np.all(np.isfinite(x)):
        raise ValueError("x holds NaN or infinite values; remove or impute those rows first.")
    return x


def _checked_weights(sample_weight: Any, n: int) -> Float[np.ndarray, " n"]:
    if sample_weight is None:
        return np.ones(n)
    shape = as_numbers(sample_weight, "sample_weight").shape
    if shape != (n,):
        raise ValueError(
            f"sample_weight has shape {shape}; x has {n} points, so it must be ({n},)."
        )
    return np.asarray(normalized_weights(sample_weight))


def _checked_kernel(kernel: Any, x: np.ndarray | Array) -> Any:
    """The kernel, with functions among its leaves made static, since jit takes arrays only."""
    check_kernel(kernel)
    if isinstance(kernel, Precomputed):
        if x.shape[0] != x.shape[1]:
            raise ValueError(
                f"x has shape {x.shape}; with the kernel precomputed() it must be the square Gram "
                "matrix of the points."
            )
        return Precomputed(x.shape[0])
    if not isinstance(kernel, PairwiseKernel):
        point = as_float(x[0], "x")
        value = kernel(point, point)
        _refuse_tracers(value)  # from the closure of the function
        if not isinstance(value, jax.Array | np.ndarray | np.number) or value.shape != ():
            raise ValueError(
                f"the kernel maps two points of shape {point.shape} to {shown(value)}; it takes "
                "two points and returns one number. For a matrix of values, see precomputed()."
            )
    check_parameters(kernel, float_dtype(x.dtype))
    return jax.tree.map(lambda leaf: Partial(leaf) if callable(leaf) else leaf, kernel)
