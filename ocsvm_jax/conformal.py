"""Thresholds with a guaranteed false-alarm rate, by split-conformal calibration.

f = 0, the boundary of a one-class SVM, promises nothing about new points. The decision values of
normal points that the model was *not* fitted on do: among n of them and one more normal point,
every rank of the new one is equally likely, whatever the model and the distribution, as long as
the n + 1 points are exchangeable (independent and identically distributed, say).

    f_calibration = model.decision_function(x_calibration)  # not the x of ocsvm_fit
    threshold = conformal_threshold(f_calibration, 0.01)
    flagged = model.decision_function(x_new) < threshold  # at most 1% of the normal points

One sign throughout, that of `decision_function`: **lower is more anomalous**. Scores that are
larger for more anomalous, as those of a `Method`, are handed over negated, those of the calibration
and the new ones: `-conformal_threshold(-scores, 0.01)` is the score above which to flag.

Never calibrate on the points the model was fitted on: it has pulled them inside, their decision
values are higher than those of new points, and the false-alarm rate exceeds what was asked for.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Laxhammar and
Falkman, "Conformal prediction for distribution-independent anomaly detection in streaming vessel
data" (2010); Vovk, "Conditional validity of inductive conformal predictors" (2012, arXiv
1209.2673); Bates, Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values"
(2023, arXiv 2104.08279).
"""

import bisect
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.arguments import as_float, is_concrete


def conformal_p_values(
    f_calibration: Float[Array, " n"], f: Float[Array, "*shape"], key: Array | None = None
) -> Float[Array, "*shape"]:
    """The p-value of each point for "it is normal": how rare a decision value as low as its own is.

    p = (1 + number of calibration values <= f) / (n + 1). For a normal point exchangeable with the
    calibration points, P(p <= t) <= t for every t; ties make it larger, never smaller. With a key
    it is p = (number below f + U (1 + number equal to f)) / (n + 1), U uniform on (0, 1], which is
    uniform on (0, 1] exactly, ties or not. Both hold on average over calibration sets.

    To select anomalies among many points at a false discovery rate of q, take
    `scipy.stats.false_discovery_control(p) <= q` (Benjamini-Hochberg): p-values without a key that
    share a calibration set depend on each other only in the way it allows (Bates et al. 2023).

    Args:
      f_calibration: (n,) decision values of normal points that the model was not fitted on.
      f: decision values, of any shape; lower is more anomalous.
      key: a random key for the randomised p-value.

    Returns:
      p-values in (0, 1], of the shape of f. Without a key none is below 1 / (n + 1). Under a
      transformation, where NaN can not be refused, it gives NaN.

    Raises:
      ValueError: if f_calibration is empty or not one-dimensional, or on NaN.
    """
    f_calibration, f = _checked("f_calibration", f_calibration), as_float(f)
    _check_not_nan("f", f)
    dtype = np.promote_types(f_calibration.dtype, f.dtype)
    ordered, values = jnp.sort(f_calibration.astype(dtype)), f.astype(dtype)
    n = ordered.shape[0]
    at_most = jnp.searchsorted(ordered, values, side="right")
    if key is None:
        # A table: a compiled division by n + 1 is a product with its rounded inverse, and p would
        # miss an alpha that it equals. NumPy rounds as Python does.
        p = jnp.asarray(np.arange(1, n + 2) / (n + 1), dtype)[at_most]
    else:
        below = jnp.searchsorted(ordered, values, side="left")
        u = 1 - jax.random.uniform(key, values.shape, dtype)
        p = (below.astype(dtype) + u * (1 + at_most - below).astype(dtype)) / (n + 1)
    # Sorting has put NaN last.
    return jnp.where(jnp.isnan(values) | jnp.isnan(ordered[-1]), jnp.nan, p)


def conformal_threshold(
    f_calibration: Float[Array, " n"], alpha: float, *, confidence: float | None = None
) -> Float[Array, ""]:
    """The threshold below which to flag, `f < threshold`, for a wanted false-alarm rate.

    It is the k-th lowest calibration value, and a normal point falls below it with probability at
    most k / (n + 1). By default k is the largest with k / (n + 1) <= alpha: exactly the points of
    `conformal_p_values(f_calibration, f) <= alpha` are flagged, and the rate is at most alpha on
    average over calibration sets.

    Given one calibration set, of independent points, the rate is Beta(k, n + 1 - k) distributed
    (or smaller, with ties; Vovk 2012): around alpha, as often above as below. With
    a confidence, k is the largest for which it is at most alpha with that probability.

    Args:
      f_calibration: (n,) decision values of normal points that the model was not fitted on.
      alpha: the wanted false-alarm rate, in (0, 1): a number, since it decides on a rank.
      confidence: the share of calibration sets, in (0, 1), whose own rate is to be at most alpha.

    Returns:
      () threshold, one of the calibration values; NaN if one of them is, under a transformation.

    Raises:
      ValueError: if alpha or confidence is not in (0, 1), f_calibration is empty, not
        one-dimensional, holds NaN, or has too few values for alpha; the message says how many it
        takes.
    """
    f_calibration = _checked("f_calibration", f_calibration)
    _check_in_unit_interval("alpha", alpha)
    if confidence is not None:
        _check_in_unit_interval("confidence", confidence)
    n = f_calibration.shape[0]
    rank = _rank(n, float(alpha), confidence)
    if rank == 0:
        also = "" if confidence is None else f" with confidence {confidence}"
        raise ValueError(
            f"f_calibration holds {n} values; a false-alarm rate of {alpha}{also} takes at least "
            f"{_smallest_n(float(alpha), confidence)}."
        )
    ordered = jnp.sort(f_calibration)
    return jnp.where(jnp.isnan(ordered[-1]), jnp.nan, ordered[rank - 1])


def _rank(n: int, alpha: float, confidence: float | None) -> int:
    """How many of k = 1, ..., n keep the promise, which gets harder with k."""
    # Half a second that `import ocsvm_jax` need not take.
    from scipy import special

    if confidence is None:
        return bisect.bisect_right(range(1, n + 1), alpha, key=lambda k: k / (n + 1))
    return bisect.bisect_right(
        range(1, n + 1), -confidence, key=lambda k: -special.betainc(k, n + 1 - k, alpha)
    )


def _smallest_n(alpha: float, confidence: float | None) -> int:
    """The smallest n of rank 1: 1 / (n + 1) <= alpha, or 1 - (1 - alpha)^n >= confidence."""
    exact = 1 / alpha - 1 if confidence is None else math.log1p(-confidence) / math.log1p(-alpha)
    # The estimate may be off by its rounding; what decides is the rank itself.
    candidates = (n for n in range(max(1, math.ceil(exact) - 1), math.ceil(exact) + 2))
    return next(n for n in candidates if _rank(n, alpha, confidence) > 0)


def _checked(name: str, values: Float[Array, " n"]) -> Float[Array, " n"]:
    values = as_float(values)
    if values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(
            f"{name} has shape {values.shape}; it takes one decision value per calibration point, "
            "(n,) with n >= 1."
        )
    _check_not_nan(name, values)
    return values


def _check_not_nan(name: str, values: Array) -> None:
    if is_concrete(values) and np.any(np.isnan(values)):
        raise ValueError(f"{name} holds {int(np.sum(np.isnan(values)))} NaN; remove them first.")


def _check_in_unit_interval(name: str, value: float) -> None:
    if not 0 < float(value) < 1:
        raise ValueError(f"{name} is {value}; it must lie in (0, 1).")
