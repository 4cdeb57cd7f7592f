"""Decision values: whether NumPy or JAX computes with them, and how they are cast safely."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ocsvm_jax.arrays.arguments import (
    as_float,
    as_numbers,
    check_real_number,
    float_dtype,
    is_concrete,
)


def round_down(value: Any, dtype: Any) -> Any:
    """The largest number of a dtype that is at most the value; a threshold keeps its rate so."""
    if not is_concrete(value):
        cast = value.astype(dtype)
        return jnp.where(cast.astype(value.dtype) > value, jnp.nextafter(cast, -jnp.inf), cast)
    return _toward(np.asarray(value), dtype, -np.inf)[()]


def _toward(values: np.ndarray, dtype: Any, direction: float) -> np.ndarray:
    """The nearest number of the dtype in the given direction (-inf or inf), or the value itself."""
    with np.errstate(over="ignore", under="ignore"):
        cast = values.astype(dtype)
        back = cast.astype(values.dtype)
        wrong = (back > values) if direction < 0 else (back < values)
        return np.where(wrong, np.nextafter(cast, np.asarray(direction, dtype)), cast)


def on_host(*values: np.ndarray | Array) -> bool:
    """Whether to compute in NumPy.

    That is so if all values are known and at least one is a NumPy array, holds integers, or would
    be rounded by JAX.
    """

    def is_of_numpy(v: np.ndarray | Array) -> bool:
        exact = jnp.issubdtype(v.dtype, jnp.floating)
        exact = exact and float_dtype(v.dtype).itemsize >= v.dtype.itemsize
        return isinstance(v, np.ndarray) or not exact

    return all(map(is_concrete, values)) and any(map(is_of_numpy, values))


def float64(values: np.ndarray | Array) -> np.ndarray:
    """The values in NumPy's float64."""
    return np.asarray(values).astype(np.float64)


def rounded(values: np.ndarray | Array, dtype: Any, direction: float) -> Array:
    """The values in a JAX dtype; known values are rounded in the given direction only.

    Args:
      values: numbers.
      dtype: the float dtype of the result.
      direction: -inf or inf.
    """
    if isinstance(values, np.ndarray):
        return jnp.asarray(_toward(float64(values), np.dtype(dtype), direction))
    return as_float(values).astype(dtype)


def checked(name: str, values: Any) -> np.ndarray | Array:
    """The calibration values as an array; raises ValueError unless they are (n,) with n >= 1."""
    values = as_numbers(values, name)
    if values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(
            f"{name} has shape {values.shape}; it takes one decision value per calibration point, "
            "(n,) with n >= 1."
        )
    check_not_nan(name, values)
    return values


def check_not_nan(name: str, values: np.ndarray | Array) -> None:
    """Raises ValueError if known values contain NaN."""
    if is_concrete(values) and np.any(np.isnan(values)):
        raise ValueError(f"{name} holds {int(np.sum(np.isnan(values)))} NaN; remove them first.")


def check_in_unit_interval(name: str, value: float) -> None:
    """Raises TypeError or ValueError unless the value is a number with 0 < value < 1."""
    check_real_number(name, value, "one number in (0, 1)")
    if not 0 < float(value) < 1:
        raise ValueError(f"{name} is {value}; it must lie in (0, 1).")
