"""White matter lesions: where they lie and how dark they are."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax.data.phantom.anatomy import Tissue
from ocsvm_jax.data.phantom.template import Template

VOXEL_ML = 8e-3  # 1 x 1 x 8 mm: a slice of the slab represents the tissue up to the next
CONTRAST = (0.25, 0.8)  # 0: white matter, 1: grey matter
_VOLUME = (1.1, 1.0)  # mean and deviation of the logarithm of ml
_GRAIN = (2.0, 4.0)  # voxels, smoothness of the random part
_SMALLEST = 4  # voxels; smaller pieces are dropped
_LEAST = 12  # voxels, smallest size that is tried
_CLOSE = 7.0  # mm over which closeness to the ventricles matters
_EDGE = 0.8  # voxels, softness of the border


def white_matter_lesions(
    rng: np.random.Generator, tissue: Tissue, template: Template
) -> Bool[np.ndarray, "z x y"]:
    """Draws lesions where a random field, closeness to the ventricles and white matter agree.

    The volume counts 8 mm^3 per voxel and refers to the full slab; a smaller slab gets its share of
    it. The result is never empty.

    Args:
      rng: random generator.
      tissue: the tissue of the subject.
      template: the template.
    """
    volume = float(np.exp(rng.normal(*_VOLUME))) * template.share
    grain = float(rng.uniform(*_GRAIN))
    noise = ndimage.gaussian_filter(rng.standard_normal(tissue.wm.shape), (0.4, grain, grain))
    affinity = noise / noise.std()
    affinity += 3.0 * np.exp(-np.clip(tissue.distance, 0, None) / _CLOSE) + 2.0 * tissue.wm
    eligible = (tissue.wm > 0.6) & tissue.mask
    ranked = np.flatnonzero(eligible)[np.argsort(-affinity[eligible], kind="stable")]

    count = max(_LEAST, round(volume / VOXEL_ML))
    while True:
        lesion = np.zeros(eligible.shape, bool)
        lesion.ravel()[ranked[: min(count, len(ranked) // 2)]] = True
        lesion = without_specks(lesion)
        if lesion.any():
            return lesion
        count *= 2


def without_specks(lesion: Bool[np.ndarray, "z x y"]) -> Bool[np.ndarray, "z x y"]:
    """Removes connected pieces of fewer than four voxels within a slice."""
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    pieces = np.zeros(lesion.shape, np.int32)
    ndimage.label(lesion, flat, pieces)
    keep = np.bincount(pieces.ravel()) >= _SMALLEST
    keep[0] = False
    return keep[pieces]


def darkening(
    lesion: Bool[np.ndarray, "z x y"], tissue: Tissue, contrast: float, gm: float
) -> Float[np.ndarray, "z x y"]:
    """Decrease of intensity in lesions, from white matter (1) towards grey matter (`gm`).

    The soft border lies inside the lesion, so nothing changes outside.

    Args:
      lesion: where the lesions are.
      tissue: the tissue of the subject.
      contrast: 0 for white matter, 1 for grey matter.
      gm: intensity of grey matter.
    """
    soft = ndimage.gaussian_filter(lesion.astype(float), (0, _EDGE, _EDGE))
    return np.where(lesion, soft * tissue.wm * contrast * (1 - gm), 0)
