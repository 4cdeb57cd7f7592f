"""Comparisons whose unit is the seed, against SciPy and against what is known of simulated data."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from ocsvm_jax.evaluation import comparison, metrics, over_seeds, resampling

LABELS = np.arange(200) % 2


def runs(effects, n=200, seed=0, noise=1.0):
    """Scores of one run per effect: the mean difference between anomalous and normal images."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return [effect * labels + noise * generator.normal(size=n) for effect in effects]


@pytest.mark.parametrize("seed", range(10))
def test_welch_against_scipy(seed):
    generator = np.random.default_rng(seed)
    a = generator.normal(0.6, 0.1, size=generator.integers(2, 8))
    b = generator.normal(0.5, 0.02, size=generator.integers(2, 8))
    found = stats.ttest_ind(a, b, equal_var=False)
    assert over_seeds.welch(a, b) == pytest.approx((found.statistic, found.df, found.pvalue))


@pytest.mark.parametrize("constant", [[0.5, 0.5], [0.5, np.nextafter(0.5, 1.0)]])
def test_welch_where_one_sample_is_constant_up_to_rounding(constant):
    """Seeds may be equal; then SciPy warns and has the same figures."""
    other = [0.4, 0.45, 0.41]
    with pytest.warns(RuntimeWarning, match="nearly identical"):
        found = stats.ttest_ind(constant, other, equal_var=False)
    assert over_seeds.welch(constant, other) == pytest.approx(
        (found.statistic, found.df, found.pvalue)
    )


def test_welch_where_nothing_varies():
    assert over_seeds.welch([0.5, 0.5], [0.4, 0.4, 0.4]) == (math.inf, math.inf, 0.0)
    assert over_seeds.welch([0.4, 0.4], [0.5, 0.5]) == (-math.inf, math.inf, 0.0)
    assert over_seeds.welch([0.5, 0.5], [0.5, 0.5]) == (0.0, math.inf, 1.0)


@pytest.mark.parametrize(
    ("first", "message"), [([0.5], "first holds one value"), (["x", "y"], "first does not hold")]
)
def test_bad_samples(first, message):
    with pytest.raises(ValueError, match=message):
        over_seeds.welch(first, [0.1, 0.2])


def test_an_interval_as_wide_as_the_seeds_make_it():
    """20 seeds whose AUROC has a known spread, on so many images that they hardly add to it."""
    effects = np.random.default_rng(3).normal(1.0, 0.3, size=20)
    n = 8_000
    labels = np.arange(n) % 2
    scores = {"a": runs(effects, n), "b": runs([0.0] * 2, n, seed=1)}
    found = over_seeds.resample(labels, scores, num_resamples=400)
    drawn = found.resampled.resampled["AUROC"]["a"]
    values = [roc_auc_score(labels, row) for row in scores["a"]]
    np.testing.assert_allclose(found.of_seeds["AUROC"]["a"], values, rtol=1e-12)
    # The mean of 20 draws from the 20 values.
    assert np.std(drawn) == pytest.approx(np.std(values) / math.sqrt(20), rel=0.12)
    assert np.mean(drawn) == pytest.approx(np.mean(values), abs=0.005)
    images_alone = comparison.resample(labels, scores, num_resamples=400)
    assert np.std(images_alone.resampled["AUROC"]["a"]) < 0.2 * np.std(drawn)


def test_an_interval_as_wide_as_the_images_make_it():
    """One seed: nothing is left but the images, and their standard error of Hanley and McNeil."""
    n = 1000
    labels, scores = np.arange(n) % 2, {"a": runs([1.0], n)}
    drawn = over_seeds.resample(labels, scores, num_resamples=500).resampled.resampled
    area = roc_auc_score(labels, scores["a"][0])
    m = n // 2
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (m - 1) * (one - area**2) + (m - 1) * (two - area**2)
    assert np.std(drawn["AUROC"]["a"]) == pytest.approx(math.sqrt(variance) / m, rel=0.15)


def test_three_copies_of_an_image_are_no_three_images():
    """With each image three times, clusters give the spread of the originals."""
    labels, alone = LABELS, runs([0.8])[0]
    clusters, copies = np.tile(np.arange(200), 3), np.tile(alone, 3)
    kwargs = {"num_resamples": 600, "seed": 1}
    original = metrics.bootstrap(labels, {"a": alone}, **kwargs)["a"]["AUROC"]
    tripled = np.tile(labels, 3)
    together = metrics.bootstrap(tripled, {"a": copies}, clusters=clusters, **kwargs)["a"]["AUROC"]
    naive = metrics.bootstrap(tripled, {"a": copies}, **kwargs)["a"]["AUROC"]
    # The same digits are drawn, so the very same values come out.
    np.testing.assert_allclose(together, original, rtol=1e-12)
    assert np.std(naive) == pytest.approx(np.std(original) / math.sqrt(3), rel=0.15)


def test_clusters_are_drawn_whole():
    anomalous = np.array([False, True, False, True, True])
    clusters = np.array([0, 0, 1, 1, 2])
    (counts,) = resampling.resamples(anomalous, 50, 0, clusters)
    assert counts.shape == (50, 5)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, 2], counts[:, 3])
    np.testing.assert_array_equal(counts[:, [0, 2, 4]].sum(1), 3)


def test_the_numbers_of_clusters_mean_nothing():
    clusters = np.arange(200) // 2
    names = np.random.default_rng(0).permutation(1000)[:100]
    ranked = np.argsort(np.argsort(names))
    scores = {"a": runs([0.5])[0]}
    first = metrics.bootstrap(LABELS, scores, num_resamples=20, clusters=ranked[clusters])
    again = metrics.bootstrap(LABELS, scores, num_resamples=20, clusters=names[clusters])
    np.testing.assert_array_equal(first["a"]["AUROC"], again["a"]["AUROC"])


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        (np.arange(3), r"clusters is int64 of shape \(3,\) and there are 200 labels"),
        (np.zeros(200), "clusters is float64 of shape"),
        (np.zeros(200, int), "All images are in one cluster"),
    ],
)
def test_bad_clusters(clusters, message):
    with pytest.raises(ValueError, match=message):
        metrics.bootstrap(LABELS, {"a": runs([0.5])[0]}, clusters=clusters)


def compared(scores, **kwargs):
    options = {"num_resamples": 300} | kwargs
    return over_seeds.among(over_seeds.resample(LABELS, scores, **options))["AUROC"]


def test_significant_only_where_both_tests_agree():
    scores = {
        "good": runs([3.0] * 5),
        "bad": runs([0.0] * 5, seed=1),
        # Two seeds far apart: below the best on every resample, and no case for Welch's test.
        "unstable": runs([0.0, 2.0], seed=2),
    }
    found = compared(scores)
    assert found.best == "good"
    bad, unstable = found.rivals["bad"], found.rivals["unstable"]
    assert bad.significant
    assert unstable.bootstrap.significant
    assert unstable.welch.p_bonferroni > 0.01
    assert not unstable.significant


def test_adjusted_for_the_number_of_rivals():
    scores = {"a": runs([2] * 3), "b": runs([1] * 3, seed=1), "c": runs([0.9] * 3, seed=2)}
    found = compared(scores)
    p = [stats.ttest_ind(*(
        [roc_auc_score(LABELS, row) for row in scores[name]] for name in ("a", rival)
    ), equal_var=False).pvalue for rival in "bc"]  # fmt: skip
    tests = [found.rivals[rival].welch for rival in "bc"]
    assert [test.p for test in tests] == pytest.approx(p)
    assert [test.p_bonferroni for test in tests] == pytest.approx([min(1, 2 * v) for v in p])
    assert min(test.p_holm for test in tests) == pytest.approx(min(1, 2 * min(p)))
    assert max(test.p_holm for test in tests) == pytest.approx(max(*p, min(1, 2 * min(p))))


def test_a_single_seed_is_no_test():
    found = compared({"a": runs([3.0]), "b": runs([0.0] * 3, seed=1), "c": runs([0.0], seed=2)})
    for rival in found.rivals.values():
        assert rival.welch is None
        assert not rival.significant
    # A rival without a test counts in the adjustment of the others.
    found = compared({"a": runs([3, 2.9]), "b": runs([0, 0.1], seed=1), "c": runs([0.0], seed=2)})
    assert found.rivals["c"].welch is None
    test = found.rivals["b"].welch
    assert test.p_bonferroni == pytest.approx(2 * test.p)


def test_values_that_do_not_vary():
    """As of a method that draws nothing: its seeds agree, and a difference is certain."""
    good, bad = runs([3.0])[0], runs([0.0], seed=1)[0]
    test = compared({"good": [good] * 3, "bad": [bad] * 2}).rivals["bad"].welch
    assert (test.t, test.df, test.p) == (None, None, 0.0)


def test_the_draws_of_a_method_do_not_depend_on_the_others():
    scores = {"a": runs([1.0, 0.2, 0.5]), "b": runs([0.3, 0.1], seed=1)}
    one = over_seeds.resample(LABELS, scores, num_resamples=50).resampled.resampled
    other = over_seeds.resample(LABELS, {"b": scores["b"]}, num_resamples=50).resampled.resampled
    np.testing.assert_array_equal(one["AUPR"]["b"], other["AUPR"]["b"])
