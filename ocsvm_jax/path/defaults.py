"""`robust_defaults`: default values of nu and gamma, found without a single solve."""

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.path.rows import Rows, checked_rows, draw

NU = 0.5
# The share of all points that counts as the neighbours of a point.
_SHARE = 0.2
_ROWS_AT_ONCE = 64


class Defaults(NamedTuple):
    """nu and gamma; `ocsvm_fit(x, **robust_defaults(x)._asdict())` uses them."""

    nu: float
    gamma: float


def robust_defaults(
    x: Num[ArrayLike, "n d"],
    sample_weight: Num[ArrayLike, " n"] | None = None,
    key: Array | None = None,
    *,
    max_points: int = 1000,
) -> Defaults:
    """nu = 0.5, and a gamma whose kernel reaches as far as the nearest fifth of all points.

    gamma = 1 / median(r_i^2), where r_i is the distance from point i within which a fifth of the
    points lie (the point itself included), and at least one different point. Unlike "scale", which
    uses the variance of all columns together, this gamma does not depend on the distance between
    groups of points or on a few far values, and hardly on n. benchmarks/choice.py compares it, by
    labels, with other defaults. It is the local scale of Zelnik-Manor and Perona (2004,
    "Self-tuning spectral clustering", NIPS 17) with one value for all points, and a fifth of the
    points in place of their 7 neighbours.

    nu = 0.5 ranks points as well as a smaller nu if the points are clean, and better if they
    contain outliers. Half of the points then have f < 0: take a threshold from a calibration set
    (`OCSVM.calibrate`, `conformal_threshold`), as for any nu.

    Args:
      x: (n, d) points, at least two different ones; their columns should have comparable units.
      sample_weight: (n,) non-negative weights; a weight counts as repetitions, ratios matter.
      key: draws the points if there are more than max_points; `jax.random.key(0)` by default.
      max_points: number of points to use; time and memory grow with its square.

    Raises:
      ValueError: if x is traced, is not an (n, d) array of finite numbers, or all its points are
        equal.
    """
    rows = checked_rows("robust_defaults", x, sample_weight)
    rows = draw(rows, max_points, jax.random.key(0) if key is None else key)
    return Defaults(NU, neighbour_gamma(rows))


def neighbour_gamma(rows: Rows) -> float:
    """The gamma of `robust_defaults`, computed from all rows."""
    x, w = rows.x.astype(np.float64), rows.weight
    squares = np.empty(len(x))
    for start in range(0, len(x), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        # Differences, not products, since they are exact however far the other points lie.
        distances = np.sum((x[block, None, :] - x[None, :, :]) ** 2, axis=2)
        reach = _weighted_quantile(distances, np.broadcast_to(w, distances.shape), _SHARE)
        nearest = np.min(np.where(distances > 0, distances, np.inf), axis=1)
        squares[block] = np.maximum(reach, nearest)
    return float(1 / _weighted_quantile(squares[None, :], w[None, :], 0.5)[0])


def _weighted_quantile(
    values: Float[np.ndarray, "b n"], w: Float[np.ndarray, "b n"], share: float
) -> Float[np.ndarray, " b"]:
    """Per row, the smallest value such that the values up to it have at least this share of w."""
    order = np.argsort(values, axis=1, kind="stable")
    mass = np.cumsum(np.take_along_axis(w, order, axis=1), axis=1)
    # Slightly less than the share, since a sum of n equal weights is rounded.
    first = np.argmax(mass >= (share - 1e-9) * mass[:, -1:], axis=1)
    return np.take_along_axis(values, order, axis=1)[np.arange(len(values)), first]
