"""What maps are worth: the measures of every patient, the scores of whole images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain import measures
from ocsvm_jax.experiments.brain.maps import as_volume
from ocsvm_jax.experiments.brain.measures import MEASURES, SMALLEST_COMPONENT

VARIANTS = ("raw", "post-processed")
_FPR = 0.01

_Volume = Float[np.ndarray, "z x y"]
_Mask = Bool[np.ndarray, "z x y"]


def thresholds(
    scores: Float[np.ndarray, "n v"], held_out: Cohort, locations: _Mask, post: Mapping[str, Any]
) -> dict[str, float]:
    """For each variant, the threshold that 1% of the held-out normal subjects' voxels exceed."""
    volumes = [as_volume(row, locations) for row in scores]
    masks = list(held_out.masks & locations)
    filtered = [measures.postprocessed(v, m, **post) for v, m in zip(volumes, masks, strict=True)]
    return {
        "raw": measures.threshold_at(volumes, masks, _FPR),
        "post-processed": measures.threshold_at(
            [score for score, _ in filtered], [mask for _, mask in filtered], _FPR
        ),
    }


def judge_patients(
    scores: Float[np.ndarray, "n v"],
    cohort: Cohort,
    locations: _Mask,
    levels: Mapping[str, float],
    post: Mapping[str, Any],
    *,
    jobs: int,
) -> dict[str, dict[str, list[float]]]:
    """Every measure of every patient, with and without post-processing.

    Args:
      scores: of a cohort of patients, one row each.
      cohort: the patients.
      locations: of the columns of the scores.
      levels: see `thresholds`.
      post: arguments of `measures.postprocessed`.
      jobs: processes.

    Returns:
      For each of `VARIANTS` and each of `MEASURES`, and "prevalence", a value for each patient; NaN
      where no voxel of the lesion lies where maps are made (or is left after the erosion).
    """
    from joblib import Parallel, delayed

    tasks = (
        delayed(_judge)(as_volume(row, locations), lesion, mask & locations, levels, post)
        for row, lesion, mask in zip(scores, cohort.lesions, cohort.masks, strict=True)
    )
    found: list[Any] = list(Parallel(n_jobs=jobs)(tasks))
    return {
        variant: {name: [one[variant][name] for one in found] for name in (*MEASURES, "prevalence")}
        for variant in VARIANTS
    }


def _judge(
    score: _Volume,
    lesion: _Mask,
    mask: _Mask,
    levels: Mapping[str, float],
    post: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    filtered, kept = measures.postprocessed(score, mask, **post)
    planar = post["planar"]
    pairs = {"raw": (score, mask, 1), "post-processed": (filtered, kept, SMALLEST_COMPONENT)}
    out = {}
    for variant, (values, inside, smallest) in pairs.items():
        if not (lesion & inside).any():
            out[variant] = dict.fromkeys((*MEASURES, "prevalence"), float("nan"))
            continue
        out[variant] = measures.measure(
            values, lesion, inside, threshold=levels[variant], smallest=smallest, planar=planar
        )
    return out


def judge_images(
    scores: Float[np.ndarray, "n v"], cohort: Cohort, locations: _Mask, exclude: _Mask | None
) -> list[float]:
    """The score of each image of a cohort."""
    return [
        measures.image_score(as_volume(row, locations), mask & locations, exclude)
        for row, mask in zip(scores, cohort.masks, strict=True)
    ]


def summary(values: Sequence[Sequence[float]]) -> dict[str, float]:
    """Mean over patients and seeds, and what it varies by.

    Args:
      values: (seeds, patients), NaN where a patient has no value.

    Returns:
      "mean"; "sd_patients", over patients of their means over seeds; "sd_seeds", over seeds of
      their means over patients (0 for one seed); "patients", how many have a value.
    """
    array = np.asarray(values, float)
    array = array[:, ~np.isnan(array).any(axis=0)]
    n = array.shape[1]
    if n == 0:
        return {"mean": np.nan, "sd_patients": np.nan, "sd_seeds": np.nan, "patients": 0}
    by_seed = array.mean(axis=1)
    return {
        "mean": float(array.mean()),
        "sd_patients": float(array.mean(axis=0).std(ddof=1)) if n > 1 else 0.0,
        "sd_seeds": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else 0.0,
        "patients": n,
    }
