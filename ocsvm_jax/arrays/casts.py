"""Casts that refuse what the dtype cannot hold, and differences that are rounded only once."""

from typing import Any

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, Num

from ocsvm_jax.arrays.arguments import is_concrete
from ocsvm_jax.arrays.summary import shown


def less_a_constant(x: np.ndarray | Array) -> np.ndarray | Array:
    """Subtracts one of them from 64-bit integers, in float64; other dtypes are unchanged.

    This keeps the variance, and the digits that float64 would lose.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return x
    return difference(x, np.float64(x[0, 0]))


def cast(name: str, x: np.ndarray, dtype: Any) -> np.ndarray:
    """x in the dtype; raises ValueError if a finite value is out of its range.

    Args:
      name: name of the array, for the message.
      x: numbers.
      dtype: a float dtype.
    """
    with np.errstate(over="ignore", under="ignore"):
        values = x.astype(dtype)
    beyond = np.isinf(values) & np.isfinite(x)
    if np.any(beyond):
        raise ValueError(
            f"{name} holds values up to {np.max(np.abs(float64(x))):.1e}; the computation is in "
            f"{values.dtype}, whose largest number is {np.finfo(dtype).max:.1e}. Scale the points, "
            "or enable JAX's float64, jax.config.update('jax_enable_x64', True)."
        )
    return values


def check_parameters(kernel: Any, dtype: np.dtype) -> None:
    """Raises ValueError if a parameter of the kernel is out of the range of the dtype."""
    for value in jax.tree.leaves(kernel):
        if not callable(value) and is_concrete(value):
            check_parameter(np.asarray(value), dtype)


def check_parameter(value: np.ndarray, dtype: np.dtype) -> None:
    """Raises ValueError if numbers that are not 0 would be cast to 0 or to infinity."""
    size, limits = np.abs(value[value != 0]), np.finfo(dtype)
    if size.size and not (limits.tiny <= np.min(size) and np.max(size) <= limits.max):
        raise ValueError(
            f"a parameter of the kernel is {shown(value)}; the computation is in {dtype}, which "
            f"holds {limits.tiny:.1e} to {limits.max:.1e}. Scale the points, or enable JAX's "
            "float64, jax.config.update('jax_enable_x64', True)."
        )


def two_parts(values: Float[np.ndarray, " d"], dtype: Any) -> Float[np.ndarray, "2 d"]:
    """float64 values as sums of two numbers of the dtype; one float32 would hold too few digits."""
    high = values.astype(dtype)
    return np.stack([high, (values - high.astype(np.float64)).astype(dtype)])


def subtract_centre(
    x: Num[np.ndarray, "n d"], centre: Float[np.ndarray, "2 d"]
) -> Float[np.ndarray, "n d"]:
    """x minus the centre, in float64, from all digits of x."""
    high, low = centre.astype(np.float64)
    return difference(x, high) - low


def difference(x: np.ndarray, y: np.ndarray | np.float64) -> np.ndarray:
    """x - y in float64, rounded once, even if x holds 64-bit integers with more digits."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        half = x.dtype.type(32)
        high, low = x >> half, x & x.dtype.type(0xFFFFFFFF)
        y_high = np.floor(y / 2.0**32)
        y_low = y - y_high * 2.0**32
        return (high.astype(np.float64) - y_high) * 2.0**32 + (low.astype(np.float64) - y_low)
    return float64(x - y) if x.dtype.itemsize > 8 else float64(x) - y


def float64(x: np.ndarray) -> np.ndarray:
    """x in float64."""
    return x.astype(np.float64)
