from itertools import combinations, permutations

import numpy as np
import pytest
from scipy import stats

from ocsvm_jax.evaluation.adjusted import bonferroni, holm
from ocsvm_jax.evaluation.rank_tests import friedman_wilcoxon, kruskal_dunn, ranks

TESTS = (friedman_wilcoxon, kruskal_dunn)


def _values(seed, patients=20, decimals=12):
    """Four methods over patients that differ more than they do; one decimal ties many."""
    generator = np.random.default_rng(seed)
    patient = generator.normal(size=patients)
    shifts = {"a": 0.0, "b": 0.3, "c": 0.4, "d": 1.0}
    return {
        name: np.round(patient + shift + generator.normal(size=patients), decimals)
        for name, shift in shifts.items()
    }


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize("patients", [6, 20, 70])
def test_overall_tests_are_those_of_scipy(decimals, patients):
    values = _values(patients, patients, decimals)
    pairs = (friedman_wilcoxon, stats.friedmanchisquare), (kruskal_dunn, stats.kruskal)
    for ours, theirs in pairs:
        found, expected = ours(values), theirs(*values.values())
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-10)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.patients == patients


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize("patients", [6, 20, 70])
def test_dunn_is_that_of_scikit_posthocs(decimals, patients):
    posthocs = pytest.importorskip("scikit_posthocs")
    values = _values(patients, patients, decimals)
    raw = posthocs.posthoc_dunn(list(values.values())).to_numpy()
    adjusted = posthocs.posthoc_dunn(list(values.values()), p_adjust="bonferroni").to_numpy()
    found = kruskal_dunn(values).pairs
    assert list(found) == list(combinations("abcd", 2))
    for (i, j), pair in zip(combinations(range(4), 2), found.values(), strict=True):
        assert pair.p == pytest.approx(raw[i, j], rel=1e-9)
        assert pair.p_adjusted == pytest.approx(adjusted[i, j], rel=1e-9)


@pytest.mark.parametrize("decimals", [1, 12])
@pytest.mark.parametrize("patients", [20, 70])
def test_wilcoxon_is_that_of_scipy(decimals, patients):
    values = _values(1, patients, decimals)
    found = friedman_wilcoxon(values).pairs
    for (first, second), pair in found.items():
        difference = values[first] - values[second]
        method = "exact" if decimals == 12 and patients <= 50 else "asymptotic"
        expected = stats.wilcoxon(values[first], values[second], method=method).pvalue
        assert pair.p == pytest.approx(expected, rel=1e-12)
        assert pair.difference == pytest.approx(np.median(difference), abs=1e-15)
    p = [pair.p for pair in found.values()]
    assert [pair.p_adjusted for pair in found.values()] == holm(p).tolist()


def test_wilcoxon_against_all_signs():
    """The exact p-value is the share of the 2^n sign patterns that are as extreme."""
    difference = np.array([0.4, -0.1, 1.5, 2.5, -0.6, 0.9, 3.0])
    ranks = stats.rankdata(np.abs(difference))
    signs = 1 - 2 * ((np.arange(128)[:, None] >> np.arange(7)) & 1)
    sums = np.abs(signs @ ranks)
    expected = (sums >= abs(np.sign(difference) @ ranks)).mean()
    pair = friedman_wilcoxon({"a": difference, "b": np.zeros(7)}).pairs["a", "b"]
    assert pair.p == pair.p_adjusted == pytest.approx(expected, rel=1e-12)


def test_kruskal_by_hand():
    """Ranks 1, 2, 3 against 4, 5, 6: H = 12 / 42 * 3 * (1.5^2 + 1.5^2) = 27 / 7."""
    found = kruskal_dunn({"low": [1, 2, 3], "high": [7, 8, 9]})
    assert found.statistic == pytest.approx(27 / 7)
    pair = found.pairs["low", "high"]
    assert pair.difference == -3.0
    # Two groups: Dunn's z is the root of H.
    assert pair.p == pytest.approx(2 * stats.norm.sf(np.sqrt(27 / 7)), rel=1e-12)
    assert pair.p == pytest.approx(found.p, rel=1e-12)


def test_friedman_of_two_methods_is_a_sign_test():
    values = {"a": np.array([3, 4, 5, 6, 1.0]), "b": np.array([1, 2, 3, 3, 1.0])}
    # Four of five patients favour a, one is tied: (4 - 0)^2 / 4.
    assert friedman_wilcoxon(values).statistic == pytest.approx(4.0)


def test_pairing_is_what_friedman_adds():
    generator = np.random.default_rng(0)
    patient = 10 * generator.normal(size=30)
    noise = generator.normal(size=(2, 30))
    values = {"a": patient + noise[0], "b": patient + 1.5 + noise[1]}
    assert friedman_wilcoxon(values).pairs["a", "b"].p < 1e-4
    assert kruskal_dunn(values).pairs["a", "b"].p > 0.3


@pytest.mark.parametrize("test", TESTS)
def test_order_of_methods_and_patients(test):
    values = _values(3, decimals=1)
    once = test(values)
    order = np.random.default_rng(0).permutation(20)
    for names in list(permutations(values))[::5]:
        again = test({name: values[name][order] for name in names})
        assert again.p == pytest.approx(once.p, rel=1e-10)
        for (first, second), pair in again.pairs.items():
            sign = 1 if (first, second) in once.pairs else -1
            expected = once.pairs[(first, second) if sign == 1 else (second, first)]
            assert pair.p_adjusted == pytest.approx(expected.p_adjusted, rel=1e-10)
            assert pair.difference == pytest.approx(sign * expected.difference, abs=1e-12)


def test_monotone_transform():
    values = _values(4, decimals=1)
    transformed = {name: np.exp(value) for name, value in values.items()}
    assert kruskal_dunn(transformed) == kruskal_dunn(values)
    assert friedman_wilcoxon(transformed).p == friedman_wilcoxon(values).p


@pytest.mark.parametrize("test", TESTS)
def test_methods_without_any_difference(test):
    found = test({"a": np.ones(5), "b": np.ones(5), "c": np.ones(5)})
    assert (found.statistic, found.p) == (0.0, 1.0)
    assert all(pair == (0.0, 1.0, 1.0) for pair in found.pairs.values())
    same = test({"a": [1, 2, 3], "b": [1, 2, 3], "c": [4, 5, 6]}).pairs["a", "b"]
    assert (same.difference, same.p_adjusted) == (0.0, 1.0)


@pytest.mark.parametrize("test", TESTS)
def test_level(test):
    """Without a difference p < 0.05 happens once in twenty times; adjusted pairs, more rarely."""
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(200, 3, 25))
    results = [test(dict(zip("abc", sample, strict=True))) for sample in samples]
    rejected = sum(result.p < 0.05 for result in results)
    familywise = sum(min(p.p_adjusted for p in r.pairs.values()) < 0.05 for r in results)
    # 10 expected, with a standard deviation of 3.1.
    assert 2 <= rejected <= 20
    assert familywise <= 20


def test_adjustments():
    values = _values(5)
    dunn = kruskal_dunn(values)
    p = [pair.p for pair in dunn.pairs.values()]
    assert [pair.p_adjusted for pair in dunn.pairs.values()] == bonferroni(p).tolist()
    assert (dunn.overall, dunn.pairwise) == ("Kruskal-Wallis", "Dunn (Bonferroni)")
    paired = friedman_wilcoxon(values)
    assert (paired.overall, paired.pairwise) == ("Friedman", "Wilcoxon (Holm)")


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "0 methods were given"),
        ({"a": [1, 2]}, "1 methods were given"),
        ({"a": [1, 2], "b": [1, np.nan]}, "b holds nan for patient 1: leave a patient"),
        ({"a": [np.inf, 2], "b": [1, 2]}, "a holds inf for patient 0"),
        ({"a": [1, 2], "b": [1, 2, 3]}, r"different numbers of patients \(a: 2, b: 3\)"),
        ({"a": [[1, 2]], "b": [1, 2]}, r"a has shape \(1, 2\)"),
        ({"a": [1], "b": [2]}, r"a has shape \(1,\).*two patients or more"),
        ({"a": ["x", "y"], "b": [1, 2]}, "a does not hold numbers"),
    ],
)
def test_bad_input(test, values, message):
    with pytest.raises(ValueError, match=message):
        test(values)


@pytest.mark.parametrize("decimals", [1, 12])
def test_mean_ranks_over_data_sets(decimals):
    """Rank 1 is the largest value; one decimal makes ties."""
    values = _values(6, patients=9, decimals=decimals)
    found = ranks(values)
    by_hand = [
        np.mean([
            1 + sum(other[i] > own[i] for other in values.values())
            + 0.5 * (sum(other[i] == own[i] for other in values.values()) - 1)
            for i in range(9)
        ])
        for own in values.values()
    ]  # fmt: skip
    assert list(found.mean.values()) == pytest.approx(by_hand)
    assert found.num_data_sets == 9
    expected = stats.friedmanchisquare(*values.values())
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


@pytest.mark.parametrize(
    ("alpha", "q"),
    [(0.05, (1.960, 2.343, 2.569, 2.728)), (0.10, (1.645, 2.052, 2.291, 2.459))],
)
def test_critical_differences_are_those_of_demsars_table(alpha, q):
    """Table 5(a) holds q for 2 to 5 classifiers; the difference is q sqrt(k (k + 1) / (6 n))."""
    for k, value in zip((2, 3, 4, 5), q, strict=True):
        some = {str(i): np.random.default_rng(i).normal(size=14) for i in range(k)}
        expected = value * np.sqrt(k * (k + 1) / (6 * 14))
        found = ranks(some, alpha=alpha)
        assert found.critical_difference == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_bad_level_of_the_critical_difference(alpha):
    with pytest.raises(ValueError, match="pass a level between 0 and 1"):
        ranks(_values(0), alpha=alpha)
