"""`conformal_threshold`: the decision value below which to flag, for a wanted false-alarm rate."""

import bisect
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_float
from ocsvm_jax.conformal.values import (
    check_in_unit_interval,
    checked,
    float64,
    on_host,
    round_down,
)


def conformal_threshold(
    f_calibration: Num[ArrayLike, " n"],
    alpha: float,
    *,
    confidence: float | None = None,
    dtype: Any = None,
) -> Float[Array, ""] | np.floating:
    """The threshold below which to flag, `f < threshold`, for a wanted false-alarm rate.

    It is the k-th lowest calibration value, and a normal point falls below it with probability at
    most k / (n + 1). By default k is the largest with k / (n + 1) <= alpha. The flagged points are
    then exactly those with `conformal_p_values(f_calibration, f) <= alpha`, and the rate is at most
    alpha on average over calibration sets.

    For one given calibration set of independent points, the rate is Beta(k, n + 1 - k) distributed
    (or smaller, with ties; Vovk 2012): around alpha, as often above as below. With a confidence, k
    is the largest for which the rate is at most alpha with that probability.

    Args:
      f_calibration: (n,) decision values of normal points that the model was not fitted on.
      alpha: the wanted false-alarm rate, in (0, 1). It cannot be traced, since it determines a
        rank.
      confidence: share of calibration sets, in (0, 1), for which the rate is at most alpha.
      dtype: None, or a dtype with fewer digits for the threshold, such as np.float32 for
        `ocsvm_jax.export`. The threshold is rounded down, so that a value equal to it is never
        flagged. Calibrate on scores of the same function that will score new points.

    Returns:
      () threshold, one of the calibration values: in NumPy's float64 if f_calibration is a NumPy
      array (or a list, or holds integers), else in its own dtype. NaN if, under a transformation, a
      calibration value is NaN.

    Raises:
      ValueError: if alpha or confidence is not in (0, 1), or f_calibration is empty, not
        one-dimensional, holds NaN, or has too few values for alpha; the message says how many are
        needed.
    """
    f_calibration = checked("f_calibration", f_calibration)
    check_in_unit_interval("alpha", alpha)
    if confidence is not None:
        check_in_unit_interval("confidence", confidence)
    n = f_calibration.shape[0]
    rank = _rank(n, float(alpha), confidence)
    if rank == 0:
        also = "" if confidence is None else f" with confidence {confidence}"
        raise ValueError(
            f"f_calibration holds {n} values; a false-alarm rate of {alpha}{also} takes at least "
            f"{_smallest_n(float(alpha), confidence)}."
        )
    if on_host(f_calibration):
        threshold = np.sort(float64(f_calibration))[rank - 1]
    else:
        ordered = jnp.sort(as_float(f_calibration))
        threshold = jnp.where(jnp.isnan(ordered[-1]), jnp.nan, ordered[rank - 1])
    return threshold if dtype is None else round_down(threshold, dtype)


def _rank(n: int, alpha: float, confidence: float | None) -> int:
    """The largest k in 1, ..., n that keeps the promise, or 0; a larger k is harder to keep."""
    # Imported here: it takes half a second that `import ocsvm_jax` should not take.
    from scipy import special

    if confidence is None:
        return bisect.bisect_right(range(1, n + 1), alpha, key=lambda k: k / (n + 1))
    return bisect.bisect_right(
        range(1, n + 1), -confidence, key=lambda k: -special.betainc(k, n + 1 - k, alpha)
    )


def _smallest_n(alpha: float, confidence: float | None) -> int:
    """The smallest n with a rank of 1: 1 / (n + 1) <= alpha or 1 - (1 - alpha)^n >= confidence."""
    exact = 1 / alpha - 1 if confidence is None else math.log1p(-confidence) / math.log1p(-alpha)
    # The estimate may be off by rounding, so the rank itself decides.
    candidates = (n for n in range(max(1, math.ceil(exact) - 1), math.ceil(exact) + 2))
    return next(n for n in candidates if _rank(n, alpha, confidence) > 0)
