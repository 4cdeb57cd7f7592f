"""Judges maps: measures for every patient, and scores of whole images."""

import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain import measures, study
from ocsvm_jax.experiments.brain.maps import as_volume
from ocsvm_jax.experiments.brain.measures import NO_VALUE, SMALLEST_COMPONENT, Measures
from ocsvm_jax.experiments.brain.plan import BrainPlan
from ocsvm_jax.experiments.brain.records import VARIANTS, Judged
from ocsvm_jax.experiments.brain.study import Study

_FPR = 0.01
_MANY = 20_000  # locations above which several processes pay off: they take seconds to start

_Volume = Float[np.ndarray, "z x y"]
_Mask = Bool[np.ndarray, "z x y"]
_Scores = Float[np.ndarray, "n v"]


class _Filter(NamedTuple):
    """Arguments of `measures.postprocessed`."""

    median: int
    erosion: int
    planar: bool

    def __call__(self, volume: _Volume, mask: _Mask) -> tuple[_Volume, _Mask]:
        return measures.postprocessed(volume, mask, **self._asdict())


def judge(plan: BrainPlan, read: Study, locations: _Mask, values: list[_Scores]) -> Judged:
    """Measures of all patients and scores of all images, from one score of one run.

    Args:
      plan: the card.
      read: the data.
      locations: voxels to which the columns of `values` belong, in C order.
      values: one array per cohort of `plan.design.mapped`.
    """
    design, scores = plan.design, dict(zip(plan.design.mapped, values, strict=True))
    planar = study.spaced(read.space)
    post = _Filter(plan.eval.median, plan.eval.erosion, planar)
    held_out = read.cohorts[design.held_out]
    levels = _thresholds(scores[design.held_out], held_out, locations, post)
    patients, images = {}, {}
    for arm in design.arms:
        for name in arm.cohorts:
            cohort = read.cohorts[name]
            images[name] = [
                measures.image_score(as_volume(row, locations), mask & locations, read.exclude)
                for row, mask in zip(scores[name], cohort.masks, strict=True)
            ]
            if name != arm.controls:
                patients[name] = _patients(scores[name], cohort, locations, levels, post)
    return Judged(levels, patients, images)


def _thresholds(
    scores: _Scores, held_out: Cohort, locations: _Mask, post: _Filter
) -> dict[str, float]:
    """Threshold per variant, exceeded by 1% of the held-out normal subjects' voxels."""
    volumes = [as_volume(row, locations) for row in scores]
    masks = list(held_out.masks & locations)
    filtered = [post(volume, mask) for volume, mask in zip(volumes, masks, strict=True)]
    raw = measures.threshold_at(volumes, masks, _FPR)
    post_processed = measures.threshold_at(*map(list, zip(*filtered, strict=True)), fpr=_FPR)
    return dict(zip(VARIANTS, (raw, post_processed), strict=True))


def _patients(
    scores: _Scores, cohort: Cohort, locations: _Mask, levels: dict[str, float], post: _Filter
) -> dict[str, list[Measures]]:
    """Measures of every patient, by variant.

    They are NaN if no lesion voxel lies at `locations`, or if none remains after erosion.
    """
    from joblib import Parallel, delayed

    tasks = (
        delayed(_patient)(as_volume(row, locations), lesion, mask & locations, levels, post)
        for row, lesion, mask in zip(scores, cohort.lesions, cohort.masks, strict=True)
    )
    jobs = (os.cpu_count() or 1) if locations.sum() > _MANY else 1
    found: list[Any] = list(Parallel(n_jobs=jobs)(tasks))
    return dict(zip(VARIANTS, map(list, zip(*found, strict=True)), strict=True))


def _patient(
    score: _Volume, lesion: _Mask, mask: _Mask, levels: dict[str, float], post: _Filter
) -> list[Measures]:
    pairs = ((score, mask), 1), (post(score, mask), SMALLEST_COMPONENT)
    found = []
    for variant, ((values, inside), smallest) in zip(VARIANTS, pairs, strict=True):
        if not (lesion & inside).any():
            found.append(NO_VALUE)
            continue
        options = {"smallest": smallest, "planar": post.planar}
        found.append(measures.measure(values, lesion, inside, threshold=levels[variant], **options))
    return found
