"""Tumours: an irregular mass with a dead core and a rim of oedema, which displaces tissue."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax.data.phantom.anatomy import Tissue
from ocsvm_jax.data.phantom.template import Template

_RADIUS = (11.0, 24.0)  # mm
_IRREGULAR = 0.22  # share of the radius by which the border moves in and out
_MASS_EFFECT = (2.0, 6.0)  # mm by which tissue at the border is displaced
_PUSHED = 2.5  # radii up to which tissue is displaced
_OEDEMA = 1.25  # radii up to which the oedema extends
_WAVES = 24  # random waves that form a border
_OFFSET = 4.0  # mm, largest distance of a centre from a slice


class Tumour(NamedTuple):
    """A tumour, independent of the brain; arrays are (z, x, y) on the computed voxels.

    Attributes:
      radii: distance to the centre, divided by the distance of the border in that direction.
      push: displacement of the tissue, mm along x, y and z; exactly 0 beyond `_PUSHED` radii.
      core: where the tissue is dead.
      edge_mm: mm per unit of `radii`.
      texture: texture of the solid part, standard deviation 1.
      solid, dead: intensities, 0 for fluid, 1 for grey matter.
      oedema: intensity at its inner border, 0 for white matter, 1 for grey matter.
    """

    radii: Float[np.ndarray, "z x y"]
    push: Float[np.ndarray, "3 z x y"]
    core: Bool[np.ndarray, "z x y"]
    edge_mm: float
    texture: Float[np.ndarray, "z x y"]
    solid: float
    dead: float
    oedema: float


def draw_tumour(
    rng: np.random.Generator, points: Float[np.ndarray, "3 z x y"], template: Template
) -> Tumour:
    """Draws a tumour whose centre lies in or just beside a slice, in white matter.

    The centre is drawn in the template's white matter, not in the subject's, which depends on its
    age: a patient has the same tumour in every arm.

    Args:
      rng: random generator.
      points: MNI x, y and z, mm, per computed voxel.
      template: the template.
    """
    centre = _centre(rng, points, template)
    radius = float(rng.uniform(*_RADIUS))
    away = points - centre[:, None, None, None]
    distance = np.maximum(np.sqrt((away**2).sum(axis=0)), 1e-6)
    direction = away / distance
    radii = distance / (radius * (1 + _IRREGULAR * _border(rng, direction)))
    core_size = float(rng.uniform(0.3, 0.6))
    core = radii < core_size * (1 + _IRREGULAR * _border(rng, direction))

    mass_effect = float(rng.uniform(*_MASS_EFFECT))
    fade = np.clip((_PUSHED - np.maximum(radii, 1)) / (_PUSHED - 1), 0, None) ** 2
    texture = ndimage.gaussian_filter(rng.standard_normal(radii.shape), (0, 2.0, 2.0))
    return Tumour(
        radii=radii,
        push=mass_effect * fade * direction,
        core=core,
        edge_mm=radius,
        texture=texture / texture.std(),
        solid=float(rng.uniform(0.45, 1.0)),
        dead=float(rng.uniform(0.1, 0.4)),
        oedema=float(rng.uniform(0.4, 0.9)),
    )


def extent(tumour: Tumour, tissue: Tissue) -> Bool[np.ndarray, "z x y"]:
    """The lesion: the mass, and the oedema around it, which stays in white matter."""
    oedema = (tumour.radii < _OEDEMA) & (tissue.wm > 0.5)
    return ((tumour.radii < 1) | oedema) & tissue.mask


def grown(
    values: Float[np.ndarray, "z x y"], tumour: Tumour, tissue: Tissue, gm: float, csf: float
) -> Float[np.ndarray, "z x y"]:
    """Intensities of displaced tissue with the tumour in it.

    Args:
      values: intensities without the tumour.
      tumour: the tumour.
      tissue: the displaced tissue.
      gm: intensity of grey matter.
      csf: intensity of fluid.
    """
    rim = np.clip((_OEDEMA - tumour.radii) / (_OEDEMA - 1), 0, 1) ** 0.5
    values = values - rim * tissue.wm * tumour.oedema * (1 - gm)
    level = np.where(tumour.core, tumour.dead, tumour.solid)
    texture = np.where(tumour.core, 0.25, 1.0) * tumour.texture
    mass = csf + (gm - csf) * (level + 0.15 * texture)
    # Mass and tissue share a voxel within half a voxel on each side of the border.
    weight = np.clip((1 - tumour.radii) * tumour.edge_mm + 0.5, 0, 1)
    return np.where(tissue.mask, (1 - weight) * values + weight * mass, 0)


def changed(tumour: Tumour, reach: int) -> Bool[np.ndarray, "z x y"]:
    """Where an image may change because of the tumour, for a blur of `reach` voxels."""
    square = np.ones((1, 2 * reach + 1, 2 * reach + 1), bool)
    return ndimage.binary_dilation(tumour.radii < _PUSHED, structure=square)


def _centre(
    rng: np.random.Generator, points: Float[np.ndarray, "3 z x y"], template: Template
) -> Float[np.ndarray, "3"]:
    index = points - np.reshape(template.origin_mm, (3, 1, 1, 1))
    x, y, z = np.round(index).astype(int)
    wm = template.wm[x, y, z]
    white = points[:, wm > 0.9]
    centre = white[:, rng.integers(white.shape[1])]
    return centre + np.array([0.0, 0.0, rng.uniform(-_OFFSET, _OFFSET)])


def _border(
    rng: np.random.Generator, direction: Float[np.ndarray, "3 z x y"]
) -> Float[np.ndarray, "z x y"]:
    """A smooth random function of the direction, within [-1, 1]."""
    waves = rng.normal(0, 2.5, (_WAVES, 3))
    phases = rng.uniform(0, 2 * np.pi, _WAVES)
    total = np.zeros(direction.shape[1:])
    for wave, phase in zip(waves, phases, strict=True):
        total += np.cos(np.tensordot(wave, direction, 1) + phase)
    return np.clip(total / np.sqrt(2 * _WAVES), -1, 1)
