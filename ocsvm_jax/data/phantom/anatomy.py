"""The healthy anatomy of a subject: where each voxel's tissue comes from in the template."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax.data.phantom.template import Template
from ocsvm_jax.data.phantom.warp import field

# Warps that registration to the template leaves: control spacing and deviation per axis, mm.
_RESIDUAL_WARPS = ((40.0, 2.0), (14.0, 1.0))
_DECAY = 9.0  # mm over which widening ventricles displace the tissue around them
_YOUNG = 30.0  # years, the age at which brains begin to age
_SPAN = 40.0  # years over which they age by the full amount


class Traits(NamedTuple):
    """Parameters of a subject's anatomy, which do not depend on its age.

    Attributes:
      displacement: displacement by the residual warp, mm along x, y and z at every computed voxel.
      atrophy: mm by which the ventricles widen over `_SPAN` years.
      ventricle: mm by which they are wider in youth than those of the template.
      sulci: growth of the exponent that widens the sulci, over `_SPAN` years.
    """

    displacement: Float[np.ndarray, "3 z x y"]
    atrophy: float
    ventricle: float
    sulci: float


class Tissue(NamedTuple):
    """A subject's tissues on the computed voxels, (z, x, y) each.

    Attributes:
      gm, wm, csf: shares of a voxel; they sum to 1 in the brain.
      residual: intensity in excess of the tissues' mean intensities, white matter = 1.
      distance: mm to the template's ventricles, at the position each voxel's tissue comes from.
      mask: the brain.
    """

    gm: Float[np.ndarray, "z x y"]
    wm: Float[np.ndarray, "z x y"]
    csf: Float[np.ndarray, "z x y"]
    residual: Float[np.ndarray, "z x y"]
    distance: Float[np.ndarray, "z x y"]
    mask: Bool[np.ndarray, "z x y"]


def draw_traits(rng: np.random.Generator, template: Template) -> Traits:
    """Draws a subject's anatomy."""
    displacement = sum(
        field(rng, template.axes_mm, spacing=spacing, deviation=deviation, components=3)
        for spacing, deviation in _RESIDUAL_WARPS
    )
    assert isinstance(displacement, np.ndarray)
    return Traits(
        displacement,
        atrophy=float(rng.uniform(1.0, 3.2)),
        ventricle=float(rng.normal(0.0, 0.5)),
        sulci=float(rng.uniform(0.2, 0.9)),
    )


def positions(template: Template) -> Float[np.ndarray, "3 z x y"]:
    """MNI coordinates of the computed voxels, x, y and z in mm."""
    z, x, y = np.meshgrid(*template.axes_mm, indexing="ij")
    return np.stack([x, y, z])


def tissue(
    template: Template, points: Float[np.ndarray, "3 z x y"], traits: Traits, age: float
) -> Tissue:
    """The tissues at template coordinates `points`, mm, of a brain of this age.

    The ventricles grow by moving the tissue around them outward, by an amount that decreases with
    distance; sulci widen where there is already some fluid, at the expense of their surroundings.

    Args:
      template: the template.
      points: x, y and z of the template, mm, per computed voxel.
      traits: of the subject.
      age: years.
    """
    years = max(0.0, (age - _YOUNG) / _SPAN)
    coordinates = points - np.reshape(template.origin_mm, (3, 1, 1, 1))
    push = years * traits.atrophy + traits.ventricle
    distance = _sample(template.distance, coordinates)
    fade = push * np.exp(-((distance / _DECAY) ** 2))
    coordinates = coordinates - fade * np.stack(
        [_sample(component, coordinates) for component in template.outward]
    )
    gm, wm, csf, residual, distance = (
        _sample(part, coordinates)
        for part in (
            template.gm,
            template.wm,
            template.csf,
            template.residual,
            template.distance,
        )
    )
    total = gm + wm + csf
    mask = total > 0.5
    csf = np.where(mask, csf / np.where(mask, total, 1), 0)
    wider = csf ** (1 / (1 + years * traits.sulci))
    rest = np.where(mask, (1 - wider) / np.maximum(gm + wm, 1e-6), 0)
    return Tissue(gm * rest, wm * rest, wider, residual, distance, mask)


def _sample(
    values: Float[np.ndarray, "X Y Z"], coordinates: Float[np.ndarray, "3 z x y"]
) -> Float[np.ndarray, "z x y"]:
    return ndimage.map_coordinates(values, coordinates, np.float64, order=1, mode="nearest")
