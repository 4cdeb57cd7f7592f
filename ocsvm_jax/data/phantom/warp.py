"""Smooth random fields on a slab: tensor products of cubic B-splines."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# Mean over a knot interval of the sum of squared cubic B-splines: the variance, along one axis, of
# a spline with independent unit coefficients.
_VARIANCE = 151 / 315


def basis(
    positions: Float[np.ndarray, " points"], spacing: float
) -> Float[np.ndarray, "points knots"]:
    """Values of the cubic B-splines with knots every `spacing` at `positions`, both in mm.

    Rows sum to one. Knots are at multiples of the spacing, wherever the positions begin, so that a
    field over part of the brain consists of the same functions as one over all of it.
    """
    scaled = positions / spacing
    first = int(np.floor(scaled.min())) - 1
    last = int(np.floor(scaled.max())) + 2
    distance = np.abs(scaled[:, None] - np.arange(first, last + 1)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def field(
    rng: np.random.Generator,
    axes_mm: Sequence[np.ndarray],
    *,
    spacing: float,
    deviation: float,
    components: int = 1,
) -> Float[np.ndarray, "components z x y"]:
    """A random field of mean zero.

    Args:
      rng: random generator of the coefficients.
      axes_mm: positions along z, x and y in mm, one array each.
      spacing: distance between control points, mm.
      deviation: standard deviation of the field, in the unit of the result.
      components: number of independent fields.
    """
    bases = [basis(np.asarray(axis, float), spacing) for axis in axes_mm]
    coefficients = rng.standard_normal((components, *(b.shape[1] for b in bases)))
    values = np.einsum("cijk,zi,xj,yk->czxy", coefficients, *bases, optimize=True)
    return values * (deviation / _VARIANCE**1.5)
