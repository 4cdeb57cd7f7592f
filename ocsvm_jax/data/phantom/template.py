"""The MNI152 template of nilearn, decomposed into tissues, residual and ventricles."""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax import extras
from ocsvm_jax.data.phantom.cohorts import PROFILES, Profile

SLICE_MM = 8.0  # distance between slices: a voxel of the slab represents 8 mm^3
_REACH = 20  # mm above and below the slab from which a subject's tissue may come
_MARGIN = 8  # voxels around the template's brain that a subject's brain may occupy
# Box that contains the lateral ventricles but not the cisterns: MNI mm along x, y and z.
_VENTRICLE_BOX = ((-42, 42), (-52, 42), (-8, 40))
_FILLED = 0.98  # share of tissue above which there is no fluid; the maps hardly reach 1


class Template(NamedTuple):
    """The decomposed template, from which all subjects of a profile are drawn.

    Attributes:
      profile: name of the profile.
      gm, wm, csf: share of each tissue, (x, y, z) of a block of 1 mm voxels around the slab; they
        sum to 1 in the brain and to 0 outside.
      residual: intensity of the template in excess of its tissue means, white matter = 1.
      distance: signed distance to the lateral ventricles, mm, negative inside, smoothed.
      outward: its gradient, (3, x, y, z): direction away from the ventricles.
      origin_mm: MNI coordinates of voxel (0, 0, 0) of the block.
      axes_mm: MNI coordinates of the voxels that are computed, along z, x and y of the slab.
      inside: position of these voxels in an image: slices along x and y.
      shape: (z, x, y) of an image.
      affine: (4, 4) of the files, in which x, y, z is the order of the axes.
      ventricles: the template's lateral ventricles, (z, x, y) of an image.
      share: brain voxels of this slab over those of the full profile.
    """

    profile: str
    gm: Float[np.ndarray, "X Y Z"]
    wm: Float[np.ndarray, "X Y Z"]
    csf: Float[np.ndarray, "X Y Z"]
    residual: Float[np.ndarray, "X Y Z"]
    distance: Float[np.ndarray, "X Y Z"]
    outward: Float[np.ndarray, "3 X Y Z"]
    origin_mm: tuple[float, float, float]
    axes_mm: tuple[np.ndarray, np.ndarray, np.ndarray]
    inside: tuple[slice, slice]
    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]
    ventricles: Bool[np.ndarray, "z x y"]
    share: float

    def embed(self, values: np.ndarray) -> np.ndarray:
        """An image with the computed voxels (z, x, y), and zero elsewhere."""
        image = np.zeros(self.shape, values.dtype)
        image[:, self.inside[0], self.inside[1]] = values
        return image


class _Volumes(NamedTuple):
    """The volumes that all profiles share, (x, y, z) of one block of 1 mm voxels."""

    gm: np.ndarray
    wm: np.ndarray
    csf: np.ndarray
    residual: np.ndarray
    mask: np.ndarray
    ventricles: np.ndarray
    distance: np.ndarray
    outward: np.ndarray
    origin: np.ndarray


def prepare(profile: Profile) -> Template:
    """Decomposes the template, in two or three seconds for the first call of a process.

    The arrays are shared between calls and read-only.

    Raises:
      MissingExtraError: if nilearn is not installed.
    """
    volumes = _volumes()
    origin, mask = volumes.origin, volumes.mask
    heights = _heights(profile, origin)
    window, inside, axes = _window(profile, mask[:, :, heights], origin)
    corner = [origin[0] + window[0].start, origin[1] + window[1].start, profile.slices_mm[0]]
    shown = mask[window][:, :, heights]
    return Template(
        profile=profile.name,
        gm=volumes.gm,
        wm=volumes.wm,
        csf=volumes.csf,
        residual=volumes.residual,
        distance=volumes.distance,
        outward=volumes.outward,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes_mm=axes,
        inside=inside,
        shape=(shown.shape[2], shown.shape[0], shown.shape[1]),
        affine=_affine(corner),
        ventricles=np.moveaxis(volumes.ventricles[window][:, :, heights], 2, 0),
        share=float(shown.sum() / mask[:, :, _heights(PROFILES["full"], origin)].sum()),
    )


@functools.cache
def _volumes() -> _Volumes:
    image, gm, wm, mask, origin = _maps()
    csf = np.where(mask, np.clip(1 - (gm + wm) / _FILLED, 0, 1), 0)
    tissue = np.where(mask, np.maximum(gm + wm, 1e-6), 1)
    gm, wm = (np.where(mask, part / tissue * (1 - csf), 0) for part in (gm, wm))

    # Intensities of pure tissues, by least squares over the brain; white matter becomes 1.
    parts = np.stack([part[mask].astype(np.float64) for part in (gm, wm, csf)], axis=1)
    levels = np.linalg.lstsq(parts, image[mask].astype(np.float64), rcond=None)[0]
    residual = np.zeros_like(image)
    residual[mask] = (image[mask] - parts @ levels) / levels[1]

    ventricles = lateral_ventricles(csf, origin)
    distance = _signed_distance(ventricles)
    outward = np.stack([np.gradient(distance, axis=axis) for axis in range(3)])
    volumes = _Volumes(gm, wm, csf, residual, mask, ventricles, distance, outward, origin)
    for array in volumes:
        array.flags.writeable = False
    return volumes


def lateral_ventricles(
    csf: Float[np.ndarray, "X Y Z"], origin_mm: np.ndarray
) -> Bool[np.ndarray, "X Y Z"]:
    """The largest connected piece of fluid in a central box, about 17 ml in the template."""
    box = tuple(
        slice(int(low - start), int(high - start))
        for (low, high), start in zip(_VENTRICLE_BOX, origin_mm, strict=True)
    )
    fluid = csf[box] > 0.5
    pieces = np.zeros(fluid.shape, np.int32)
    ndimage.label(fluid, output=pieces)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    found = np.zeros(csf.shape, bool)
    found[box] = pieces == sizes.argmax()
    return found


def _maps() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """T1, grey matter, white matter and brain mask, (x, y, z) of the block at 1 mm, and its origin.

    The block is the same for all profiles, and so is what is derived from it.
    """
    datasets = extras.load("nilearn.datasets", "the template of the synthetic population", "mri")
    images = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_brain_mask(resolution=1),
    ]
    origin = images[0].affine[:3, 3].copy()
    heights = _heights(PROFILES["full"], origin)
    first = int(heights[0]) - _REACH
    block = slice(first, int(heights[-1]) + _REACH + 1)
    # Some versions of nilearn return the maps as stored, others divided by their maximum.
    image, gm, wm, mask = (
        np.asarray(image.dataobj[:, :, block], np.float32) / np.float32(image.dataobj[:].max())
        for image in images
    )
    origin[2] += first
    return image, gm, wm, mask > 0.5, origin


def _heights(profile: Profile, origin: np.ndarray) -> np.ndarray:
    """Indices of a profile's slices in volumes that begin at `origin`, MNI mm."""
    return np.asarray(profile.slices_mm) - round(origin[2])


def _signed_distance(region: Bool[np.ndarray, "X Y Z"]) -> Float[np.ndarray, "X Y Z"]:
    """Distance to the border of a region, mm, negative inside.

    It is smoothed, so that its gradient vanishes on the ridge inside the region, where there is no
    outward direction.
    """
    outside = np.asarray(ndimage.distance_transform_edt(~region), np.float32)
    within = np.asarray(ndimage.distance_transform_edt(region), np.float32)
    return ndimage.gaussian_filter(outside - within, 1.5)


def _window(
    profile: Profile, mask: Bool[np.ndarray, "X Y slices"], origin: np.ndarray
) -> tuple[tuple[slice, slice], tuple[slice, slice], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The voxels in an image, which of them are computed, and the MNI coordinates of the latter."""
    shown = profile.window or ((0, mask.shape[0]), (0, mask.shape[1]))
    inside, axes = [], [np.asarray(profile.slices_mm, float)]
    for axis, (first, last) in enumerate(shown):
        filled = np.flatnonzero(mask.any(axis=(1 - axis, 2)))
        low = max(first, int(filled[0]) - _MARGIN)
        high = min(last, int(filled[-1]) + _MARGIN + 1)
        inside.append(slice(low - first, high - first))
        axes.append(np.arange(low, high) + origin[axis])
    window = (slice(*shown[0]), slice(*shown[1]))
    return window, (inside[0], inside[1]), (axes[0], axes[1], axes[2])


def _affine(corner_mm: list[float]) -> np.ndarray:
    affine = np.diag([1.0, 1.0, SLICE_MM, 1.0])
    affine[:3, 3] = corner_mm
    return affine
