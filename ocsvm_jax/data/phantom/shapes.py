"""Lesion shapes of real patients, from a folder of NIfTI masks in MNI space."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax.data.phantom.anatomy import Tissue
from ocsvm_jax.data.phantom.files import nibabel

_SUFFIXES = (".nii", ".nii.gz")
_IMAGE = re.compile(r"(^|[-_.])t1w?[-_.]", re.IGNORECASE)
_MASK = re.compile("lesion|mask", re.IGNORECASE)


class Shape(NamedTuple):
    """A mask: its file, its voxels (x, y, z), and the affine from voxels to MNI mm."""

    path: Path
    mask: Bool[np.ndarray, "X Y Z"]
    affine: Float[np.ndarray, "4 4"]


def read_shapes(folder: Path) -> tuple[Shape, ...]:
    """Reads all masks in a folder, .nii and .nii.gz files, in the order of their names.

    Any grid is accepted, as long as the affine maps to MNI coordinates. Images are ignored, that
    is, files with T1 or T1w as a part of the name ("patient07_T1_MNI.nii.gz") and neither "lesion"
    nor "mask".

    Raises:
      ValueError: if there is no mask, or one is damaged, not 3-D, not binary or empty.
    """
    if not folder.is_dir():
        raise ValueError(f"Lesion masks: there is no folder {folder}.")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_SUFFIXES))
    if not files:
        raise ValueError(f"Lesion masks: {folder} holds no file that ends in .nii or .nii.gz.")
    paths = [path for path in files if not _is_image(path.name)]
    if not paths:
        raise ValueError(
            f"Lesion masks: {folder} holds no mask but only images: images named T1 are ignored, "
            f"such as {files[0].name}."
        )
    return tuple(_read(path) for path in paths)


def identity(shapes: tuple[Shape, ...]) -> str:
    """SHA-256 of the shapes, to identify the lesions of a population."""
    digest = hashlib.sha256()
    for shape in shapes:
        digest.update(repr((shape.mask.shape, shape.affine.tolist())).encode())
        digest.update(np.packbits(shape.mask).tobytes())
    return digest.hexdigest()


def planted(
    rng: np.random.Generator,
    shapes: tuple[Shape, ...],
    points: Float[np.ndarray, "3 z x y"],
    tissue: Tissue,
) -> Bool[np.ndarray, "z x y"]:
    """A random shape, restricted to white matter, at the given points.

    Shapes that do not meet the slab's white matter are skipped.

    Args:
      rng: random generator.
      shapes: the shapes to choose from.
      points: x, y and z of the template, mm, per computed voxel.
      tissue: the tissue of the subject.

    Raises:
      ValueError: if no shape meets white matter.
    """
    for index in rng.permutation(len(shapes)):
        shape = shapes[index]
        inverse = np.linalg.inv(shape.affine)
        voxels = np.einsum("ij,jzxy->izxy", inverse[:3, :3], points)
        voxels += inverse[:3, 3].reshape(3, 1, 1, 1)
        values = ndimage.map_coordinates(shape.mask.astype(np.float32), voxels, order=1)
        lesion = (values > 0.5) & (tissue.wm > 0.5) & tissue.mask
        if lesion.any():
            return lesion
    raise ValueError(
        f"None of the {len(shapes)} masks in {shapes[0].path.parent} meets white matter in the "
        "slices that are drawn. They must be in MNI space, with an affine that says so."
    )


def _is_image(name: str) -> bool:
    return bool(_IMAGE.search(name)) and not _MASK.search(name)


def _read(path: Path) -> Shape:
    nib = nibabel()
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel, gzip and zlib have no common exception
        raise ValueError(f"Lesion mask {path} cannot be read: {error}") from error
    if values.ndim != 3:
        raise ValueError(f"Lesion mask {path} has shape {values.shape}; it must be 3-D.")
    if not np.isin(values, (0, 1)).all():
        raise ValueError(f"Lesion mask {path} has other values than 0 and 1.")
    if not values.any():
        raise ValueError(f"Lesion mask {path} is empty.")
    return Shape(path, values == 1, np.asarray(image.affine, float))
