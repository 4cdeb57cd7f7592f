"""Checks of the arguments of a solve, made before anything is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ocsvm_jax.arrays.arguments import (
    as_float,
    as_numbers,
    check_real_number,
    check_tol,
    checked_max_steps,
    is_concrete,
)


def check_arguments(
    K: Any, nu: Any, sample_weight: Any, tol: Any, max_steps: int | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, int]:
    """Promotes to one dtype, fills in defaults, and raises on arguments known to be wrong.

    Args:
      K: (n, n) Gram matrix.
      nu: scalar in (0, 1].
      sample_weight: (n,) non-negative weights, or None.
      tol: bound on the gap, or None.
      max_steps: bound on the steps, or None.

    Returns:
      K, nu, the weights divided by the largest (see `normalized_weights`), the bound on the gap
      (negative asks for the default), and the bound on the steps.

    Raises:
      TypeError, ValueError: as `ocsvm_solve`.
    """
    # Before the conversion, which under jit turns even a plain number into a tracer.
    known_K, known_w = _if_known(K, "K"), _if_known(sample_weight, "sample_weight")
    K = as_float(K, "K")
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.shape[0] == 0:
        raise ValueError(
            f"K has shape {K.shape}; ocsvm_solve takes one square Gram matrix (n, n) with n >= 1. "
            "Build it with gram(kernel, x), and use jax.vmap for a batch of problems."
        )
    n = K.shape[0]
    nu = checked_nu(nu, K.dtype)
    if sample_weight is None:
        known_w, w = np.ones(n), jnp.ones(n, K.dtype)
    else:
        shape = jnp.shape(sample_weight if known_w is None else known_w)
        if shape != (n,):
            raise ValueError(
                f"sample_weight has shape {shape}; K has {n} points, so it must be ({n},)."
            )
        w = jnp.asarray(normalized_weights(sample_weight)).astype(K.dtype)
    if known_K is not None and known_w is not None:
        part = known_w > 0
        check_kernel_values(known_K[part][:, part], np.dtype(K.dtype))
    steps = 10_000 + 100 * n if max_steps is None else checked_max_steps(max_steps)
    check_tol(tol)
    # A negative number asks the iteration for its default.
    tol = jnp.asarray(-1.0 if tol is None else tol, K.dtype)
    return K, nu, w, tol, steps


def _if_known(x: Any, name: str) -> np.ndarray | None:
    """The value as NumPy array, or None if x is None or any part of it is being traced."""
    if x is None or not all(is_concrete(leaf) for leaf in jax.tree.leaves(x)):
        return None
    return np.asarray(as_numbers(x, name))


def check_kernel_values(K: np.ndarray, dtype: np.dtype) -> None:
    """Raises ValueError if K is not finite or would overflow or underflow in the dtype."""
    if not np.all(np.isfinite(K)):
        raise ValueError(
            "K holds NaN or infinite values; check the points and the kernel it was built from."
        )
    if K.size == 0 or K.dtype.kind not in "f":
        return
    limits, largest = np.finfo(dtype), np.max(np.abs(K))
    advice = "Scale K by a constant: alpha is the same, rho and the gap scale with it"
    if K.dtype.itemsize > dtype.itemsize:
        advice += ". Or enable JAX's float64, jax.config.update('jax_enable_x64', True)"
    if largest > limits.max:
        raise ValueError(
            f"K holds values up to {largest:.1e}; the solve is in {dtype}, whose largest number is "
            f"{limits.max:.1e}. {advice}."
        )
    # Processors flush numbers below the smallest normal one to 0. After a cast, differences in the
    # last digits of the largest entry must still be normal numbers.
    shrinks = K.dtype.itemsize > dtype.itemsize
    smallest = limits.tiny / limits.eps if shrinks else limits.tiny
    if 0 < largest < smallest:
        raise ValueError(
            f"the largest value of K is {largest:.1e}; the solve is in {dtype}, whose smallest "
            f"normal number is {limits.tiny:.1e}. {advice}."
        )


def checked_nu(nu: Any, dtype: Any) -> jax.Array:
    """nu in the dtype of a solve.

    A nu below the smallest normal number would be flushed to 0, so it is raised to that number:
    the bounds on alpha are then far above 1, where they have no effect.

    Raises:
      TypeError, ValueError: unless nu is one number, and in (0, 1] if its value is known.
    """
    if is_concrete(nu) and all(map(is_concrete, jax.tree.leaves(nu))):
        check_nu(nu)
        nu = max(float(nu), float(jnp.finfo(dtype).tiny))
    elif jnp.ndim(nu) != 0:
        _check_scalar_nu(jnp.shape(nu))
    return jnp.asarray(nu).astype(dtype)


def check_nu(nu: Any) -> None:
    """Raises TypeError or ValueError unless nu is one number with 0 < nu <= 1."""
    if isinstance(nu, (list, tuple)):
        nu = np.asarray(nu)
    check_real_number("nu", nu, "one number in (0, 1]")
    _check_scalar_nu(jnp.shape(nu))
    if not 0 < float(nu) <= 1:
        raise ValueError(
            f"nu is {float(nu)}; it must lie in (0, 1]: it bounds the share of points left outside."
        )


def _check_scalar_nu(shape: tuple[int, ...]) -> None:
    if shape != ():
        raise ValueError(
            f"nu has shape {shape}; it is one number in (0, 1]. Use jax.vmap for several."
        )


def normalized_weights(sample_weight: Any) -> np.ndarray | jax.Array:
    """Weights divided by the largest: a weight is a number of repetitions, up to a common factor.

    Known weights are checked and divided in NumPy's float64 before any cast, so that a common
    factor of 1e-300 to 1e300 changes nothing, even in float32. Traced weights are divided in their
    own dtype. The divisor is held constant in derivatives. They stay right to any order, since a
    function of the ratios alone is the same function of w and of w / divisor.

    Args:
      sample_weight: (n,) weights, non-negative and not all 0.

    Returns:
      (n,) weights in [0, 1]; NumPy float64, or traced. Invalid traced weights are returned as they
      are, and the solve ends as INVALID.

    Raises:
      TypeError: if the weights are not real numbers.
      ValueError: if known weights are negative, not finite or all 0.
    """
    known = _if_known(sample_weight, "sample_weight")
    if known is not None:
        check_weights(known)
        w = known.astype(np.float64)
        return w / np.max(w)
    w = as_float(sample_weight, "sample_weight")
    largest = lax.stop_gradient(jnp.max(w))
    return w / jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)


def check_weights(w: np.ndarray) -> None:
    """Raises ValueError unless the weights are finite, non-negative and not all zero."""
    if not np.all(np.isfinite(w)):
        raise ValueError("sample_weight holds NaN or infinite values.")
    if np.any(w < 0):
        raise ValueError(
            f"sample_weight holds {np.sum(w < 0)} negative values (smallest {w.min()}); "
            "weights are zero (the point takes no part) or positive."
        )
    if not np.any(w > 0):
        raise ValueError(
            "sample_weight is all zero: no point takes part, so there is nothing to solve."
        )
