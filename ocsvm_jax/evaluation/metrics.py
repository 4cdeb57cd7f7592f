"""Image-level detection metrics with bootstrap intervals.

The anomaly is the positive class (label 1) and a larger score means more anomalous, throughout.
Point estimates are scikit-learn's; resampling.py computes the same quantities for the bootstrap.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ocsvm_jax import extras
from ocsvm_jax.evaluation import resampling
from ocsvm_jax.evaluation.resampling import MAX_FPR

with extras.needed_by(__name__, "train"):
    from sklearn.metrics import average_precision_score, roc_auc_score

METRICS = ("AUROC", "AUPR", "AUROC30")


class Interval(NamedTuple):
    """A point estimate with its 95% percentile bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Three decimals, such as ``0.563 [0.551, 0.574]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Row(NamedTuple):
    """The results of one score on one set of images.

    Attributes:
      score: name of the score.
      metrics: an interval for each name in `METRICS`.
      n: number of images.
      prevalence: share of anomalous images, in (0, 1); the chance level of AUPR.
      split: name of the set of images, such as ``"test"``; may be empty.
    """

    score: str
    metrics: dict[str, Interval]
    n: int
    prevalence: float
    split: str = ""


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve; 0.5 is chance.

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one; both must occur.
      scores: (n,) finite, larger for more anomalous.

    Raises:
      ValueError: the labels or the scores do not fit this description.
    """
    return float(roc_auc_score(*_checked(labels, scores)))


def aupr(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision; the share of anomalous images is chance. Arguments as in `auroc`."""
    return float(average_precision_score(*_checked(labels, scores)))


def auroc30(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve for false positive rates up to 0.3, standardised after McClish.

    The standardisation maps the area of a chance classifier to 0.5 and the largest possible area
    to 1. Arguments as in `auroc`.
    """
    return float(roc_auc_score(*_checked(labels, scores), max_fpr=MAX_FPR))


POINT_VALUES = dict(zip(METRICS, (auroc, aupr, auroc30), strict=True))


def bootstrap(
    labels: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    clusters: ArrayLike | None = None,
) -> dict[str, dict[str, Float[np.ndarray, " resamples"]]]:
    """The metrics of each score on resampled images.

    A resample draws n of the n images with replacement, without stratification: the number of
    anomalous images varies from one resample to the next. One that lacks a class has no ROC curve
    and is drawn again. The resamples do not depend on the scores, so the i-th value of one score
    and the i-th value of another are paired.

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one; both must occur.
      scores: for each name, (n,) finite scores, larger for more anomalous.
      num_resamples: number of resamples, at least 1.
      seed: seed of the NumPy generator.
      clusters: (n,) whole numbers, equal for images that are drawn together, such as those of one
        digit under several corruptions: they are no independent images. None to draw each alone.

    Returns:
      For each score and each metric of `METRICS`, the values in the order of the resamples.

    Raises:
      ValueError: an argument does not fit this description.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}: it must be at least 1.")
    if not scores:
        raise ValueError("No scores were given: pass a mapping from name to (n,) scores.")
    anomalous = _checked_labels(labels)
    together = None if clusters is None else _checked_clusters(clusters, anomalous)
    rankings = {
        name: resampling.rank(anomalous, _checked_scores(s, anomalous.size, name))
        for name, s in scores.items()
    }
    chunks = {name: [] for name in rankings}
    for counts in resampling.resamples(anomalous, num_resamples, seed, together):
        for name, ranking in rankings.items():
            chunks[name].append(resampling.weighted_metrics(ranking, counts))
    values = {name: np.concatenate(chunk) for name, chunk in chunks.items()}
    return {name: dict(zip(METRICS, v.T, strict=True)) for name, v in values.items()}


def evaluate(
    labels: ArrayLike, scores: ArrayLike, *, num_resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Every metric of `METRICS` with its interval; arguments as in `bootstrap`."""
    (row,) = table(labels, {"scores": scores}, num_resamples=num_resamples, seed=seed)
    return row.metrics


def table(
    labels: ArrayLike,
    scores: Mapping[str, ArrayLike],
    *,
    split: str = "",
    num_resamples: int = 1000,
    seed: int = 0,
) -> list[Row]:
    """One row of results for each score, all on the same resamples.

    Args:
      labels: see `bootstrap`.
      scores: see `bootstrap`.
      split: name of this set of images, copied into the rows.
      num_resamples: see `bootstrap`.
      seed: see `bootstrap`.
    """
    resampled = bootstrap(labels, scores, num_resamples=num_resamples, seed=seed)
    anomalous = _checked_labels(labels)
    rows = []
    for name, values in resampled.items():
        metrics = {
            metric: Interval(
                function(anomalous, scores[name]),
                *np.percentile(values[metric], (2.5, 97.5)).tolist(),
            )
            for metric, function in POINT_VALUES.items()
        }
        rows.append(Row(name, metrics, anomalous.size, float(anomalous.mean()), split))
    return rows


def format_table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """The rows as aligned text for a terminal, or as a Markdown table; no final newline.

    The column that names the split is left out when no row has one.
    """
    lines = [["split", "score", *METRICS, "n", "anomalous"]]
    for row in rows:
        numbers = [str(row.metrics[metric]) for metric in METRICS]
        lines.append([row.split, row.score, *numbers, f"{row.n:,}", f"{row.prevalence:.1%}"])
    if not any(row.split for row in rows):
        lines = [line[1:] for line in lines]
    if markdown:
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    # Names are text, to the left; the last two columns are plain numbers, to the right.
    numeric = [name in ("n", "anomalous") for name in lines[0]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [
        [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        for line in lines
    ]
    rule = [
        "-" * (width - right) + ":" * right for width, right in zip(widths, numeric, strict=True)
    ]
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _checked_labels(labels: ArrayLike) -> Bool[np.ndarray, " n"]:
    values = np.asarray(labels)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"labels has shape {values.shape}: pass one label per image, shape (n,).")
    if not np.isin(values, (0, 1)).all():
        found = ", ".join(map(str, np.unique(values)[:5]))
        raise ValueError(f"labels holds {found}: pass 1 for anomalous and 0 for normal images.")
    anomalous = values.astype(bool)
    if anomalous.all() or not anomalous.any():
        raise ValueError(
            f"All {anomalous.size} labels are {int(anomalous[0])}: "
            "the metrics need normal (0) and anomalous (1) images."
        )
    return anomalous


def _checked_clusters(
    clusters: ArrayLike, anomalous: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Clusters numbered from 0 without gaps."""
    values = np.asarray(clusters)
    if values.shape != anomalous.shape or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"clusters is {values.dtype} of shape {values.shape} and there are {anomalous.size} "
            "labels: pass one whole number per image."
        )
    known, numbered = np.unique(values, return_inverse=True)
    if known.size < 2:
        raise ValueError("All images are in one cluster: there is nothing to resample.")
    return numbered


def _checked_scores(scores: ArrayLike, n: int, name: str) -> Float[np.ndarray, " n"]:
    try:
        values = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not hold numbers: pass real scores, shape (n,).") from error
    if values.shape != (n,):
        raise ValueError(
            f"{name} has shape {values.shape} and there are {n} labels: pass one score per label."
        )
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(
            f"{name} holds {n - finite.sum()} NaN or infinite values out of {n}, the first at "
            f"index {np.argmin(finite)}: find out where the scoring diverged, or drop these images."
        )
    return values


def _checked(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    anomalous = _checked_labels(labels)
    return anomalous, _checked_scores(scores, anomalous.size, "scores")
