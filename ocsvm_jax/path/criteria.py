"""Criteria without labels.

Pure functions of decision values, of whatever model made them. Those that measure a volume by
uniform points ask that the points lie inside and the inside be small: criteria for a *set*. Each
counts by default; with a temperature it has a gradient. By them to rank points, that is to detect
anomalies by score, works less well than `finest_gamma`, which `choose_model` uses: RESULTS.md,
"Choosing nu and gamma".
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
    """Points distributed uniformly in a ball around the mean of x that holds all of x.

    As artificial outliers they measure volumes (Tax and Duin 2001, "Uniform object generation for
    optimizing one-class classifiers", JMLR 2, who draw from a hypersphere too). Use them in few
    dimensions, on points whose spread is about the same in all directions: else hardly any falls
    near the points, every volume looks like 0, and the loosest set seems the best. On real tables
    of 6 to 9 dimensions any set held 0.2 to 4% of the ball.

    Args:
      x: (n, d) points.
      count: how many to draw.
      key: a `jax.random.key`.
      stretch: radius, in units of the distance of the point farthest from the mean.
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

    The error of the one class against a uniform one, as Tax and Duin (2001, see `uniform_in_ball`)
    estimate it. It is (1 - weight) (1 - E) with E = P(f >= 0) - t Vol(f >= 0), the excess mass
    (Goix 2016, arXiv 1607.01152) of the model's own set at t = weight / (1 - weight) times the
    density of the uniform points: of all sets, the one where the points are denser than that is
    best.

    Args:
      f_points: (n,) decision values of points the model has not seen: `leave_one_out` or held out.
      f_uniform: (m,) decision values of uniform points.
      weight: in (0, 1); larger asks for smaller sets.
      temperature: None counts; a number > 0, in units of f, puts a logistic function of this width
        in place of each step at f = 0.

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
    """Mean volume of the level sets of f that hold at least the share `mass` of the points.

    The area under the upper end of the mass-volume curve (Thomas, Feuillard and Gramfort 2015,
    arXiv 1508.07535; Goix 2016, arXiv 1607.01152), divided by its width. Smaller is better. It
    judges the ranking by f alone, whatever the offset: it compares kernels, not thresholds.

    Args:
      f_points: (n,) decision values of points the model has not seen.
      f_uniform: (m,) decision values of uniform points; the volume is the share of them inside.
      mass: in [0, 1), where the curve begins; it ends at 1.
      temperature: as in `uniform_outlier_error`.

    Raises:
      ValueError: if mass or temperature is out of range.
    """
    if not 0 <= mass < 1:
        raise ValueError(f"mass is {mass}; it must lie in [0, 1).")
    f_points, f_uniform = as_float(f_points), as_float(f_uniform)
    n = f_points.shape[0]
    # The set above the j-th smallest value, j from 0, holds n - j points.
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
    """The gamma from which on more than `limit` of the unseen points are rejected.

    Interpolated, linear in log gamma, between the last gamma that keeps to the limit and the next.
    On the host.

    Args:
      gammas: (g,) in rising order.
      rejected: (g,) share of the unseen points outside, for each; NaN counts as too many.
      limit: the share allowed.

    Returns:
      That gamma, and whether it lies within those given. Where all keep to the limit it is the
      largest of them, where none does the smallest.
    """
    kept = np.flatnonzero(rejected <= limit)
    if kept.size == 0:
        return float(gammas[0]), False
    last = int(kept[-1])
    if last == len(gammas) - 1:
        return float(gammas[last]), False
    rise = rejected[last + 1] - rejected[last]
    # A next one that is NaN is no ground to go further.
    share = (limit - rejected[last]) / rise if rise > 0 else 0.0
    return float(gammas[last] * (gammas[last + 1] / gammas[last]) ** share), True
