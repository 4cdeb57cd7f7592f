"""Writes score volumes as NIfTI files with the affine and axis order of their input."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ocsvm_jax.data import brain, nifti
from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.maps import as_volume, stored_maps
from ocsvm_jax.experiments.brain.study import Study


def write(
    directory: Path,
    scores: Mapping[str, Sequence[np.ndarray]] | Collection[str],
    read: Study,
    cohorts: Sequence[Cohort],
    locations: np.ndarray,
) -> None:
    """Writes `nifti/<cohort>/<subject>_<score>.nii.gz`; files that exist stay as they are.

    Args:
      directory: directory of the run.
      scores: for each score one array (n, v) per cohort, see `maps.make_maps`; or the score names
        of a finished run, whose scores are read from `maps`. If those files are gone, a message is
        printed and nothing is written.
      read: the data, for the space and the input files.
      cohorts: cohorts with maps, aligned with the arrays.
      locations: voxels of the score columns; elsewhere, and outside a subject's own brain mask,
        volumes are 0.
    """
    missing = [
        (name, c, i, path)
        for name in scores
        for c, cohort in enumerate(cohorts)
        for i, subject in enumerate(cohort.subjects)
        if not (path := _path(directory / "nifti", cohort, subject, name)).exists()
    ]
    if not missing:
        return
    stored = not isinstance(scores, Mapping)
    found = stored_maps(cohorts, locations, directory / "maps") if stored else scores
    if found is None:
        print(f"{directory}: no NIfTI maps are added, because the maps of the run no longer exist.")
        return
    for name, c, i, path in missing:
        cohort = cohorts[c]
        volume = np.nan_to_num(as_volume(found[name][c][i], locations)) * cohort.masks[i]
        like = nifti.read_header(read.files[cohort.name][i].image).file_affine
        brain.write_map(path, volume, read.space, like=like)


def _path(directory: Path, cohort: Cohort, subject: str, score: str) -> Path:
    label = {"-f": "minus-f"}.get(score, score)
    return directory / cohort.name / f"{subject}_{label}.nii.gz"
