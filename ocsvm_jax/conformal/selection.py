"""`benjamini_hochberg`: selects anomalies among many points at a wanted false discovery rate."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from ocsvm_jax.arrays.arguments import as_float, as_numbers, is_concrete
from ocsvm_jax.conformal.values import check_in_unit_interval, check_not_nan, float64, on_host


def benjamini_hochberg(
    p: Float[ArrayLike, " m"], q: float
) -> Bool[Array, " m"] | Bool[np.ndarray, " m"]:
    """Selects which of m points to call anomalous, with a false discovery rate of at most q.

    The expected share of normal points among the selected ones is at most q. A false-alarm rate, in
    contrast, is a share of all normal points. With the p-values in ascending order, points are
    selected up to the largest i with p_(i) <= q i / m: the same points as
    `scipy.stats.false_discovery_control(p) <= q`.

    The guarantee allows for the dependence between p-values of `conformal_p_values` without a key
    that share a calibration set (Bates et al. 2023, theorem 2). None of these is below 1 / (n + 1):
    selecting i of m points takes n + 1 >= m / (q i) calibration points.

    Source: Benjamini and Hochberg, "Controlling the false discovery rate" (1995).

    Args:
      p: (m,) p-values in [0, 1].
      q: the wanted false discovery rate, in (0, 1).

    Returns:
      (m,) true where selected; a NumPy array if p is one. NaN, which is accepted only under a
      transformation, is not selected.

    Raises:
      ValueError: if q is not in (0, 1), or p is not one-dimensional or not in [0, 1].
    """
    check_in_unit_interval("q", q)
    p = as_numbers(p, "p")
    if p.ndim != 1:
        raise ValueError(f"p has shape {p.shape}; it takes one p-value per point, (m,).")
    check_not_nan("p", p)
    if is_concrete(p) and not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
        raise ValueError(f"p holds values from {np.min(p)} to {np.max(p)}; p-values lie in [0, 1].")
    xp, p = (np, float64(p)) if on_host(p) else (jnp, as_float(p))
    m = p.shape[0]
    order = xp.argsort(p)
    # The operations are in SciPy's order, so that rounding has the same effect.
    adjusted = p[order] * xp.asarray(m / np.arange(1, m + 1), p.dtype)
    ranks = xp.arange(m)
    last = xp.max(xp.where(adjusted <= q, ranks, -1), initial=-1)
    return (ranks <= last)[xp.argsort(order)] & ~xp.isnan(p)
