"""Which method detects best, where the unit is the training seed.

A claim about a method is a claim about a procedure: train, then score. Its seed is as random as the
images, and often the larger part. Two tests therefore stand side by side, and a difference counts
as significant only where both agree: a bootstrap that draws seeds and images, and Welch's test of
the seeds' values. `comparison` holds the test of the paper, which knows the images alone.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats

from ocsvm_jax.evaluation import comparison
from ocsvm_jax.evaluation.adjusted import as_numbers, bonferroni, holm
from ocsvm_jax.evaluation.comparison import Resampled, Rival


class Welch(NamedTuple):
    """Welch's test that two methods have the same mean over seeds.

    Attributes:
      t: difference of the means in units of its standard error; None where no value varies.
      df: degrees of freedom after Welch and Satterthwaite; None likewise.
      p: two-sided p-value.
      p_bonferroni: `p` adjusted for the number of rivals.
      p_holm: the same with Holm's adjustment.
    """

    t: float | None
    df: float | None
    p: float
    p_bonferroni: float
    p_holm: float


class SeedRival(NamedTuple):
    """One method compared with the best.

    Attributes:
      bootstrap: difference, interval and p-values of the two-level bootstrap.
      welch: test of the values of the seeds; None if one of the two has a single seed.
      significant: whether both Bonferroni-adjusted p-values are at most alpha; never without
        `welch`.
    """

    bootstrap: Rival
    welch: Welch | None
    significant: bool


class SeedComparison(NamedTuple):
    """All methods compared with the best one, in one metric; see `comparison.Comparison`."""

    metric: str
    values: dict[str, float]
    best: str
    rivals: dict[str, SeedRival]
    num_resamples: int
    alpha: float


class TwoLevel(NamedTuple):
    """Methods resampled over seeds and images.

    Attributes:
      resampled: values on the original seeds and images, and on each resample.
      of_seeds: (seeds,) values of each seed on the original images, by metric and method.
    """

    resampled: Resampled
    of_seeds: dict[str, dict[str, Float[np.ndarray, " seeds"]]]


def resample(
    labels: ArrayLike,
    scores: Mapping[str, Iterable[ArrayLike]],
    *,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> TwoLevel:
    """Draws seeds and images with replacement.

    Images are drawn in clusters, such as one digit under all of its corruptions, once for all
    methods. On each resample every method draws as many of its own seeds as it has. A bootstrap of
    S seeds shows (S - 1) / S of their variance, so that with few of them an interval is a lower
    bound of the uncertainty.

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one; both must occur.
      scores: (seeds, n) finite scores for each method, larger for more anomalous, as an array or as
        one (n,) array per seed.
      clusters: (n,) whole numbers, equal for images to be drawn together; None if each image is
        drawn alone.
      num_resamples: number of resamples, at least 1.
      seed: seed of the resamples.

    Raises:
      ValueError: an argument does not fit this description.
    """
    runs = comparison.resample_runs(
        labels, scores, clusters=clusters, num_resamples=num_resamples, seed=seed
    )
    resampled = {
        metric: {
            method: _drawn_seeds(values, method, seed).mean(axis=0)
            for method, values in own.items()
        }
        for metric, own in runs.resampled.items()
    }
    means = {
        metric: {method: float(values.mean()) for method, values in own.items()}
        for metric, own in runs.values.items()
    }
    return TwoLevel(Resampled(means, resampled), runs.values)


def _drawn_seeds(
    values: Float[np.ndarray, "seeds resamples"], method: str, seed: int
) -> Float[np.ndarray, "seeds resamples"]:
    """Values of as many seeds as there are, drawn on each resample; the same for all metrics."""
    # A method's draws depend on its own name, not on which others there are.
    draw = np.random.default_rng([seed, *method.encode()])
    return np.take_along_axis(values, draw.integers(len(values), size=values.shape), axis=0)


def among(
    two_level: TwoLevel, methods: Iterable[str] | None = None, *, alpha: float = 0.01
) -> dict[str, SeedComparison]:
    """Compares the best of some methods with each of the others.

    Args:
      two_level: resamples of these methods and possibly more.
      methods: names of two or more of them; None for all.
      alpha: level of significance, in (0, 1).

    Returns:
      A comparison for each metric of `metrics.METRICS`.

    Raises:
      ValueError: an argument does not fit this description.
    """
    compared = comparison.among(two_level.resampled, methods, alpha=alpha)
    out = {}
    for metric, found in compared.items():
        values = two_level.of_seeds[metric]
        by_welch = _welch_of_all(values[found.best], {name: values[name] for name in found.rivals})
        rivals = {
            name: SeedRival(
                rival, by_welch[name], rival.significant and _below(by_welch[name], alpha)
            )
            for name, rival in found.rivals.items()
        }
        out[metric] = SeedComparison(
            metric, found.values, found.best, rivals, found.num_resamples, alpha
        )
    return out


def welch(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float]:
    """Welch's two-sided t-test (1947): statistic, degrees of freedom and p-value.

    Values that do not vary in either sample differ with certainty (p = 0) or not at all (p = 1).

    Args:
      first: (n,) values, two or more.
      second: (m,) values, two or more.

    Raises:
      ValueError: a sample has fewer than two values, or does not hold numbers.
    """
    a, b = as_numbers(first, "first"), as_numbers(second, "second")
    for name, values in (("first", a), ("second", b)):
        if values.size < 2:
            raise ValueError(f"{name} holds one value: a variance takes two or more.")
    gap = float(a.mean() - b.mean())
    v, w = (float(np.var(x, ddof=1)) / x.size for x in (a, b))
    error = math.sqrt(v + w)
    rounding = 4 * np.finfo(np.float64).eps * max(abs(float(x.mean())) for x in (a, b))
    if error <= rounding:
        if abs(gap) <= rounding:
            return 0.0, math.inf, 1.0
        return math.copysign(math.inf, gap), math.inf, 0.0
    # scipy.stats.ttest_ind warns where one sample is constant up to rounding, as seeds may be.
    t, df = gap / error, (v + w) ** 2 / (v**2 / (a.size - 1) + w**2 / (b.size - 1))
    return t, df, float(2.0 * stats.t.sf(abs(t), df))


def _welch_of_all(
    best: Float[np.ndarray, " seeds"], rivals: Mapping[str, Float[np.ndarray, " _"]]
) -> dict[str, Welch | None]:
    """Tests each rival that has two seeds, adjusted for the number of all rivals."""
    tested = {n: v for n, v in rivals.items() if best.size > 1 and v.size > 1}
    out: dict[str, Welch | None] = dict.fromkeys(rivals)
    found = {name: welch(best, values) for name, values in tested.items()}
    # A rival that cannot be tested still counts.
    p = np.array([found[name][2] if name in found else 1.0 for name in rivals])
    adjusted = zip(rivals, bonferroni(p).tolist(), holm(p).tolist(), strict=True)
    for name, by_bonferroni, by_holm in adjusted:
        if name in found:
            t, df, alone = found[name]
            known = (t, df) if math.isfinite(df) else (None, None)
            out[name] = Welch(*known, alone, by_bonferroni, by_holm)
    return out


def _below(test: Welch | None, alpha: float) -> bool:
    return test is not None and test.p_bonferroni <= alpha * (1.0 + 1e-9)
