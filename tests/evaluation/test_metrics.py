from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ocsvm_jax.evaluation import metrics, resampling
from ocsvm_jax.evaluation.metrics import METRICS, Interval


def _sample(seed, n=300, shift=0.5, decimals=1):
    """Labels and scores; one decimal leaves about 50 distinct scores, so most are tied."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(n) % 3 == 0).astype(int)
    return labels, np.round(generator.normal(size=n) + shift * labels, decimals)


def _sklearn(labels, scores, weights=None):
    return [
        roc_auc_score(labels, scores, sample_weight=weights),
        average_precision_score(labels, scores, sample_weight=weights),
        roc_auc_score(labels, scores, sample_weight=weights, max_fpr=0.3),
    ]


def test_point_estimates_by_hand():
    labels, scores = [0, 1, 0, 1], [0.1, 0.4, 0.35, 0.8]
    assert metrics.auroc(labels, scores) == 1.0
    assert metrics.aupr(labels, scores) == 1.0
    assert metrics.auroc30(labels, scores) == 1.0
    # One of the four pairs is in the wrong order, one is tied: (2 + 1/2) / 4.
    assert metrics.auroc(labels, [0.1, 0.4, 0.4, 0.2]) == pytest.approx(0.625)


@pytest.mark.parametrize("function", [metrics.auroc, metrics.auroc30])
def test_constant_scores_are_chance(function):
    assert function([0, 1, 1, 0, 1], np.zeros(5)) == pytest.approx(0.5)


def test_aupr_of_constant_scores_is_the_prevalence():
    assert metrics.aupr([0, 1, 1, 0, 1], np.zeros(5)) == pytest.approx(0.6)


@pytest.mark.parametrize("decimals", [0, 1, 12])
@pytest.mark.parametrize("kind", ["counts", "fractions"])
def test_weighted_metrics_are_those_of_scikit_learn(decimals, kind):
    labels, scores = _sample(decimals, decimals=decimals)
    generator = np.random.default_rng(7)
    if kind == "counts":
        weights = generator.poisson(1.0, size=(20, labels.size)).astype(float)
        assert (weights == 0).any()
    else:
        weights = generator.exponential(size=(20, labels.size))
    ranking = resampling.rank(labels.astype(bool), scores)
    expected = [_sklearn(labels, scores, w) for w in weights]
    np.testing.assert_allclose(
        resampling.weighted_metrics(ranking, weights), expected, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_weighted_metrics_where_the_leading_scores_have_no_weight(sign):
    labels, scores = _sample(3)
    weights = np.where(np.argsort(np.argsort(-sign * scores)) < 100, 0.0, 1.0)[None]
    ranking = resampling.rank(labels.astype(bool), scores)
    np.testing.assert_allclose(
        resampling.weighted_metrics(ranking, weights)[0],
        _sklearn(labels, scores, weights[0]),
        rtol=0,
        atol=1e-12,
    )


def test_bootstrap_is_the_metric_of_resampled_images():
    labels, scores = _sample(1, n=50)
    values = metrics.bootstrap(labels, {"s": scores}, num_resamples=5, seed=2)["s"]
    counts = np.concatenate(list(resampling.resamples(labels.astype(bool), 5, 2)))
    np.testing.assert_array_equal(counts.sum(axis=1), 50)
    for i, count in enumerate(counts.astype(int)):
        drawn = np.repeat(np.arange(50), count)
        expected = _sklearn(labels[drawn], scores[drawn])
        np.testing.assert_allclose([values[m][i] for m in METRICS], expected, atol=1e-12)


def test_counts_are_multinomial():
    anomalous = np.arange(40) % 2 == 0
    counts = np.concatenate(list(resampling.resamples(anomalous, 4000, 0)))
    # Mean 1 and variance 1 - 1/n for each image; 4,000 draws of variance about 3 bound the errors.
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(counts.var(axis=0).mean(), 1 - 1 / 40, atol=0.02)


def test_resamples_are_shared_by_scores_and_calls():
    labels, first = _sample(1)
    second = np.sin(7 * first)
    together = metrics.bootstrap(labels, {"a": first, "b": second}, num_resamples=30)
    alone = metrics.bootstrap(labels, {"b": second}, num_resamples=30)
    np.testing.assert_array_equal(together["b"]["AUPR"], alone["b"]["AUPR"])
    assert not np.array_equal(together["a"]["AUPR"], together["b"]["AUPR"])


@pytest.mark.parametrize("size", [1, 900, 2**20])
def test_resamples_do_not_depend_on_the_chunks(monkeypatch, size):
    labels, scores = _sample(1)
    expected = metrics.evaluate(labels, scores, num_resamples=25)
    monkeypatch.setattr(resampling, "_CHUNK_SIZE", size)
    assert metrics.evaluate(labels, scores, num_resamples=25) == expected


def test_seed_decides_the_interval():
    labels, scores = _sample(1)
    first = metrics.evaluate(labels, scores, num_resamples=50, seed=1)
    assert first == metrics.evaluate(labels, scores, num_resamples=50, seed=1)
    other = metrics.evaluate(labels, scores, num_resamples=50, seed=2)
    assert first["AUROC"].value == other["AUROC"].value
    assert first["AUROC"].low != other["AUROC"].low


def test_interval_holds_the_truth_as_often_as_it_says():
    shift, trials = 1.0, 120
    truth = NormalDist().cdf(shift / np.sqrt(2))
    inside = 0
    for seed in range(trials):
        labels, scores = _sample(seed, n=200, shift=shift, decimals=12)
        low, high = metrics.evaluate(labels, scores, num_resamples=150)["AUROC"][1:]
        inside += low <= truth <= high
    # 95% of 120 is 114, with a standard deviation of 2.4.
    assert 106 <= inside <= 119


def test_interval_narrows_with_the_square_root_of_n():
    widths = []
    for n in (500, 8000):
        _, low, high = metrics.evaluate(*_sample(0, n=n), num_resamples=300)["AUROC"]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.25)


def test_resamples_with_one_class_are_drawn_again():
    values = metrics.bootstrap([1, 0, 0], {"s": [0.5, 0.1, 0.9]}, num_resamples=200)["s"]
    assert all(v.shape == (200,) and np.isfinite(v).all() for v in values.values())
    # The anomalous image beats one of the two normal ones: these are the values there are.
    assert set(values["AUROC"]) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_score_types(dtype):
    labels, scores = _sample(1, decimals=0)
    assert metrics.auroc(labels, scores.astype(dtype)) == metrics.auroc(labels, scores)
    assert metrics.auroc(labels.astype(bool), scores) == metrics.auroc(labels.tolist(), scores)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], r"labels has shape \(0,\)"),
        ([[0, 1]], [0.1, 0.2], r"labels has shape \(1, 2\)"),
        ([0, 1], [0.1, 0.2, 0.3], r"scores has shape \(3,\) and there are 2 labels"),
        ([0, 1], [[0.1], [0.2]], r"scores has shape \(2, 1\)"),
        ([0, 0, 0], [0.1, 0.2, 0.3], r"All 3 labels are 0.*anomalous \(1\)"),
        ([1, 1], [0.1, 0.2], "All 2 labels are 1"),
        ([-1, 1], [0.1, 0.2], "labels holds -1, 1: pass 1 for anomalous"),
        ([0.0, 1.0, np.nan], [0.1, 0.2, 0.3], "labels holds 0.0, 1.0, nan"),
        (["3", "8"], [0.1, 0.2], "labels holds 3, 8"),
        ([0, 1, 1], [0.1, np.nan, np.inf], "2 NaN or infinite values out of 3.*index 1.*diverged"),
        ([0, 1], ["low", "high"], "does not hold numbers"),
    ],
)
@pytest.mark.parametrize(
    "function", [metrics.auroc, metrics.aupr, metrics.auroc30, metrics.evaluate]
)
def test_bad_input(function, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        function(labels, scores)


def test_bad_bootstrap_arguments():
    with pytest.raises(ValueError, match="num_resamples is 0"):
        metrics.evaluate([0, 1], [0.1, 0.2], num_resamples=0)
    with pytest.raises(ValueError, match="No scores were given"):
        metrics.table([0, 1], {})
    with pytest.raises(ValueError, match="last_m holds 1 NaN"):
        metrics.table([0, 1], {"ocsvm": [0.1, 0.2], "last_m": [0.1, np.nan]})


def test_table():
    labels, scores = _sample(1)
    rows = metrics.table(labels, {"a": scores, "b": -scores}, split="test", num_resamples=20)
    assert [(row.split, row.score, row.n) for row in rows] == [
        ("test", "a", 300),
        ("test", "b", 300),
    ]
    assert rows[0].prevalence == pytest.approx(1 / 3)
    assert rows[0].metrics == metrics.evaluate(labels, scores, num_resamples=20)
    for metric, value in zip(METRICS, _sklearn(labels, -scores), strict=True):
        interval = rows[1].metrics[metric]
        assert interval.value == pytest.approx(value, abs=1e-12)
        assert interval.low < interval.value < interval.high


def _rows(split=""):
    interval = Interval(0.5634, 0.55149, 0.574)
    results = dict.fromkeys(METRICS, interval)
    return [
        metrics.Row("ocsvm", results, 35946, 0.488, split),
        metrics.Row("a|b", results, 52, 0.5, split),
    ]


def test_format_table_is_aligned():
    header, first, second = metrics.format_table(_rows()).splitlines()
    assert header.split() == ["score", *METRICS, "n", "anomalous"]
    assert first.startswith("ocsvm  0.563 [0.551, 0.574]  ")
    assert first.endswith("35,946      48.8%")
    assert len({header.index("AUROC"), first.index("0.563"), second.index("0.563")}) == 1
    assert len(header) == len(first) == len(second)
    assert metrics.format_table(_rows("test")).splitlines()[1].startswith("test   ocsvm")


def test_format_table_in_markdown():
    lines = metrics.format_table(_rows("test"), markdown=True).splitlines()
    assert lines[1].count(":") == 2
    assert lines[3].startswith(r"| test  | a\|b ")
    assert {line.replace(r"\|", "").count("|") for line in lines} == {8}
