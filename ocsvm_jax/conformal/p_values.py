"""`conformal_p_values`: how rare a decision value this low is among normal points."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_numbers, float_dtype
from ocsvm_jax.conformal.values import check_not_nan, checked, float64, on_host, rounded


def conformal_p_values(
    f_calibration: Num[ArrayLike, " n"], f: Num[ArrayLike, "*shape"], key: Array | None = None
) -> Float[Array, "*shape"] | Float[np.ndarray, "*shape"]:
    """The p-value of each point for "this point is normal".

    p = (1 + number of calibration values <= f) / (n + 1). For a normal point exchangeable with the
    calibration points, P(p <= t) <= t for every t; ties make p larger, never smaller. With a key,
    p = (number below f + U (1 + number equal to f)) / (n + 1) with U uniform on (0, 1], which is
    exactly uniform on (0, 1], with or without ties. Both hold on average over calibration sets.

    To select anomalies among many points, see `benjamini_hochberg`.

    Args:
      f_calibration: (n,) decision values of normal points that the model was not fitted on.
      f: decision values, of any shape; lower is more anomalous.
      key: a random key for the randomised p-value.

    Returns:
      p-values in (0, 1] with the shape of f: in NumPy's float64 if either argument is a NumPy array
      (or a list, or holds integers), else in the wider dtype of the two. Values of different dtypes
      are compared exactly. Without a key no p-value is below 1 / (n + 1). Under a transformation,
      where NaN cannot be refused, NaN gives NaN.

    Raises:
      ValueError: if f_calibration is empty or not one-dimensional, or if a value is NaN.
    """
    f_calibration = checked("f_calibration", f_calibration)
    f = as_numbers(f, "f")
    check_not_nan("f", f)
    if on_host(f_calibration, f):
        return _p_values(np, float64(f_calibration), float64(f), key)
    dtype = np.promote_types(float_dtype(f_calibration.dtype), float_dtype(f.dtype))
    # Known values in a wider dtype are rounded in the direction that keeps the comparison.
    ordered, values = rounded(f_calibration, dtype, np.inf), rounded(f, dtype, -np.inf)
    below = rounded(f_calibration, dtype, -np.inf), rounded(f, dtype, np.inf)
    return _p_values(jnp, ordered, values, key, below)


def _p_values(xp: Any, ordered: Any, values: Any, key: Array | None, for_below: Any = None) -> Any:
    """The p-values, with xp NumPy or JAX.

    `for_below` holds the calibration and decision values to count those below with, if they differ
    from `ordered` and `values`.
    """
    ordered, n = xp.sort(ordered), ordered.shape[0]
    at_most = xp.searchsorted(ordered, values, side="right")
    if key is None:
        # From a table, since a compiled division by n + 1 multiplies by a rounded inverse, and p
        # could exceed an alpha that it should equal. NumPy rounds as Python does.
        p = xp.asarray(np.arange(1, n + 2) / (n + 1), values.dtype)[at_most]
    else:
        calibration, f = (ordered, values) if for_below is None else for_below
        below = xp.searchsorted(xp.sort(calibration), f, side="left")
        u = 1 - xp.asarray(jax.random.uniform(key, values.shape, float_dtype(values.dtype)))
        p = (below.astype(values.dtype) + u * (1 + at_most - below).astype(values.dtype)) / (n + 1)
    # Sorting puts NaN last.
    return xp.where(xp.isnan(values) | xp.isnan(ordered[-1]), xp.nan, p)
