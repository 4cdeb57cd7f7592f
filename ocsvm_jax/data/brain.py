"""Cohorts of brain images: folders of NIfTI files in, arrays out, and score maps back to files.

Layout: `<root>/<cohort>/<subject>_T1.nii.gz`, all in one space (MNI), optionally with
`<subject>_mask.nii.gz` and `<subject>_lesion.nii.gz`; the patterns can be chosen. Arrays are
(z, x, y) per subject: axial slices first, then left to right and posterior to anterior.
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocsvm_jax import extras
from ocsvm_jax.data import nifti
from ocsvm_jax.suggestions import unknown

with extras.needed_by(__name__, "mri"):
    from tqdm import tqdm

IMAGE, MASK, LESION = (f"{{subject}}_{kind}.nii.gz" for kind in ("T1", "mask", "lesion"))
INTENSITIES = ("minmax", "percentile", "none")
LESION_OUTSIDE = ("error", "clip")
_SLICE_TOLERANCE = 1e-2  # mm, between a coordinate asked for and that of a slice


class Space(NamedTuple):
    """The voxel grid that all files of an experiment share, and the slices of it that are read.

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
      name: name of the folder, which for a link is that of the link.
      subjects: the n names, sorted.
      images: (n, z, x, y) float32, 0 outside the masks, in [0, 1] unless intensity="none".
      masks: (n, z, x, y) bool, the brain.
      lesions: (n, z, x, y) bool, within the masks; all False if the cohort has no lesion files.
      has_lesions: whether it has.
    """

    name: str
    subjects: tuple[str, ...]
    images: np.ndarray
    masks: np.ndarray
    lesions: np.ndarray
    has_lesions: bool


class Files(NamedTuple):
    """The files of one subject; None where it has no such file."""

    subject: str
    image: Path
    mask: Path | None
    lesion: Path | None


def find(
    root: str | Path, cohort: str, *, image: str = IMAGE, mask: str = MASK, lesion: str = LESION
) -> list[Files]:
    """Finds the subjects of a cohort, sorted by name. Nothing is opened.

    A subject is what has an image: masks without one are passed over.

    Args:
      root: folder of the cohorts.
      cohort: name of a folder in it; "" or "." for the root itself.
      image: path of an image inside the cohort's folder, with {subject} for its name.
      mask: the same for brain masks; "" for none.
      lesion: the same for lesion masks; "" for none.

    Raises:
      FileNotFoundError: if there is no root, or no image in the cohort.
      ValueError: for a cohort that does not exist, or a pattern without {subject}.
    """
    for name, pattern in {"image": image, "mask": mask, "lesion": lesion}.items():
        if "{subject}" not in pattern and (pattern or name == "image"):
            raise ValueError(
                f"{name}={pattern!r} lacks {{subject}}, as in '{{subject}}_T1.nii.gz'."
            )
    folder = _folder(Path(root), cohort)
    # The first {subject} is any name, but not that of a hidden file; the others are the same name.
    start, *others = re.escape(image).split(re.escape("{subject}"))
    regex = re.compile(start + r"(?P<subject>[^/.][^/]*)" + r"(?P=subject)".join(others))
    paths = folder.glob("*".join(glob.escape(part) for part in image.split("{subject}")))
    found = [regex.fullmatch(p.relative_to(folder).as_posix()) for p in paths if p.is_file()]
    subjects = sorted(match["subject"] for match in found if match)

    def file(pattern: str, subject: str) -> Path | None:
        path = folder / pattern.replace("{subject}", subject)
        return path if pattern and path.is_file() else None

    files = [
        Files(s, folder / image.replace("{subject}", s), file(mask, s), file(lesion, s))
        for s in subjects
    ]
    # A pattern such as {subject}.nii.gz finds the masks too, as images of subjects of their own.
    companions = {path for _, _, *paths in files for path in paths}
    files = [f for f in files if f.image not in companions or f.image in f[2:]]
    if not files:
        raise FileNotFoundError(f"no file {image} in {folder}, which holds {_content(folder)}.")
    return files


def read_space(files: str | Path | Sequence[Files], slices_mm: Sequence[float] = ()) -> Space:
    """Reads the voxel grid of a file, or of the first image of a cohort.

    Args:
      files: a NIfTI file, or what `find` returned.
      slices_mm: z coordinates of the slices to read, in mm (of MNI space, if that is the
        file's); () for all. They are read from inferior to superior, whatever their order here.

    Raises:
      ValueError: for a coordinate at which there is no slice, or that is named twice; otherwise
        as `check`.
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
        raise ValueError(f"slices_mm={tuple(slices_mm)} names a slice twice.")
    return Space(header.shape, header.affine, tuple(sorted(slices) or range(len(there))))


def check(files: Sequence[Files], space: Space) -> None:
    """Checks by their headers alone, which is fast, that the files of a cohort lie in a space.

    Raises:
      ValueError: if a file has another shape or affine, lies obliquely, is not one 3-D volume or
        is damaged, or if some subjects have a mask or lesion file and others have none.
    """
    for kind in ("mask", "lesion"):
        lacking = [f.subject for f in files if getattr(f, kind) is None]
        if 0 < len(lacking) < len(files):
            # A patient whose file is missing would otherwise count as healthy, without a word.
            raise ValueError(
                f"{files[0].image.parent}: {len(lacking)} of {len(files)} subjects have no {kind} "
                f"file ({_some(lacking)}). Add the missing ones, or put these subjects into a "
                "cohort of their own."
            )
    for path in (p for f in files for p in f[1:] if isinstance(p, Path)):
        check_grid(path, space)


def check_grid(path: Path, space: Space) -> None:
    """Checks by its header that a file lies in a space.

    Raises:
      ValueError: if it has another shape or affine, lies obliquely, is not one 3-D volume or is
        damaged.
    """
    resample = "Resample it to the grid of the others, masks to the nearest neighbour"
    header = nifti.read_header(path)
    if header.shape != space.shape:
        raise ValueError(
            f"{path} has the shape {header.shape} (x, y, z) where {space.shape} is expected. "
            f"{resample} (nilearn.image.resample_to_img)."
        )
    if not np.allclose(header.affine, space.affine, rtol=0, atol=nifti.TOLERANCE):
        raise ValueError(
            f"{path} has the affine\n{header.affine}\nin canonical orientation where\n"
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

    Intensities are scaled by the whole volume, so that a slice has the same values whichever
    others are read. What headers can tell is checked for all files before the first is read.

    Args:
      root: folder of the cohorts.
      name: name of the cohort, as in `find`.
      space: the space the files must lie in, such as that of the training cohort; None for that
        of the first file.
      slices_mm: as in `read_space`; not together with `space`.
      intensity: "minmax", the paper's: least value in the mask -> 0, largest -> 1. "percentile":
        divided by the 99.5th percentile in the mask, clipped to [0, 1]. "none": as they are.
      image: pattern of the images, as in `find`.
      mask: pattern of the brain masks; without such files, the brain is where the image is not 0.
      lesion: pattern of the lesion masks.
      lesion_outside: "error" refuses lesions that reach out of the brain mask, "clip" cuts off
        what lies outside.
      progress: whether to show a progress bar, on a terminal.

    Raises:
      FileNotFoundError: as `find`.
      ValueError: as `find`, `read_space` and `check`; for files that are damaged, hold NaN, or
        are masks and not binary; for empty masks, lesions outside the brain and images that
        cannot be scaled. The message names the file.
    """
    if intensity not in INTENSITIES:
        raise ValueError(unknown("intensity", intensity, INTENSITIES))
    if lesion_outside not in LESION_OUTSIDE:
        raise ValueError(unknown("lesion_outside", lesion_outside, LESION_OUTSIDE))
    if space is not None and len(slices_mm):
        raise ValueError(f"slices_mm={tuple(slices_mm)} goes without space, which names slices.")
    files = find(root, name, image=image, mask=mask, lesion=lesion)
    space = read_space(files, slices_mm) if space is None else space
    check(files, space)

    shape = (len(files), len(space.slices), *space.shape[:2])
    images = np.zeros(shape, np.float32)
    masks, lesions = np.zeros(shape, bool), np.zeros(shape, bool)
    folder = _folder(Path(root), name)
    title = (folder.resolve() if name in ("", ".") else folder).name
    bar = tqdm(files, desc=title, unit="subject", disable=None if progress else True)
    for i, subject in enumerate(bar):
        images[i], masks[i], lesions[i] = _read_subject(subject, space, intensity, lesion_outside)
    names = tuple(f.subject for f in files)
    return Cohort(title, names, images, masks, lesions, files[0].lesion is not None), space


def write_map(
    path: str | Path, scores: np.ndarray, space: Space, *, like: np.ndarray | None = None
) -> None:
    """Writes a score map as a float32 .nii.gz of the whole grid, 0 in slices that were not read.

    Args:
      path: the file, which appears whole or not at all; its folder is created.
      scores: (z, x, y), one slice for each of `space.slices`.
      space: the space of the cohort.
      like: (4, 4), affine of the input's file (`nifti.read_header(file).file_affine`), to write
        the map with this affine and order of axes; None for those of `space`.

    Raises:
      ValueError: for scores of another shape, a name that does not end in .nii.gz, or an affine
        that is not one of this space.
    """
    expected = (len(space.slices), *space.shape[:2])
    if scores.shape != expected:
        raise ValueError(
            f"scores for {path} have the shape {scores.shape}; this space has {expected} (z, x, y)."
        )
    volume = np.zeros(space.shape, np.float32)
    volume[:, :, space.slices] = np.moveaxis(scores, 0, 2)
    nifti.write_volume(path, volume, space.affine, like)


def _read_subject(
    files: Files, space: Space, intensity: str, lesion_outside: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | bool]:
    """Image, brain mask and lesion of one subject, each (z, x, y); False without lesion file."""
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
                f"the brain, that is, outside {mask_file}. Correct one of them, or cut "
                "these voxels off with lesion_outside='clip' (--config.data.lesion_outside=clip)."
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
            f"from {values.min():g} to {values.max():g}. Is it the image, and not a mask?"
        )
    return low, np.float32(high)


def _slices(volume: np.ndarray, space: Space) -> np.ndarray:
    """The slices to read, (x, y, z) -> (z, x, y)."""
    return np.moveaxis(volume[:, :, space.slices], 2, 0)


def _folder(root: Path, cohort: str) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; it should hold one folder per cohort.")
    folder = root / cohort
    if not folder.is_dir():
        names = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        raise ValueError(
            unknown(f"cohort in {root}:", cohort, names or ["'.' (the folder itself)"])
        )
    return folder


def _content(folder: Path) -> str:
    return _some(sorted(p.name for p in folder.iterdir() if p.name[0] != ".")) or "nothing"


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _coordinates(z: np.ndarray) -> str:
    """Where the slices are."""
    if len(z) <= 8:
        return f"There are {', '.join(f'{at:g}' for at in z)}."
    return f"There are {len(z)}, from {z[0]:g} to {z[-1]:g} mm, every {z[1] - z[0]:g} mm."
