"""Casts points to the dtype of a model without losing the digits that matter.

In float32, numbers near 1.7e9 are 128 apart, so all time stamps within a minute become equal. If
the cast would cost digits and the kernel is a function of differences, NumPy points are therefore
moved near 0 in float64 before the cast. Otherwise a `PrecisionWarning` says how far the cast moved
them.
"""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Num

from ocsvm_jax.arrays.arguments import as_float, float_dtype, is_concrete
from ocsvm_jax.arrays.casts import cast, difference, float64, subtract_centre, two_parts

# Movements by the cast, in units of a column's spread, above which points are centred, and above
# which a movement that cannot be avoided is worth a warning.
_CENTRED, _NOTICEABLE = 1e-5, 1e-3
_LITTLE = 2.5e-7  # in units of the standard deviation
_SAMPLE = 4096  # number of rows from which the location of a column is computed
_NEAR = 100  # in units of the spread; queries farther away are not expected to be exact


class PrecisionWarning(UserWarning):
    """The cast to the dtype of a model has moved points, or numbers of the model, noticeably."""


def fitted_points(
    x: np.ndarray | Array, shift_invariant: bool
) -> tuple[Float[Array, "n d"], Float[np.ndarray, "2 d"] | None]:
    """Finite points in one float dtype, and the centre that was subtracted, if any.

    Args:
      x: (n, d) points.
      shift_invariant: whether the kernel depends on differences of points alone.

    Warns:
      PrecisionWarning: if the kernel allows no centre and the cast moves the points by more than
        1e-3 of the spread of a column.

    Raises:
      ValueError: if a value is out of the range of the dtype.
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
    """x in the dtype, minus a centre if that is allowed and worthwhile; warns if digits are lost.

    Args:
      x: (n, d) finite points.
      dtype: the float dtype to cast to.
      allowed: whether a centre may be subtracted.
      stacklevel: of the warning.

    Returns:
      The points, and the centre as two parts (2, d) whose sum was subtracted, or None.
    """
    plain = cast("x", x, dtype)
    middle, spread = _location(x)
    moved = np.abs(difference(x, plain.astype(np.float64)))
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
    """Queries in the dtype and the coordinates of a model.

    Args:
      x: (q, d) queries.
      support_vectors: (m, d) support vectors of the model.
      centre: (2, d) centre of the model, or None.

    Warns:
      PrecisionWarning: if the cast moves queries near the support vectors by more than 1e-3 of the
        spread of a column of the support vectors.

    Raises:
      ValueError: if a value is out of the range of the dtype.
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
    exact = float64(x) if centre is None else subtract_centre(x, np.asarray(centre))
    values = cast("x", exact, dtype)
    moved = np.abs(difference(x, values.astype(np.float64)) if centre is None else values - exact)
    vectors = np.asarray(support_vectors)
    # Medians take longer than scoring a row, so they are only computed if digits may be lost.
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
    """Two sets of points in the float dtype of the first, minus a centre if that keeps digits.

    Args:
      x: (n, d) points.
      y: (m, d) points, or None.
      shift_invariant: whether the kernel depends on differences of points alone.

    Warns:
      PrecisionWarning: if no centre is allowed and the cast moves the points noticeably.
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
    """Warns if a cast moves points noticeably.

    Columns are compared with their standard deviations first, since medians are slow and there may
    be a million columns.

    Args:
      x: (n, d) finite points.
      dtype: the float dtype they are cast to.
      stacklevel: of the warning.
    """
    moved = np.abs(difference(x, cast("x", x, dtype).astype(np.float64)))
    doubtful = np.any(moved > _LITTLE * np.std(x, axis=0, dtype=np.float64), axis=0)
    if np.any(doubtful):
        x, moved = x[:, doubtful], moved[:, doubtful]
        _warn(moved, _location(x)[1], dtype, stacklevel=stacklevel)


def _location(x: Num[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """The median of each column and its spread: the median deviation, or the standard deviation.

    Medians are used so that one far value (a code for missing, say) has no effect. The standard
    deviation replaces the median deviation if more than half of a column is one value.
    """
    sample = float64(x[:: -(-len(x) // _SAMPLE)])
    middle = np.median(sample, axis=0)
    deviation = np.median(np.abs(sample - middle), axis=0)
    if np.all(deviation > 0):
        return middle, deviation
    return middle, np.where(deviation > 0, deviation, np.std(difference(x, middle), axis=0))


def _relative(moved: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Movements in units of the spread; 0 for a constant column, in which all points agree."""
    return np.where(spread > 0, moved / np.where(spread > 0, spread, 1), 0)


def _warn(
    moved: Float[np.ndarray, "n d"],
    spread: np.ndarray,
    dtype: Any,
    *,
    share: float = 0.99,
    stacklevel: int,
) -> None:
    """Warns if the given quantile of the movements, or all with share 1, is noticeable.

    The few rows above the quantile may be far values, whose last digits do not matter.
    """
    if len(moved) == 0 or not np.any(_relative(np.max(moved, axis=0), spread) > _NOTICEABLE):
        return
    by = _relative(np.quantile(moved, share, axis=0, method="lower"), spread)
    column = int(np.argmax(by))
    if by[column] > _NOTICEABLE:
        warnings.warn(
            f"the cast to {np.dtype(dtype)} moves column {column} of the points by up to "
            f"{np.max(moved[:, column]):.2g}, {by[column]:.2g} times its spread "
            f"({spread[column]:.2g}). Subtract a number near its values from the column, in "
            "float64 and the same from all points, or enable JAX's float64, "
            "jax.config.update('jax_enable_x64', True).",
            PrecisionWarning,
            stacklevel=stacklevel,
        )
