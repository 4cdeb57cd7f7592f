"""Score volumes as NIfTI files, each with the affine and the order of axes of its input."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ocsvm_jax.data import brain, nifti
from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.maps import as_volume, stored_maps
from ocsvm_jax.experiments.brain.study import Study


def write(
    directory: Path,
    scores: Mapping[str, Sequence[np.ndarray]],
    read: Study,
    cohorts: Sequence[Cohort],
    locations: np.ndarray,
) -> None:
    """Writes `<cohort>/<subject>_<score>.nii.gz`; files that are there stay as they are.

    Args:
      directory: made where it is missing.
      scores: of each score, one array (n, v) a cohort, see `maps.make_maps`.
      read: for the space and the input files.
      cohorts: aligned with the arrays.
      locations: of the columns of the scores; where there are none, and outside a subject's own
        brain mask, the volume is 0.
    """
    for name, values in scores.items():
        for cohort, rows in zip(cohorts, values, strict=True):
            for i, files in enumerate(read.files[cohort.name]):
                path = _path(directory, cohort, files.subject, name)
                if path.exists():
                    continue
                volume = np.nan_to_num(as_volume(rows[i], locations)) * cohort.masks[i]
                like = nifti.read_header(files.image).file_affine
                brain.write_map(path, volume, read.space, like=like)


def add(
    directory: Path,
    names: Iterable[str],
    read: Study,
    cohorts: Sequence[Cohort],
    locations: np.ndarray,
) -> None:
    """Writes what a finished run lacks, from the slices it left; says so if they are gone.

    Args:
      directory: of the run, in which `maps` and `nifti` lie.
      names: of its scores.
      read: as for `write`.
      cohorts: those it made maps of.
      locations: as for `write`.
    """
    complete = all(
        _path(directory / "nifti", cohort, subject, name).exists()
        for name in names
        for cohort in cohorts
        for subject in cohort.subjects
    )
    if complete:
        return
    scores = stored_maps(cohorts, locations, directory / "maps")
    if scores is None:
        print(f"{directory}: no NIfTI maps are added, because its maps are no longer there.")
        return
    write(directory / "nifti", scores, read, cohorts, locations)


def _path(directory: Path, cohort: Cohort, subject: str, score: str) -> Path:
    label = {"-f": "minus-f"}.get(score, score)
    return directory / cohort.name / f"{subject}_{label}.nii.gz"
