"""Reads and writes single volumes as NIfTI files, in canonical orientation.

Canonical (RAS) means that axis 0 runs from left to right, axis 1 from posterior to anterior and
axis 2 from inferior to superior. Files with their axes in another order or direction are reoriented
to it; only grids that are oblique to these directions are refused. Every error names its file.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file

TOLERANCE = 1e-3  # between affines, in mm, and between direction cosines


class Header(NamedTuple):
    """The header of a volume.

    Attributes:
      shape: voxels along x, y and z, canonical.
      affine: (4, 4) float64, canonical voxel indices -> mm.
      file_affine: (4, 4) float64, the same for the indices in the order of the file.
      orientation: (3, 2) nibabel orientation that maps the file's axes to the canonical ones.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    file_affine: np.ndarray
    orientation: np.ndarray


def read_header(path: str | Path) -> Header:
    """Reads and checks the header of a volume, which is fast.

    Raises:
      FileNotFoundError: if the file does not exist.
      PermissionError: if it may not be read.
      ValueError: if the file is damaged, is not NIfTI, does not contain one volume of numbers, does
        not define its position in space, or lies obliquely. The message says what to do.
    """
    nib = _nibabel()
    with _damage_reported(path):
        image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"{path} is a {type(image).__name__}; convert it to .nii.gz (NIfTI).")
    if len(image.shape) != 3:
        raise ValueError(
            f"{path} is {len(image.shape)}-D, of shape {image.shape}; it must be one 3-D volume. "
            "Save the volume to use by itself, for example with nilearn.image.index_img(file, 0)."
        )
    if image.get_data_dtype().kind not in "biuf":
        raise ValueError(f"{path} holds {image.get_data_dtype()}; it must hold real numbers.")
    if not image.header["sform_code"] and not image.header["qform_code"]:
        raise ValueError(
            f"{path} does not say how it lies in space (its sform and qform codes are 0). Set the "
            "sform, or register the image again with a tool that sets it."
        )
    affine = np.array(image.affine, np.float64)
    orientation = _axial_orientation(path, affine)
    turn = nib.orientations.inv_ornt_aff(orientation, image.shape)
    x, y, z = (image.shape[i] for i in np.argsort(orientation[:, 0]))
    return Header((x, y, z), affine @ turn, affine, orientation)


def read_image(path: str | Path) -> np.ndarray:
    """Reads a volume of numbers, all of them finite.

    Returns:
      (x, y, z) float32, canonical.

    Raises:
      ValueError: as `read_header`, and if a value is NaN or infinite.
    """
    volume = _read(path, np.float32)
    if bad := volume.size - np.count_nonzero(np.isfinite(volume)):
        raise ValueError(
            f"{path} holds NaN or infinity in {bad:,} of {volume.size:,} voxels. If these are "
            "background, set them to 0 (np.nan_to_num) and save it again."
        )
    return volume


def read_binary(path: str | Path) -> np.ndarray:
    """Reads a volume that contains 0 and at most one other value.

    Returns:
      (x, y, z) bool, canonical, True where the file is not 0.

    Raises:
      ValueError: as `read_header`, and if the file contains more values.
    """
    volume = _read(path, None)
    mask = volume != 0
    inside = volume[mask]
    if inside.size and np.any(inside != inside[0]):
        values = np.unique(volume)
        shown = ", ".join(f"{value:g}" for value in values[:6])
        raise ValueError(
            f"{path} is not binary: it holds {len(values)} different values ({shown}"
            f"{', ...' if len(values) > 6 else ''}) instead of 0 and 1. Choose the labels to use, "
            "or a threshold, and resample masks to the nearest neighbour."
        )
    return mask


def write_volume(path: str | Path, volume: np.ndarray, affine: np.ndarray, like: np.ndarray | None):
    """Writes a volume as float32 .nii.gz, atomically; equal input gives equal bytes.

    Args:
      path: the file; its folder is created.
      volume: (x, y, z), canonical.
      affine: (4, 4), canonical voxel indices -> mm.
      like: (4, 4) affine of a file on the same grid, whose orientation to use; None for canonical
        orientation.

    Raises:
      ValueError: if the name does not end in .nii.gz, or `like` belongs to another grid.
    """
    nib = _nibabel()
    path = Path(path)
    if not path.name.endswith(".nii.gz"):
        raise ValueError(f"{path} must end in .nii.gz.")
    volume = np.asarray(volume, np.float32)
    if like is not None:
        there = nib.orientations.ornt_transform(
            _axial_orientation(path, affine),
            _axial_orientation(f"the file that {path} should be like", like),
        )
        affine = affine @ nib.orientations.inv_ornt_aff(there, volume.shape)
        volume = nib.orientations.apply_orientation(volume, there)
        if not np.allclose(affine, like, rtol=0, atol=TOLERANCE):
            raise ValueError(
                f"{path} cannot be written like\n{like}\nbecause the grid of this map, in that "
                f"orientation, has the affine\n{affine}\nPass the affine of a file on this grid."
            )
        affine = like
    image = nib.Nifti1Image(volume, affine)
    image.set_qform(affine, code="aligned")  # some tools read only this one
    image.set_sform(affine, code="aligned")
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _nibabel() -> ModuleType:
    return extras.load("nibabel", "reading and writing NIfTI files", "mri")


def _axial_orientation(file: str | Path, affine: np.ndarray) -> np.ndarray:
    """The orientation of an affine whose axes are parallel to the canonical ones."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not size.all():
        raise ValueError(f"{file} has the affine\n{affine}\nwhich does not define a voxel grid.")
    # Columns of direction cosines have one entry of 1 each if the grid is parallel to the axes.
    cosines = np.abs(affine[:3, :3] / size)
    parallel = np.isclose(cosines, 1, rtol=0, atol=TOLERANCE)
    oblique = ~parallel & (cosines > TOLERANCE)
    if oblique.any() or not (parallel.sum(0) == 1).all() or not (parallel.sum(1) == 1).all():
        raise ValueError(
            f"{file} lies obliquely, its slices are not axial: its affine is\n{affine}\nResample "
            "it to the MNI grid (a registration tool, or nilearn.image.resample_img)."
        )
    return _nibabel().orientations.io_orientation(affine)


def _read(path: str | Path, dtype: type[np.floating] | None) -> np.ndarray:
    """The values of a volume, (x, y, z) canonical; dtype None keeps the dtype of the file."""
    nib = _nibabel()
    orientation = read_header(path).orientation
    with _damage_reported(path):
        content = Path(path).read_bytes()
        if content[:2] == b"\x1f\x8b":
            # Decompressed here, since nibabel stops at the last voxel and never compares the
            # checksum at the end.
            content = gzip.decompress(content)
        image = type(nib.load(path)).from_bytes(content)
        values = np.asanyarray(image.dataobj) if dtype is None else image.get_fdata(dtype=dtype)
    return nib.orientations.apply_orientation(values, orientation)


@contextmanager
def _damage_reported(path: str | Path) -> Iterator[None]:
    """Turns the exceptions of nibabel, gzip and zlib for damaged files into one message."""
    nib = _nibabel()
    faults = (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)
    try:
        yield
    except (FileNotFoundError, PermissionError):  # copying or downloading again would not help
        raise
    except (*faults, ValueError, EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path} ({Path(path).stat().st_size:,} bytes) cannot be read: {error}. Copy or "
            "download it again."
        ) from error
