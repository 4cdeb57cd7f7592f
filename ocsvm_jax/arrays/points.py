"""Points on their way into the dtype of a model, and what the cast would lose of them.

float32 holds 1.7e9 to 128, so time stamps of one minute become all alike in it. NumPy's points are
therefore moved near 0 in float64, before the cast, where the kernel is a function of differences
and the cast would cost digits. Elsewhere a `PrecisionWarning` says by how much it moved them.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Num

from ocsvm_jax.arrays.arguments import as_float, float_dtype, is_concrete
from ocsvm_jax.arrays.summary import shown

# In units of a column's spread: from here on the points are centred, and from here on a cast that
# could not be helped is worth a warning.
_CENTRED, _NOTICEABLE = 1e-5, 1e-3
_LITTLE = 2.5e-7  # in units of the standard deviation
_SAMPLE = 4096  # rows that say where a column lies
_NEAR = 100  # in units of the spread: queries farther away are not expected to be exact


class PrecisionWarning(UserWarning):
    """The cast to the dtype of a model has moved the points, or its numbers, noticeably."""


def fitted_points(
    x: np.ndarray | Array, shift_invariant: bool
) -> tuple[Float[Array, "n d"], Float[np.ndarray, "2 d"] | None]:
    """Finite points in one float dtype, and the centre that was subtracted, if any.

    Args:
      x: (n, d) points.
      shift_invariant: whether a kernel of differences alone is all that will see them.

    Warns:
      PrecisionWarning: where the kernel allows no centre and the cast moves the points by more
        than 1e-3 of the spread of a column.

    Raises:
      ValueError: if a value is beyond the dtype.
    """
    dtype = float_dtype(x.dtype)
    if x.dtype == dtype or x.dtype.itemsize < 4:
        return as_float(x, "x"), None
    x = np.asarray(x)
    values, centre = centred(x, dtype, shift_invariant, stacklevel=6)
    return jnp.asarray(values), centre


def centred(
    x: Num[np.ndarray, "n d"], dtype: np.dtype, allowed: bool, *, stacklevel: int
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "2 d"] | None]:
    """x in the dtype, less a centre if allowed and worth it; else a warning if that is worth it."""
    plain = cast("x", x, dtype)
    middle, spread = _location(x)
    moved = np.abs(_difference(x, plain.astype(np.float64)))
    if not allowed or not np.any(_relative(np.max(moved, axis=0), spread) > _CENTRED):
        _warn(moved, spread, dtype, stacklevel=stacklevel)
        return plain, None
    centre = two_parts(middle, dtype)
    values = subtract_centre(x, centre)
    _warn(np.abs(values - values.astype(dtype)), spread, dtype, stacklevel=stacklevel)
    return values.astype(dtype), centre


def query_points(
    x: np.ndarray | Array,
    support_vectors: Float[Array, "m d"],
    centre: Float[Array | np.ndarray, "2 d"] | None,
) -> Float[Array, "q d"]:
    """Queries in the dtype and the coordinates of a model: its support vectors and its centre.

    Warns:
      PrecisionWarning: where the cast moves queries near the support vectors by more than 1e-3 of
        the spread of a column of these.

    Raises:
      ValueError: if a value is beyond the dtype.
    """
    dtype = support_vectors.dtype
    known = is_concrete(x) and is_concrete(support_vectors) and is_concrete(centre)
    whole = not jnp.issubdtype(x.dtype, jnp.floating)
    if not known or (isinstance(x, Array) and not whole):
        traced = as_float(x, "x")
        if centre is not None:
            high, low = jnp.asarray(centre, traced.dtype)[:, None, :]
            traced = (traced - high) - low
        return traced.astype(dtype)
    x = np.asarray(x)
    exact = _float64(x) if centre is None else subtract_centre(x, np.asarray(centre))
    values = cast("x", exact, dtype)
    moved = np.abs(_difference(x, values.astype(np.float64)) if centre is None else values - exact)
    vectors = np.asarray(support_vectors)
    # Medians take longer than the score of a row: not where a look shows that nothing is lost.
    if np.any(moved > _LITTLE * np.std(vectors, axis=0)):
        middle, spread = _location(vectors)
        moved = np.where(np.abs(exact - middle) <= _NEAR * spread, moved, 0)
        _warn(moved, spread, dtype, share=1, stacklevel=6)
    return jnp.asarray(values)


def pairs_in_one_dtype(
    x: Num[np.ndarray | Array, "n d"],
    y: Num[np.ndarray | Array, "m d"] | None,
    shift_invariant: bool,
) -> tuple[Float[Array, "n d"], Float[Array, "m d"] | None]:
    """Two sets of points in the float dtype of the first, less one centre where that keeps digits.

    Warns:
      PrecisionWarning: where there may be no centre and the cast moves them noticeably.
    """
    if x.size == 0 or (isinstance(x, np.ndarray) and not np.all(np.isfinite(x))):
        x = as_float(x, "x")
    x, centre = fitted_points(x, shift_invariant)
    if y is None:
        return x, None
    if x.size == 0 or (isinstance(y, np.ndarray) and not np.all(np.isfinite(y))):
        y = as_float(y, "y")
    return x, query_points(y, x, centre)


def warn_of_cast(x: Num[np.ndarray, "n d"], dtype: Any, *, stacklevel: int) -> None:
    """Warns if a cast moves points noticeably, in the look of standard deviations at first.

    There may be a million columns, of which medians take long.
    """
    moved = np.abs(_difference(x, cast("x", x, dtype).astype(np.float64)))
    doubtful = np.any(moved > _LITTLE * np.std(x, axis=0, dtype=np.float64), axis=0)
    if np.any(doubtful):
        x, moved = x[:, doubtful], moved[:, doubtful]
        _warn(moved, _location(x)[1], dtype, stacklevel=stacklevel)


def less_a_constant(x: np.ndarray | Array) -> np.ndarray | Array:
    """64-bit integers less one of them, in float64, which keeps the variance; others unchanged."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return x
    return _difference(x, np.float64(x[0, 0]))


def cast(name: str, x: np.ndarray, dtype: Any) -> np.ndarray:
    """x in the dtype; ValueError where a finite value is beyond it."""
    with np.errstate(over="ignore", under="ignore"):
        values = x.astype(dtype)
    beyond = np.isinf(values) & np.isfinite(x)
    if np.any(beyond):
        raise ValueError(
            f"{name} holds values up to {np.max(np.abs(_float64(x))):.1e}; {values.dtype}, in "
            f"which the computation is, ends at {np.finfo(dtype).max:.1e}. Scale the points, or "
            "enable JAX's float64, jax.config.update('jax_enable_x64', True)."
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
            f"a parameter of the kernel is {shown(value)}; {dtype}, in which the computation is, "
            f"holds {limits.tiny:.1e} to {limits.max:.1e}. Scale the points, or enable JAX's "
            "float64, jax.config.update('jax_enable_x64', True)."
        )


def two_parts(values: Float[np.ndarray, " d"], dtype: Any) -> Float[np.ndarray, "2 d"]:
    """Numbers of float64 as sums of two of the dtype: float32 alone would hold too few digits."""
    high = values.astype(dtype)
    return np.stack([high, (values - high.astype(np.float64)).astype(dtype)])


def subtract_centre(
    x: Num[np.ndarray, "n d"], centre: Float[np.ndarray, "2 d"]
) -> Float[np.ndarray, "n d"]:
    """x less the centre, in float64, from the digits that x came with."""
    high, low = centre.astype(np.float64)
    return _difference(x, high) - low


def _difference(x: np.ndarray, y: np.ndarray | np.float64) -> np.ndarray:
    """x - y in float64, rounded once, also where 64-bit integers x have more digits than that."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        half = x.dtype.type(32)
        high, low = x >> half, x & x.dtype.type(0xFFFFFFFF)
        y_high = np.floor(y / 2.0**32)
        y_low = y - y_high * 2.0**32
        return (high.astype(np.float64) - y_high) * 2.0**32 + (low.astype(np.float64) - y_low)
    return _float64(x - y) if x.dtype.itemsize > 8 else _float64(x) - y


def _float64(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _location(x: Num[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """The median of each column and its spread: the median deviation, or the standard deviation.

    Medians, so that one far value (a code for missing) says nothing of the others. The standard
    deviation takes over where more than half of a column is one value.
    """
    sample = _float64(x[:: -(-len(x) // _SAMPLE)])
    middle = np.median(sample, axis=0)
    deviation = np.median(np.abs(sample - middle), axis=0)
    if np.all(deviation > 0):
        return middle, deviation
    return middle, np.where(deviation > 0, deviation, np.std(_difference(x, middle), axis=0))


def _relative(moved: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """In units of the spread; 0 for a constant column, which all points share."""
    return np.where(spread > 0, moved / np.where(spread > 0, spread, 1), 0)


def _warn(
    moved: Float[np.ndarray, "n d"],
    spread: np.ndarray,
    dtype: Any,
    *,
    share: float = 0.99,
    stacklevel: int,
) -> None:
    """Warns if more rows than the share leaves out are moved noticeably.

    Those few may be far values, whose own digits decide nothing.
    """
    if len(moved) == 0 or not np.any(_relative(np.max(moved, axis=0), spread) > _NOTICEABLE):
        return
    by = _relative(np.quantile(moved, share, axis=0, method="lower"), spread)
    column = int(np.argmax(by))
    if by[column] > _NOTICEABLE:
        warnings.warn(
            f"the cast to {np.dtype(dtype)} moves column {column} of the points by up to "
            f"{np.max(moved[:, column]):.2g}, {by[column]:.2g} times its spread "
            f"({spread[column]:.2g}). Subtract from the column a number near its values, in "
            "float64 and from all points alike, or enable JAX's float64, "
            "jax.config.update('jax_enable_x64', True).",
            PrecisionWarning,
            stacklevel=stacklevel,
        )
