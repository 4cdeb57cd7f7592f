"""Criteria without labels.

They are pure functions of decision values, whatever model these come from. The criteria that
measure a volume by uniform points judge a *set*: the points should lie inside, and the inside
should be small. They count points by default, and have a gradient if a temperature is given. For
ranking points, that is, detecting anomalies by score, they choose worse models than `finest_gamma`,
which `choose_model` uses (benchmarks/results/nu_gamma.md).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_float


def uniform_in_ball(
    x: Num[ArrayLike, "n d"], count: int, key: Array, *, stretch: float = 1.1
) -> Float[Array, "{count} d"]:
    """Draws points uniformly from a ball around the mean of x that contains all of x.

    As artificial outliers they measure volumes (Tax and Duin 2001, "Uniform object generation for
    optimizing one-class classifiers", JMLR 2, who also draw from a hypersphere). Use them in few
    dimensions, on points with about the same spread in all directions. Otherwise hardly any fall
    near the points, every volume looks like 0, and the loosest set seems best. On real tables of 6
    to 9 dimensions, any set contained 0.2 to 4% of the ball.

    Args:
      x: (n, d) points.
      count: number of points to draw.
      key: a `jax.random.key`.
      stretch: radius, in units of the distance from the mean to the farthest point.
    """
    x = as_float(x)
    centre = jnp.mean(x, axis=0, keepdims=True)
    radius = stretch * jnp.sqrt(jnp.max(jnp.sum((x - centre) ** 2, axis=1)))
    return centre + radius * jax.random.ball(key, x.shape[1], shape=(count,), dtype=x.dtype)


def uniform_outlier_error(
    f_points: Num[ArrayLike, " n"],
    f_uniform: Num[ArrayLike, " m"],
    *,
    weight: float = 0.5,
    temperature: float | None = None,
) -> Float[Array, ""]:
    """(1 - weight) * share of points rejected + weight * share of uniform points accepted.

    This is the error of one class against a uniform one, as estimated by Tax and Duin (2001, see
    `uniform_in_ball`). It equals (1 - weight) (1 - E) with E = P(f >= 0) - t Vol(f >= 0), the
    excess mass (Goix 2016, arXiv 1607.01152) of the model's set at t = weight / (1 - weight) times
    the density of the uniform points. The best set is the one where the points are denser than
    that.

    Args:
      f_points: (n,) decision values of points the model has not seen: `leave_one_out` or held out.
      f_uniform: (m,) decision values of uniform points.
      weight: in (0, 1); larger weights prefer smaller sets.
      temperature: None to count; a number > 0, in units of f, replaces each step at f = 0 by a
        logistic function of this width.

    Raises:
      ValueError: if weight or temperature is out of range.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight is {weight}; it must lie in (0, 1).")
    f_points, f_uniform = as_float(f_points), as_float(f_uniform)
    rejected = jnp.mean(1 - _inside(f_points, temperature))
    accepted = jnp.mean(_inside(f_uniform, temperature))
    return (1 - weight) * rejected + weight * accepted


def mass_volume_area(
    f_points: Num[ArrayLike, " n"],
    f_uniform: Num[ArrayLike, " m"],
    *,
    mass: float = 0.9,
    temperature: float | None = None,
) -> Float[Array, ""]:
    """Mean volume of the level sets of f that contain at least the share `mass` of the points.

    This is the area under the upper end of the mass-volume curve (Thomas, Feuillard and Gramfort
    2015, arXiv 1508.07535; Goix 2016, arXiv 1607.01152), divided by its width. Smaller is better.
    It judges the ranking by f and does not depend on the offset: it compares kernels, not
    thresholds.

    Args:
      f_points: (n,) decision values of points the model has not seen.
      f_uniform: (m,) decision values of uniform points; the volume is the share of them inside.
      mass: in [0, 1), the start of the curve; it ends at 1.
      temperature: as in `uniform_outlier_error`.

    Raises:
      ValueError: if mass or temperature is out of range.
    """
    if not 0 <= mass < 1:
        raise ValueError(f"mass is {mass}; it must lie in [0, 1).")
    f_points, f_uniform = as_float(f_points), as_float(f_uniform)
    n = f_points.shape[0]
    # The set above the j-th smallest value (j from 0) contains n - j points.
    levels = jnp.sort(f_points)[: n - int(np.ceil(mass * n)) + 1]
    return jnp.mean(_inside(f_uniform[:, None] - levels[None, :], temperature))


def _inside(f: Float[Array, "*shape"], temperature: float | None) -> Float[Array, "*shape"]:
    if temperature is None:
        return (f >= 0).astype(f.dtype)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive, or None to count.")
    return jax.nn.sigmoid(f / temperature)


def finest_gamma(
    gammas: Float[np.ndarray, " g"], rejected: Float[np.ndarray, " g"], limit: float
) -> tuple[float, bool]:
    """The gamma above which more than `limit` of the unseen points are rejected.

    It is interpolated, linearly in log gamma, between the last gamma within the limit and the next.
    A host-level function.

    Args:
      gammas: (g,) in rising order.
      rejected: (g,) share of the unseen points outside, per gamma; NaN counts as too many.
      limit: the largest share allowed.

    Returns:
      The gamma, and whether it was found between two of those given. If all are within the limit it
      is the largest of them, if none is the smallest.
    """
    kept = np.flatnonzero(rejected <= limit)
    if kept.size == 0:
        return float(gammas[0]), False
    last = int(kept[-1])
    if last == len(gammas) - 1:
        return float(gammas[last]), False
    rise = rejected[last + 1] - rejected[last]
    # If the next share is NaN, there is no interpolation.
    share = (limit - rejected[last]) / rise if rise > 0 else 0.0
    return float(gammas[last] * (gammas[last + 1] / gammas[last]) ** share), True
