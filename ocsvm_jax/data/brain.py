"""Cohorts of brain images: reads folders of NIfTI files, and writes score maps.

Layout: `<root>/<cohort>/<subject>_T1.nii.gz`, all in one space (MNI), optionally with
`<subject>_mask.nii.gz` and `<subject>_lesion.nii.gz`; the patterns can be chosen. Arrays are
(z, x, y) per subject: axial slices first, then left to right and posterior to anterior.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocsvm_jax import extras
from ocsvm_jax.data import nifti
from ocsvm_jax.data.cohort_files import (
    IMAGE,
    LESION,
    MASK,
    Files,
    find,
    folder_of,
    shortened,
)
from ocsvm_jax.suggestions import unknown

with extras.needed_by(__name__, "mri"):
    from tqdm import tqdm

__all__ = [
    "IMAGE",
    "INTENSITIES",
    "LESION",
    "LESION_OUTSIDE",
    "MASK",
    "Cohort",
    "Files",
    "Space",
    "check",
    "check_grid",
    "find",
    "read_cohort",
    "read_space",
    "write_map",
]

INTENSITIES = ("minmax", "percentile", "none")
LESION_OUTSIDE = ("error", "clip")
_SLICE_TOLERANCE = 1e-2  # mm, between a requested coordinate and that of a slice


class Space(NamedTuple):
    """The voxel grid that all files of an experiment share, and the slices that are read.

    Attributes:
      shape: voxels along x, y and z, canonical.
      affine: (4, 4) float64, canonical voxel indices -> mm.
      slices: increasing indices along z.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    slices: tuple[int, ...]


class Cohort(NamedTuple):
    """The subjects of one folder.

    Attributes:
      name: name of the folder; for a link, the name of the link.
      subjects: names of the n subjects, sorted.
      images: (n, z, x, y) float32, 0 outside the masks, in [0, 1] unless intensity="none".
      masks: (n, z, x, y) bool, the brain.
      lesions: (n, z, x, y) bool, within the masks; all False if the cohort has no lesion files.
      has_lesions: whether the cohort has lesion files.
    """

    name: str
    subjects: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray
    lesions: np.ndarray
    has_lesions: bool


def read_space(files: str | Path | Sequence[Files], slices_mm: Sequence[float] = ()) -> Space:
    """Reads the voxel grid of a file, or of the first image of a cohort.

    Args:
      files: a NIfTI file, or the result of `find`.
      slices_mm: z coordinates of the slices to read, in mm of the file's space (MNI); () for all.
        They are read from inferior to superior, whatever their order here.

    Raises:
      ValueError: if there is no slice at a coordinate, or a coordinate is given twice; otherwise as
        `check`.
    """
    path = files if isinstance(files, str | Path) else files[0].image
    header = nifti.read_header(path)
    there = header.affine[2, 3] + header.affine[2, 2] * np.arange(header.shape[2])
    slices = []
    for wanted in slices_mm:
        (at,) = np.nonzero(np.abs(there - wanted) <= _SLICE_TOLERANCE)
        if not len(at):
            raise ValueError(f"{path} has no slice at z = {wanted:g} mm. {_coordinates(there)}")
        slices.append(int(at[0]))
    if len(set(slices)) < len(slices):
        raise ValueError(f"slices_mm={tuple(slices_mm)} contains a slice twice.")
    return Space(header.shape, header.affine, tuple(sorted(slices) or range(len(there))))


def check(files: Sequence[Files], space: Space) -> None:
    """Checks that the files of a cohort lie in a space, by their headers only, which is fast.

    Raises:
      ValueError: if a file has another shape or affine, lies obliquely, is not one 3-D volume or
        is damaged, or if some subjects have a mask or lesion file and others have none.
    """
    for kind in ("mask", "lesion"):
        lacking = [f.subject for f in files if getattr(f, kind) is None]
        if 0 < len(lacking) < len(files):
            # A patient whose file is missing would otherwise silently count as healthy.
            raise ValueError(
                f"{files[0].image.parent}: {len(lacking)} of {len(files)} subjects have no {kind} "
                f"file ({shortened(lacking)}). Add the missing ones, or put these subjects into a "
                "cohort of their own."
            )
    for path in (p for f in files for p in f[1:] if isinstance(p, Path)):
        check_grid(path, space)


def check_grid(path: Path, space: Space) -> None:
    """Checks that a file lies in a space, by its header only.

    Raises:
      ValueError: if it has another shape or affine, lies obliquely, is not one 3-D volume or is
        damaged.
    """
    resample = "Resample it to the grid of the others, with nearest neighbours for masks"
    header = nifti.read_header(path)
    if header.shape != space.shape:
        raise ValueError(
            f"{path} has the shape {header.shape} (x, y, z), but {space.shape} is expected. "
            f"{resample} (nilearn.image.resample_to_img)."
        )
    if not np.allclose(header.affine, space.affine, rtol=0, atol=nifti.TOLERANCE):
        raise ValueError(
            f"{path} has the affine\n{header.affine}\nin canonical orientation, but\n"
            f"{space.affine}\nis expected. {resample} (nilearn.image.resample_to_img)."
        )


def read_cohort(
    root: str | Path,
    name: str,
    *,
    space: Space | None = None,
    slices_mm: Sequence[float] = (),
    intensity: str = "minmax",
    image: str = IMAGE,
    mask: str = MASK,
    lesion: str = LESION,
    lesion_outside: str = "error",
    progress: bool = True,
) -> tuple[Cohort, Space]:
    """Reads a cohort, one volume after the other; only the chosen slices stay in memory.

    Intensities are scaled by the whole volume, so the values of a slice do not depend on which
    other slices are read. The headers of all files are checked before the first volume is read.

    Args:
      root: folder that contains the cohorts.
      name: name of the cohort, as in `find`.
      space: the space the files must lie in, such as that of the training cohort; None for that
        of the first file.
      slices_mm: as in `read_space`; not together with `space`.
      intensity: "minmax", as in the paper: the smallest value in the mask becomes 0, the largest 1.
        "percentile": divided by the 99.5th percentile in the mask, clipped to [0, 1]. "none":
        unchanged.
      image: pattern of the images, as in `find`.
      mask: pattern of the brain masks; without such files, the brain is where the image is not 0.
      lesion: pattern of the lesion masks.
      lesion_outside: "error" refuses lesions that extend outside the brain mask, "clip" removes the
        part outside.
      progress: whether to show a progress bar, on a terminal.

    Raises:
      FileNotFoundError: as `find`.
      ValueError: as `find`, `read_space` and `check`; if a file is damaged or contains NaN, or a
        mask is not binary or is empty; if a lesion extends outside the brain, or an image cannot be
        scaled. The message names the file.
    """
    _check_options(intensity, lesion_outside)
    if space is not None and len(slices_mm):
        raise ValueError(f"slices_mm={tuple(slices_mm)} and space both choose slices; pass one.")
    files = find(root, name, image=image, mask=mask, lesion=lesion)
    space = read_space(files, slices_mm) if space is None else space
    check(files, space)
    folder = folder_of(Path(root), name)
    title = (folder.resolve() if name in ("", ".") else folder).name
    options = {"intensity": intensity, "lesion_outside": lesion_outside, "progress": progress}
    return read_files(files, space, name=title, **options), space


def read_files(
    files: Sequence[Files],
    space: Space,
    *,
    name: str,
    intensity: str = "minmax",
    lesion_outside: str = "error",
    progress: bool = True,
) -> Cohort:
    """Reads the files of a cohort that `find` found and `check` checked, see `read_cohort`.

    Args:
      files: of the subjects.
      space: in which they lie.
      name: of the cohort.
      intensity: see `read_cohort`.
      lesion_outside: see `read_cohort`.
      progress: whether to show a progress bar, on a terminal.

    Raises:
      ValueError: for files that are damaged, hold NaN, or are masks and not binary; for empty
        masks, lesions outside the brain and images that cannot be scaled.
    """
    _check_options(intensity, lesion_outside)
    shape = (len(files), len(space.slices), *space.shape[:2])
    images = np.zeros(shape, np.float32)
    masks, lesions = np.zeros(shape, bool), np.zeros(shape, bool)
    bar = tqdm(files, desc=name, unit="subject", disable=None if progress else True)
    for i, subject in enumerate(bar):
        images[i], masks[i], lesions[i] = _read_subject(subject, space, intensity, lesion_outside)
    names = tuple(f.subject for f in files)
    return Cohort(name, names, images, masks, lesions, files[0].lesion is not None)


def write_map(
    path: str | Path, scores: np.ndarray, space: Space, *, like: np.ndarray | None = None
) -> None:
    """Writes a score map as a float32 .nii.gz of the whole grid, 0 in slices that were not read.

    Args:
      path: the file, written atomically; its folder is created.
      scores: (z, x, y), one slice per entry of `space.slices`.
      space: the space of the cohort.
      like: (4, 4) affine of the input's file (`nifti.read_header(file).file_affine`), to write the
        map with this affine and order of axes; None for those of `space`.

    Raises:
      ValueError: if scores have another shape, the name does not end in .nii.gz, or the affine does
        not belong to this space.
    """
    expected = (len(space.slices), *space.shape[:2])
    if scores.shape != expected:
        raise ValueError(
            f"scores for {path} have the shape {scores.shape}; this space has {expected} (z, x, y)."
        )
    volume = np.zeros(space.shape, np.float32)
    volume[:, :, space.slices] = np.moveaxis(scores, 0, 2)
    nifti.write_volume(path, volume, space.affine, like)


def _check_options(intensity: str, lesion_outside: str) -> None:
    if intensity not in INTENSITIES:
        raise ValueError(unknown("intensity", intensity, INTENSITIES))
    if lesion_outside not in LESION_OUTSIDE:
        raise ValueError(unknown("lesion_outside", lesion_outside, LESION_OUTSIDE))


def _read_subject(
    files: Files, space: Space, intensity: str, lesion_outside: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | bool]:
    """Image, brain mask and lesion of a subject, (z, x, y) each; False without a lesion file."""
    image = nifti.read_image(files.image)
    mask = image != 0 if files.mask is None else nifti.read_binary(files.mask)
    mask_file = files.mask or f"the mask of {files.image} (voxels that are not 0)"
    if not mask[:, :, space.slices].any():
        where = "in the slices that are read" if mask.any() else "in the whole volume"
        raise ValueError(f"{mask_file} is empty: it has no voxel {where}.")
    low, high = _range(files.image, image[mask], intensity)
    lesion = False
    if files.lesion is not None:
        lesion = nifti.read_binary(files.lesion)
        outside = np.count_nonzero(lesion & ~mask)
        if outside and lesion_outside == "error":
            raise ValueError(
                f"{files.lesion} has {outside:,} of {np.count_nonzero(lesion):,} voxels outside "
                f"the brain, that is, outside {mask_file}. Correct one of them, or remove "
                "these voxels with lesion_outside='clip' (--config.data.lesion_outside=clip)."
            )
        lesion = _slices(lesion & mask, space)
    mask = _slices(mask, space)
    scaled = (_slices(image, space) - low) / (high - low)
    if intensity == "percentile":
        scaled = np.clip(scaled, 0, 1)
    return np.where(mask, scaled, np.float32(0)), mask, lesion


def _range(path: Path, values: np.ndarray, intensity: str) -> tuple[np.float32, np.float32]:
    """The intensities that become 0 and 1."""
    if intensity == "none":
        return np.float32(0), np.float32(1)
    low = values.min() if intensity == "minmax" else np.float32(0)
    high = values.max() if intensity == "minmax" else np.percentile(values, 99.5)
    if not high > low:
        raise ValueError(
            f"{path} cannot be scaled by intensity={intensity!r}: within the mask its values run "
            f"from {values.min():g} to {values.max():g}. Is it an image, and not a mask?"
        )
    return low, np.float32(high)


def _slices(volume: np.ndarray, space: Space) -> np.ndarray:
    """The slices to read, (x, y, z) -> (z, x, y)."""
    return np.moveaxis(volume[:, :, space.slices], 2, 0)


def _coordinates(z: np.ndarray) -> str:
    """A sentence that says where the slices are."""
    if len(z) <= 8:
        return f"There are {', '.join(f'{at:g}' for at in z)}."
    return f"There are {len(z)}, from {z[0]:g} to {z[-1]:g} mm, every {z[1] - z[0]:g} mm."
