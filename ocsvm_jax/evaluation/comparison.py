"""Which method detects best, and how certainly: paired bootstrap, adjusted p-values, mean ± sd.

Every method is compared with the best one on the same resamples of the images. The value of a
method is the mean over its training seeds, never that of one lucky run.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.adjusted import as_numbers, bonferroni, holm

# Closer values differ by rounding only: with 36,000 images and 5 seeds the steps are 3e-10.
_TIE = 1e-12


class Rival(NamedTuple):
    """One method compared with the best.

    Attributes:
      difference: value of the best minus that of this rival, on the original images; not negative
        except for rounding.
      low: lower end of the 95% percentile interval of the difference.
      high: upper end of that interval.
      p: share of the resamples in which this rival beats the best; a tie counts one half.
      p_bonferroni: `p` adjusted for the number of rivals. A `p` below 1 / num_resamples enters as
        1 / num_resamples; the result is then an upper bound, and reports print it as one.
      p_holm: the same with Holm's adjustment.
      significant: whether `p_bonferroni` is at most alpha.
    """

    difference: float
    low: float
    high: float
    p: float
    p_bonferroni: float
    p_holm: float
    significant: bool


class Comparison(NamedTuple):
    """All methods compared with the best one, in one metric.

    Attributes:
      metric: a name in `metrics.METRICS`.
      values: mean over the seeds of each method, on the original images.
      best: the method with the largest value; the first one in a tie.
      rivals: the other methods, in the order given.
      num_resamples: number of resamples behind the p-values.
      alpha: level of significance for `Rival.significant`.
    """

    metric: str
    values: dict[str, float]
    best: str
    rivals: dict[str, Rival]
    num_resamples: int
    alpha: float


class Resampled(NamedTuple):
    """Values of methods, each the mean over its seeds, by metric and method.

    Attributes:
      values: values on the original images.
      resampled: (num_resamples,) values on each resample, which holds the same images for all
        methods.
    """

    values: dict[str, dict[str, float]]
    resampled: dict[str, dict[str, Float[np.ndarray, " resamples"]]]


def compare(
    labels: ArrayLike,
    scores: Mapping[str, Iterable[ArrayLike]],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    alpha: float = 0.01,
) -> dict[str, Comparison]:
    """The paired bootstrap test of the paper (arXiv 2507.21164), over several seeds.

    The images are drawn with replacement, once for all methods and seeds (see
    `metrics.bootstrap`). On each resample a method's value is the mean of the metric over its
    seeds. The resamples represent other images, not other seeds: `mean_sd` reports the spread
    over seeds.

    A bootstrap cannot resolve p-values below 1 / num_resamples. With m rivals, nothing can
    therefore be significant unless `num_resamples` is at least m / alpha (1,100 for 11 rivals and
    alpha = 0.01).

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one; both must occur.
      scores: (seeds, n) finite scores for each of two or more methods, larger for more anomalous,
        as an array or as one (n,) array per seed. Methods may differ in their number of seeds.
      num_resamples: number of resamples, at least 1.
      seed: seed of the resamples.
      alpha: level of significance, in (0, 1).

    Returns:
      A comparison for each metric of `metrics.METRICS`.

    Raises:
      ValueError: an argument does not fit this description.
    """
    _check_comparison(list(scores), alpha)
    return among(resample(labels, scores, num_resamples=num_resamples, seed=seed), alpha=alpha)


def resample(
    labels: ArrayLike,
    scores: Mapping[str, Iterable[ArrayLike]],
    *,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Resampled:
    """The resamples of `compare`: its expensive part, usable for any selection of the methods.

    Args:
      labels: see `compare`.
      scores: see `compare`; one or more methods.
      num_resamples: see `compare`.
      seed: see `compare`.

    Raises:
      ValueError: an argument does not fit this description.
    """
    runs = resample_runs(labels, scores, num_resamples=num_resamples, seed=seed)
    return Resampled(
        {
            metric: {method: float(np.mean(values)) for method, values in own.items()}
            for metric, own in runs.values.items()
        },
        {
            metric: {method: np.mean(values, axis=0) for method, values in own.items()}
            for metric, own in runs.resampled.items()
        },
    )


class Runs(NamedTuple):
    """Every run of every method resampled over images, by metric and method.

    Attributes:
      values: (seeds,) on the original images.
      resampled: (seeds, resamples) on each resample, which is the same for all.
    """

    values: dict[str, dict[str, Float[np.ndarray, " seeds"]]]
    resampled: dict[str, dict[str, Float[np.ndarray, "seeds resamples"]]]


def resample_runs(
    labels: ArrayLike,
    scores: Mapping[str, Iterable[ArrayLike]],
    *,
    clusters: ArrayLike | None = None,
    num_resamples: int,
    seed: int,
) -> Runs:
    """`resample` before the mean over the seeds.

    Args:
      labels: see `compare`.
      scores: see `compare`; one or more methods.
      clusters: as in `metrics.bootstrap`.
      num_resamples: see `compare`.
      seed: see `compare`.
    """
    runs = {method: named_runs(method, rows) for method, rows in scores.items()}
    every_run = {name: row for named in runs.values() for name, row in named.items()}
    drawn = metrics.bootstrap(
        labels, every_run, num_resamples=num_resamples, seed=seed, clusters=clusters
    )
    values, resampled = {}, {}
    for metric, point_value in metrics.POINT_VALUES.items():
        values[metric] = {
            method: np.array([point_value(labels, row) for row in named.values()])
            for method, named in runs.items()
        }
        resampled[metric] = {
            method: np.stack([drawn[name][metric] for name in named])
            for method, named in runs.items()
        }
    return Runs(values, resampled)


def among(
    resampled: Resampled, methods: Iterable[str] | None = None, *, alpha: float = 0.01
) -> dict[str, Comparison]:
    """`compare` restricted to some of the methods: the best of these with each of the others.

    Args:
      resampled: resamples of these methods and possibly more.
      methods: names of two or more of them; None for all.
      alpha: level of significance, in (0, 1).

    Returns:
      A comparison for each metric of `metrics.METRICS`.

    Raises:
      ValueError: an argument does not fit this description.
    """
    known = next(iter(resampled.values.values()))
    chosen = list(known if methods is None else methods)
    _check_comparison(chosen, alpha)
    if unknown := [method for method in chosen if method not in known]:
        raise ValueError(f"{unknown[0]!r} is not among the methods resampled: {', '.join(known)}.")
    return {
        metric: _against_the_best(
            metric,
            {method: values[method] for method in chosen},
            {method: resampled.resampled[metric][method] for method in chosen},
            alpha,
        )
        for metric, values in resampled.values.items()
    }


def mean_sd(values: ArrayLike) -> tuple[float, float]:
    """Mean and sample standard deviation (divisor n - 1), which is NaN for a single value.

    Args:
      values: (n,) finite numbers, such as a metric for each seed; n at least 1.

    Raises:
      ValueError: `values` does not fit this description.
    """
    given = as_numbers(values, "values")
    finite = np.isfinite(given)
    if not finite.all():
        raise ValueError(
            f"values holds {given[~finite][0]} at index {np.argmin(finite)}: leave the runs that "
            "failed out, and say how many they were."
        )
    sd = float(np.std(given, ddof=1)) if given.size > 1 else math.nan
    return float(np.mean(given)), sd


def _check_comparison(methods: Sequence[str], alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}: pass a level between 0 and 1, such as 0.01.")
    if len(methods) < 2:
        given = f"only {methods[0]!r}" if methods else "none"
        raise ValueError(f"A comparison takes two methods or more and was given {given}.")


def named_runs(method: str, runs: Iterable[ArrayLike]) -> dict[str, ArrayLike]:
    """The scores of each seed by name; `metrics.bootstrap` checks the scores themselves.

    Raises:
      ValueError: there are no runs, or scores of one run without the axis of the seeds.
    """
    rows = list(runs)
    if not rows:
        raise ValueError(f"{method} has no runs: pass scores of shape (seeds, n), or leave it out.")
    if np.ndim(rows[0]) == 0:
        raise ValueError(
            f"{method} has scores of shape ({len(rows)},): pass (seeds, n), and [scores] for the "
            "scores of a single seed."
        )
    return {f"{method}, run {i}": row for i, row in enumerate(rows)}


def _against_the_best(
    metric: str,
    values: dict[str, float],
    resampled: dict[str, Float[np.ndarray, " resamples"]],
    alpha: float,
) -> Comparison:
    top = max(values.values())
    best = next(method for method, value in values.items() if value >= top - _TIE)
    gaps = {method: resampled[best] - drawn for method, drawn in resampled.items()}
    del gaps[best]
    num_resamples = resampled[best].size
    p = np.array([_share_of_wins(gap) for gap in gaps.values()])
    floored = np.maximum(p, 1.0 / num_resamples)
    adjusted = zip(bonferroni(floored).tolist(), holm(floored).tolist(), strict=True)
    rivals = {}
    for (method, gap), share, (by_bonferroni, by_holm) in zip(
        gaps.items(), p.tolist(), adjusted, strict=True
    ):
        low, high = np.percentile(gap, (2.5, 97.5)).tolist()
        rivals[method] = Rival(
            difference=values[best] - values[method],
            low=low,
            high=high,
            p=share,
            p_bonferroni=by_bonferroni,
            p_holm=by_holm,
            # With 10 rivals at the floor of 1/1000, rounding must not lift p above alpha = 0.01.
            significant=by_bonferroni <= alpha * (1.0 + 1e-9),
        )
    return Comparison(metric, values, best, rivals, num_resamples, alpha)


def _share_of_wins(gap: Float[np.ndarray, " resamples"]) -> float:
    """Share of negative gaps to the best; a tie, as for two identical methods, counts one half."""
    return float(np.mean(gap < -_TIE) + 0.5 * np.mean(np.abs(gap) <= _TIE))
