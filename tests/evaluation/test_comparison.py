import math
import statistics
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ocsvm_jax.evaluation import adjusted as adjusted_p
from ocsvm_jax.evaluation import comparison as stats
from ocsvm_jax.evaluation import resampling
from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.reports import numbers

SKLEARN = {
    "AUROC": roc_auc_score,
    "AUPR": average_precision_score,
    "AUROC30": lambda labels, scores: roc_auc_score(labels, scores, max_fpr=0.3),
}


def _labels(generator, n=150):
    return generator.permutation(np.arange(n) % 3 == 0).astype(int)


def _runs(generator, labels, shift, seeds=1):
    """One decimal: most scores are tied with others."""
    return np.round(generator.normal(size=(seeds, labels.size)) + shift * labels, 1)


def _top_heavy(generator, labels, seeds):
    """Every fourth anomalous image far up and the others inside the normal ones."""
    obvious = labels * (np.cumsum(labels) % 4 == 0)
    return _runs(generator, labels, 0.0, seeds) + 6.0 * obvious


def _by_definition(labels, scores, metric, num_resamples, seed):
    """The test as a loop over resampled images, with scikit-learn's metrics."""

    def figure(method, images):
        values = [SKLEARN[metric](labels[images], run[images]) for run in scores[method]]
        return sum(values) / len(values)

    everything = np.arange(labels.size)
    values = {method: figure(method, everything) for method in scores}
    best = max(values, key=lambda method: values[method])
    counts = np.concatenate(list(resampling.resamples(labels == 1, num_resamples, seed)))
    rivals = {method: [] for method in scores if method != best}
    for count in counts.astype(int):
        images = np.repeat(everything, count)
        leader = figure(best, images)
        for method, gaps in rivals.items():
            gaps.append(leader - figure(method, images))
    return values, best, rivals


@pytest.fixture(scope="module")
def several():
    """Methods with one to three seeds; no method is the best in all metrics."""
    generator = np.random.default_rng(2)
    labels = _labels(generator)
    scores = {
        "even": _runs(generator, labels, 0.75, 3),
        "close": _runs(generator, labels, 0.65, 2),
        "top": _top_heavy(generator, labels, 2),
        "noise": list(_runs(generator, labels, 0.0, 1)),
    }
    return labels, scores


@pytest.mark.parametrize("metric", METRICS)
def test_against_the_definition(several, metric):
    labels, scores = several
    found = stats.compare(labels, scores, num_resamples=60, seed=3)[metric]
    values, best, rivals = _by_definition(labels, scores, metric, 60, 3)
    assert (found.metric, found.num_resamples, found.alpha) == (metric, 60, 0.01)
    assert found.values == pytest.approx(values, abs=1e-12)
    assert found.best == best
    assert list(found.rivals) == list(rivals)
    for method, gaps in rivals.items():
        rival = found.rivals[method]
        wins = sum(gap < -1e-9 for gap in gaps) + 0.5 * sum(abs(gap) < 1e-9 for gap in gaps)
        assert rival.p == pytest.approx(wins / 60, abs=1e-12)
        assert rival.difference == pytest.approx(values[best] - values[method], abs=1e-12)
        expected = np.quantile(gaps, [0.025, 0.975])
        np.testing.assert_allclose([rival.low, rival.high], expected, atol=1e-12)


def test_the_metrics_may_disagree_on_the_best(several):
    labels, scores = several
    found = stats.compare(labels, scores, num_resamples=5)
    assert list(found) == list(METRICS)
    assert found["AUROC"].best == "even"
    assert found["AUROC30"].best == "top"


def test_adjusted_values_start_at_the_floor(several):
    labels, scores = several
    for comparison in stats.compare(labels, scores, num_resamples=80).values():
        raw = [max(rival.p, 1 / 80) for rival in comparison.rivals.values()]
        by_bonferroni = [rival.p_bonferroni for rival in comparison.rivals.values()]
        by_holm = [rival.p_holm for rival in comparison.rivals.values()]
        assert by_bonferroni == pytest.approx([min(3 * p, 1) for p in raw])
        assert by_holm == pytest.approx(_holm_by_closed_testing(raw))


def test_the_best_is_so_on_average_not_by_its_luckiest_run():
    generator = np.random.default_rng(0)
    labels = _labels(generator)
    lucky = np.stack([labels + 0.0, generator.normal(size=labels.size)])
    steady = _runs(generator, labels, 2.0, 2)
    found = stats.compare(labels, {"lucky": lucky, "steady": steady}, num_resamples=50)
    assert all(comparison.best == "steady" for comparison in found.values())
    alone = stats.compare(labels, {"lucky": lucky[:1], "steady": steady}, num_resamples=50)
    assert all(comparison.best == "lucky" for comparison in alone.values())


def test_an_identical_rival_is_not_significant():
    generator = np.random.default_rng(1)
    labels = _labels(generator)
    runs = _runs(generator, labels, 0.7, 3)
    rivals = {"twin": runs, "reordered": runs[[2, 0, 1]], "rescaled": np.exp(3.0 * runs)}
    for comparison in stats.compare(labels, {"a": runs} | rivals, num_resamples=300).values():
        assert comparison.best == "a"
        for rival in comparison.rivals.values():
            assert rival.p == 0.5
            assert rival.p_bonferroni == rival.p_holm == 1.0
            assert not rival.significant
            assert rival[:3] == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_repeated_runs_change_nothing():
    generator = np.random.default_rng(2)
    labels = _labels(generator)
    first, second = _runs(generator, labels, 0.7), _runs(generator, labels, 0.5)
    once = stats.compare(labels, {"a": first, "b": second}, num_resamples=50)
    twice = stats.compare(labels, {"a": np.r_[first, first], "b": second}, num_resamples=50)
    for metric in METRICS:
        assert twice[metric].rivals["b"] == pytest.approx(once[metric].rivals["b"], abs=1e-12)


@pytest.mark.parametrize(
    ("num_rivals", "num_resamples", "alpha", "significant"),
    [(2, 200, 0.01, True), (3, 200, 0.01, False), (3, 300, 0.01, True), (9, 300, 0.03, True)],
)
def test_a_clearly_worse_rival(num_rivals, num_resamples, alpha, significant):
    """Its p is 0; whether that is significant is up to the number of resamples."""
    generator = np.random.default_rng(3)
    labels = _labels(generator)
    scores = {f"noise {i}": _runs(generator, labels, 0.0, 2) for i in range(num_rivals)}
    scores["good"] = _runs(generator, labels, 3.0, 2)
    found = stats.compare(labels, scores, num_resamples=num_resamples, alpha=alpha)
    for comparison in found.values():
        assert comparison.best == "good"
        assert len(comparison.rivals) == num_rivals
        for rival in comparison.rivals.values():
            assert rival.p == 0.0
            assert rival.p_bonferroni == pytest.approx(num_rivals / num_resamples)
            assert rival.p_holm == pytest.approx(num_rivals / num_resamples)
            assert rival.significant == significant
            assert 0.0 < rival.low < rival.difference < rival.high


def test_symmetric_methods():
    """Each image twice, and two methods that swap their scores between the copies.

    Both have the same value, and in the resamples the difference is as often negative as positive.
    """
    generator = np.random.default_rng(5)
    labels = _labels(generator)
    first, second = generator.normal(size=(2, labels.size)) + 0.5 * labels
    scores = {"a": [np.r_[first, second]], "b": [np.r_[second, first]]}
    found = stats.compare(np.r_[labels, labels], scores, num_resamples=1000)
    for comparison in found.values():
        (rival,) = comparison.rivals.values()
        assert rival.difference == pytest.approx(0.0, abs=1e-12)
        # Four standard deviations of a share of 1,000.
        assert rival.p == pytest.approx(0.5, abs=0.064)
        assert rival.low == pytest.approx(-rival.high, rel=0.25)


def test_p_is_the_tail_of_the_normal_approximation():
    generator = np.random.default_rng(8)
    labels = _labels(generator, n=1200)
    scores = {
        "a": [generator.normal(size=1200) + 1.0 * labels],
        "b": [generator.normal(size=1200) + 0.95 * labels],
    }
    comparison = stats.compare(labels, scores, num_resamples=1000)["AUROC"]
    (rival,) = comparison.rivals.values()
    sd = (rival.high - rival.low) / (2 * 1.96)
    # Four standard deviations of a share of 1,000 at 0.05.
    assert rival.p == pytest.approx(statistics.NormalDist().cdf(-rival.difference / sd), abs=0.028)
    assert 0.02 < rival.p < 0.1


def test_the_order_of_the_methods_does_not_matter(several):
    labels, scores = several
    forward = stats.compare(labels, scores, num_resamples=40)
    backward = stats.compare(labels, dict(reversed(scores.items())), num_resamples=40)
    for metric in METRICS:
        assert forward[metric] == backward[metric]
        assert list(forward[metric].rivals) == list(reversed(backward[metric].rivals))


def test_resamples_serve_any_selection_of_the_methods(several):
    """The same as a comparison of these methods alone: p-values adjusted for their number."""
    labels, scores = several
    drawn = stats.resample(labels, scores, num_resamples=40)
    names = list(scores)
    for chosen in (names[1:], [names[0], names[-1]]):
        alone = stats.compare(labels, {name: scores[name] for name in chosen}, num_resamples=40)
        assert stats.among(drawn, chosen) == alone
    with pytest.raises(ValueError, match="'gone' is not among the methods resampled"):
        stats.among(drawn, [names[0], "gone"])
    with pytest.raises(ValueError, match="two methods or more and was given only"):
        stats.among(drawn, names[:1])


@pytest.mark.parametrize("size", [1, 1000, 2**20])
def test_the_blocks_of_the_bootstrap_do_not_matter(several, monkeypatch, size):
    labels, scores = several
    expected = stats.compare(labels, scores, num_resamples=40)
    monkeypatch.setattr(resampling, "_BLOCK_SIZE", size)
    assert stats.compare(labels, scores, num_resamples=40) == expected


def test_the_level_and_the_seed_enter(several):
    labels, scores = several
    strict = stats.compare(labels, scores, num_resamples=40, alpha=0.01)["AUROC"]
    lenient = stats.compare(labels, scores, num_resamples=40, alpha=0.2)["AUROC"]
    assert not any(rival.significant for rival in strict.rivals.values())
    assert lenient.rivals["noise"].significant
    assert lenient.rivals["noise"]._replace(significant=False) == strict.rivals["noise"]
    other = stats.compare(labels, scores, num_resamples=40, seed=1)["AUROC"]
    assert other.values == strict.values
    assert other.rivals["close"].low != strict.rivals["close"].low


GOOD = {"a": [[0.1, 0.2, 0.3]], "b": [[0.3, 0.2, 0.1]]}


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({}, {}, "two methods or more and was given none"),
        ({"a": [[0.1, 0.2, 0.3]]}, {}, "two methods or more and was given only 'a'"),
        (GOOD | {"c": []}, {}, r"c has no runs: pass scores of shape \(seeds, n\)"),
        (GOOD | {"c": np.zeros((0, 3))}, {}, "c has no runs"),
        (GOOD | {"c": np.zeros(3)}, {}, r"c has scores of shape \(3,\).*\[scores\] for"),
        (GOOD | {"c": [0.1, 0.2, 0.3]}, {}, r"c has scores of shape \(3,\)"),
        (GOOD | {"c": np.zeros((2, 4))}, {}, r"c, run 0 has shape \(4,\) and there are 3 labels"),
        (GOOD | {"c": [np.zeros(3), np.zeros(2)]}, {}, r"c, run 1 has shape \(2,\)"),
        (GOOD | {"c": np.zeros((2, 3, 1))}, {}, r"c, run 0 has shape \(3, 1\)"),
        (GOOD | {"c": [np.zeros(3), [0.1, np.nan, 0.2]]}, {}, "c, run 1 holds 1 NaN.*index 1"),
        (GOOD | {"c": [["x", "y", "z"]]}, {}, "c, run 0 does not hold numbers"),
        (GOOD, {"num_resamples": 0}, "num_resamples is 0: it must be at least 1"),
        *((GOOD, {"alpha": a}, f"alpha is {a}: pass a level") for a in (0.0, 1.0, -0.1, math.nan)),
    ],
)
def test_bad_comparisons(scores, options, message):
    with pytest.raises(ValueError, match=message):
        stats.compare([0, 1, 1], scores, **{"num_resamples": 5} | options)


def test_bad_labels():
    with pytest.raises(ValueError, match="All 3 labels are 0"):
        stats.compare([0, 0, 0], GOOD, num_resamples=5)


def _holm_by_closed_testing(p):
    """Adjusted p-values from the principle behind Holm's procedure.

    A hypothesis is rejected when every set of hypotheses that contains it is, each set by
    Bonferroni's test of its intersection; the adjusted p-value is the largest of these p-values.
    """
    everything = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in combinations(everything, size)]
    level = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in sets}
    return [max(level[s] for s in sets if i in s) for i in everything]


def test_corrections_by_hand():
    """At 0.05, Bonferroni and Holm reject the first and the last, and no other."""
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(adjusted_p.bonferroni(p), [0.04, 0.16, 0.12, 0.02])
    np.testing.assert_allclose(adjusted_p.holm(p), [0.03, 0.06, 0.06, 0.02])
    # Holm alone rejects the second: 0.05 / 2 is left for it once the first is gone.
    np.testing.assert_allclose(adjusted_p.bonferroni([0.02, 0.024, 0.9]), [0.06, 0.072, 1.0])
    np.testing.assert_allclose(adjusted_p.holm([0.016, 0.024, 0.9]), [0.048, 0.048, 0.9])


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_closure_of_bonferroni(seed):
    generator = np.random.default_rng(seed)
    p = generator.uniform(size=generator.integers(1, 8)) ** 3
    if seed % 2:
        p = np.round(p, 1)  # ties, and zeros
    adjusted = adjusted_p.holm(p)
    np.testing.assert_allclose(adjusted, _holm_by_closed_testing(p.tolist()), rtol=1e-12)
    assert (p <= adjusted).all()
    assert (adjusted <= adjusted_p.bonferroni(p) + 1e-15).all()
    permutation = generator.permutation(p.size)
    np.testing.assert_allclose(adjusted_p.holm(p[permutation]), adjusted[permutation], rtol=1e-12)


@pytest.mark.parametrize("function", [adjusted_p.bonferroni, adjusted_p.holm])
def test_corrections_at_the_ends(function):
    np.testing.assert_array_equal(function([0.3]), [0.3])
    np.testing.assert_array_equal(function([0.0, 1.0, 0.6]), [0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([], r"p has shape \(0,\)"),
        (0.5, r"p has shape \(\)"),
        ([[0.1, 0.2]], r"p has shape \(1, 2\)"),
        ([0.1, 1.2], "p holds 1.2 at index 1"),
        ([-0.1, 0.2], "p holds -0.1 at index 0"),
        ([0.1, math.nan], "p holds nan at index 1"),
        (["a"], "p does not hold numbers"),
    ],
)
@pytest.mark.parametrize("function", [adjusted_p.bonferroni, adjusted_p.holm])
def test_bad_p_values(function, p, message):
    with pytest.raises(ValueError, match=message):
        function(p)


@pytest.mark.parametrize(
    ("p", "num_resamples", "adjusted", "expected"),
    [
        (0.0, 1000, None, "< 1/1000"),
        (0.0, 200, None, "< 1/200"),
        (0.0005, 1000, None, "< 1/1000"),  # a single tie
        (0.001, 1000, None, "0.001"),
        (0.0246, 1000, None, "0.025"),
        (0.5, 1000, None, "0.500"),
        (1.0, 1000, None, "1.000"),
        (0.005, 200, None, "0.005"),
        (0.0001, 10_000, None, "0.0001"),
        (0.00046, 2200, None, "0.0005"),
        (0.0, 1000, 0.011, "< 11/1000"),
        (0.0005, 1000, 0.011, "< 11/1000"),
        (0.001, 1000, 0.011, "0.011"),
        (0.0, 5, 1.0, "1.000"),
        (0.4, 1000, 1.0, "1.000"),
        (0.0, 1, None, "1.000"),
    ],
)
def test_format_p(p, num_resamples, adjusted, expected):
    assert numbers.format_p(p, num_resamples, adjusted=adjusted) == expected


def test_format_p_of_a_comparison():
    generator = np.random.default_rng(3)
    labels = _labels(generator)
    scores = {f"noise {i}": _runs(generator, labels, 0.0) for i in range(11)}
    scores["good"] = _runs(generator, labels, 3.0)
    for rival in stats.compare(labels, scores, num_resamples=100)["AUROC"].rivals.values():
        assert numbers.format_p(rival.p, 100) == "< 1/100"
        for adjusted in (rival.p_bonferroni, rival.p_holm):
            assert numbers.format_p(rival.p, 100, adjusted=adjusted) == "< 11/100"


@pytest.mark.parametrize(
    ("arguments", "adjusted", "message"),
    [
        ((0.5, 0), None, "num_resamples is 0"),
        ((1.5, 10), None, "p holds 1.5"),
        ((math.nan, 10), None, "p holds nan"),
        ((0.5, 10), 1.5, "adjusted holds 1.5"),
        ((0.5, 10), 0.4, "adjusted is 0.4, below 0.5"),
        ((0.0, 10), 0.0, "adjusted is 0.0, below 0.1"),
    ],
)
def test_bad_format_p(arguments, adjusted, message):
    with pytest.raises(ValueError, match=message):
        numbers.format_p(*arguments, adjusted=adjusted)


def test_mean_sd():
    values = [0.578, 0.563, 0.528, 0.560]
    expected = statistics.mean(values), statistics.stdev(values)
    assert stats.mean_sd(values) == pytest.approx(expected)
    mean, sd = stats.mean_sd([0.563])
    assert mean == 0.563
    assert math.isnan(sd)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"values has shape \(0,\)"),
        ([[0.1]], r"values has shape \(1, 1\)"),
        ([0.5, math.nan], "values holds nan at index 1: leave the runs that failed out"),
        ([math.inf, 0.5], "values holds inf at index 0"),
        (["a"], "values does not hold numbers"),
    ],
)
def test_bad_mean_sd(values, message):
    with pytest.raises(ValueError, match=message):
        stats.mean_sd(values)


def test_format_mean_sd():
    assert numbers.format_mean_sd(0.5634, 0.0119) == "0.563 ± 0.012"
    assert numbers.format_mean_sd(0.5634, 0.0119, leading_zero=False) == ".563 ± .012"
    assert numbers.format_mean_sd(0.5634, math.nan, decimals=2) == "0.56"
    assert numbers.format_mean_sd(10.04, 1.0, decimals=1, leading_zero=False) == "10.0 ± 1.0"
    assert numbers.format_mean_sd(-0.25, 0.5, decimals=2, leading_zero=False) == "-.25 ± .50"
    assert numbers.format_mean_sd(0.2, 0.1, decimals=0, leading_zero=False) == "0 ± 0"
    with pytest.raises(ValueError, match="decimals is -1"):
        numbers.format_mean_sd(0.5, 0.1, decimals=-1)
