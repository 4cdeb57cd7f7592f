"""Which methods differ over patients or data sets: rank tests on one value per method and each.

All methods are scored on the same patients, so the appropriate test is `friedman_wilcoxon`, which
compares the methods within each patient; `ranks` does so over data sets. `kruskal_dunn` is the test
of the paper: it treats the values as independent samples and loses power if patients differ more
than methods do.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy import stats as distributions

from ocsvm_jax.evaluation.adjusted import bonferroni, holm

_Values = Float[np.ndarray, "methods patients"]


class Pair(NamedTuple):
    """Comparison of two methods.

    Attributes:
      difference: first minus second: the median over patients of the difference of their values
        (Wilcoxon), or the difference of their mean ranks (Dunn).
      p: two-sided p-value of this pair alone.
      p_adjusted: `p` adjusted for the number of pairs by Holm (Wilcoxon) or Bonferroni (Dunn).
    """

    difference: float
    p: float
    p_adjusted: float


class RankTest(NamedTuple):
    """A test of all methods together, and tests of every pair.

    Attributes:
      overall: name of the test of all methods, "Friedman" or "Kruskal-Wallis".
      pairwise: name of the pairwise test and its adjustment.
      statistic: statistic of the test of all methods, corrected for ties; approximately
        chi-squared with `methods - 1` degrees of freedom under the null hypothesis.
      p: its p-value.
      pairs: comparison of each pair of names, in the order given.
      patients: number of patients.
    """

    overall: str
    pairwise: str
    statistic: float
    p: float
    pairs: dict[tuple[str, str], Pair]
    patients: int


class Ranks(NamedTuple):
    """Mean ranks of methods over data sets.

    Attributes:
      mean: mean rank of each method, 1 for the largest value on every data set.
      critical_difference: mean ranks that differ by more differ at level alpha (Nemenyi).
      statistic: Friedman's statistic, see `RankTest`.
      p: its p-value.
      num_data_sets: number of data sets.
    """

    mean: dict[str, float]
    critical_difference: float
    statistic: float
    p: float
    num_data_sets: int


def ranks(values: Mapping[str, ArrayLike], *, alpha: float = 0.05) -> Ranks:
    """Friedman's test and Nemenyi's critical difference, as Demsar (2006) recommends them.

    Args:
      values: (data sets,) finite values for each of two or more methods, larger for better; the
        i-th value of every method belongs to the same data set. At least two data sets.
      alpha: level of the critical difference, in (0, 1).

    Raises:
      ValueError: an argument does not fit this description.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}: pass a level between 0 and 1, such as 0.05.")
    rows = _checked(values)
    k, n = rows.shape
    own = distributions.rankdata(-rows, axis=0).mean(axis=1)
    q = float(distributions.studentized_range.ppf(1.0 - alpha, k, np.inf)) / np.sqrt(2.0)
    test = friedman_wilcoxon(values)
    difference = q * float(np.sqrt(k * (k + 1) / (6.0 * n)))
    return Ranks(
        dict(zip(values, own.tolist(), strict=True)), difference, test.statistic, test.p, n
    )


def friedman_wilcoxon(values: Mapping[str, ArrayLike]) -> RankTest:
    """The Friedman test, and Wilcoxon's signed-rank test of every pair with Holm's adjustment.

    The test of a pair leaves out patients on whom both methods have the same value. Its p-value is
    exact for up to 50 patients without ties; otherwise it uses the normal approximation with a
    correction for ties. Methods that never differ have p = 1.

    Args:
      values: (patients,) finite values of a measure for each of two or more methods; the i-th
        value of every method belongs to the same patient. At least two patients.

    Raises:
      ValueError: `values` does not fit this description.
    """
    rows = _checked(values)
    methods, patients = rows.shape
    # Within a patient the ranks have mean (m + 1) / 2; their variance depends on the ties.
    # SciPy's own test requires at least three methods.
    centred = distributions.rankdata(rows, axis=0) - 0.5 * (methods + 1)
    spread = np.square(centred).sum() / (patients * (methods - 1))
    statistic = _ratio(np.square(centred.sum(axis=1)).sum(), patients * spread)
    gaps = [rows[i] - rows[j] for i, j in combinations(range(methods), 2)]
    p = [_signed_rank_p(gap) for gap in gaps]
    pairs = map(Pair, [float(np.median(gap)) for gap in gaps], p, holm(p).tolist())
    return _test("Friedman", "Wilcoxon (Holm)", statistic, values, patients, pairs)


def kruskal_dunn(values: Mapping[str, ArrayLike]) -> RankTest:
    """The Kruskal-Wallis test, and Dunn's test of every pair with Bonferroni's adjustment.

    The test of the paper (arXiv 2507.21164). Both rank all values of all methods together and
    correct for ties (Dunn, 1964). If all values are equal, every p is 1.

    Args:
      values: see `friedman_wilcoxon`.

    Raises:
      ValueError: `values` does not fit this description.
    """
    rows = _checked(values)
    methods, patients = rows.shape
    ranks = distributions.rankdata(rows).reshape(rows.shape)
    # The variance of the ranks: n (n + 1) / 12 for n values without ties, smaller with ties.
    variance = float(np.var(ranks, ddof=1))
    means = ranks.mean(axis=1)
    statistic = _ratio(patients * np.square(means - 0.5 * (rows.size + 1)).sum(), variance)
    gaps = [float(means[i] - means[j]) for i, j in combinations(range(methods), 2)]
    z = [_ratio(abs(gap), np.sqrt(variance * 2 / patients)) for gap in gaps]
    p = np.minimum(1.0, 2 * distributions.norm.sf(z)).tolist()
    pairs = map(Pair, gaps, p, bonferroni(p).tolist())
    return _test("Kruskal-Wallis", "Dunn (Bonferroni)", statistic, values, patients, pairs)


def _test(
    overall: str,
    pairwise: str,
    statistic: float,
    methods: Collection[str],
    patients: int,
    pairs: Iterable[Pair],
) -> RankTest:
    p = float(distributions.chi2.sf(statistic, len(methods) - 1))
    named = dict(zip(combinations(methods, 2), pairs, strict=True))
    return RankTest(overall, pairwise, statistic, p, named, patients)


def _signed_rank_p(differences: Float[np.ndarray, " patients"]) -> float:
    nonzero = differences[differences != 0]
    if nonzero.size == 0:
        return 1.0
    untied = np.unique(np.abs(nonzero)).size == nonzero.size
    method = "exact" if nonzero.size <= 50 and untied else "asymptotic"
    statistic_and_p = np.asarray(distributions.wilcoxon(nonzero, method=method))
    return float(statistic_and_p[1])


def _ratio(statistic: float, scale: float) -> float:
    """statistic / scale; 0 if all ranks are equal, when both are 0."""
    return float(statistic / scale) if scale > 0 else 0.0


def _checked(values: Mapping[str, ArrayLike]) -> _Values:
    if len(values) < 2:
        raise ValueError(f"{len(values)} methods were given: a comparison takes two or more.")
    rows = {}
    for method, given in values.items():
        try:
            row = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{method} does not hold numbers: pass one per patient.") from error
        if row.ndim != 1 or row.size < 2:
            raise ValueError(
                f"{method} has shape {row.shape}: pass (patients,), two patients or more."
            )
        if not np.isfinite(row).all():
            raise ValueError(
                f"{method} holds {row[~np.isfinite(row)][0]} for patient "
                f"{np.argmin(np.isfinite(row))}: leave a patient without a value out of every "
                "method, and say how many they were."
            )
        rows[method] = row
    sizes = {method: row.size for method, row in rows.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{method}: {size}" for method, size in sizes.items())
        raise ValueError(
            f"The methods have different numbers of patients ({listed}): pass the values of the "
            "same patients, in the same order."
        )
    return np.stack(list(rows.values()))
