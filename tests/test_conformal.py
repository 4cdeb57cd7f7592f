import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from ocsvm_jax.conformal import conformal_p_values, conformal_threshold
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import rbf

REPETITIONS = 20_000
ERRORS = 4.5  # standard errors a simulated rate may be off: once in 150,000 seeds, on each side
N = 19


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def tied(*shape, seed=0):
    """Five values only; the lowest takes a fifth of the points."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, 5, shape) * 1.0)


def standard_error(rate, repetitions=REPETITIONS):
    return np.sqrt(rate * (1 - rate) / repetitions)


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("draw", [normal, tied])
def test_p_values_count(draw):
    calibration, f = draw(N), draw(4, 3, seed=1)
    counts = np.sum(np.asarray(calibration) <= np.asarray(f)[..., None], axis=-1)
    p = conformal_p_values(calibration, f)
    np.testing.assert_array_equal(p, (1 + counts) / (N + 1))
    # Lower is more anomalous: below all calibration values, p is as small as n allows.
    assert conformal_p_values(calibration, jnp.asarray(-np.inf)) == 1 / (N + 1)
    assert conformal_p_values(calibration, jnp.asarray(np.inf)) == 1


def test_p_values_take_the_wider_dtype():
    single, double = jnp.float32([0.1, 0.2]), jnp.float64([0.1, 0.2])
    assert conformal_p_values(single, single).dtype == np.float32
    assert conformal_p_values(single, double).dtype == np.float64
    # float32(0.1) is above 0.1, and is not rounded to meet it.
    np.testing.assert_array_equal(conformal_p_values(single, double), [1 / 3, 2 / 3])


def test_the_rate_is_what_it_promises_whatever_the_distribution():
    p = jax.vmap(conformal_p_values)(normal(REPETITIONS, N), normal(REPETITIONS, seed=1))
    for k in range(1, N + 1):
        t = k / (N + 1)
        assert np.mean(p <= t) == pytest.approx(t, abs=ERRORS * standard_error(t))


def test_ties_are_conservative():
    p = jax.vmap(conformal_p_values)(tied(REPETITIONS, N), tied(REPETITIONS, seed=1))
    rates = np.array([np.mean(p <= k / (N + 1)) for k in range(1, N + 1)])
    t = np.arange(1, N + 1) / (N + 1)
    assert np.all(rates <= t + ERRORS * standard_error(t))
    assert rates[0] < 0.2 * t[0]  # how much they cost: (4/5)^19 of a fifth


@pytest.mark.parametrize("draw", [normal, tied])
def test_the_randomised_p_value_is_uniform(draw):
    calibration, f = draw(REPETITIONS, N), draw(REPETITIONS, seed=1)
    keys = jax.random.split(jax.random.key(2), REPETITIONS)
    p = jax.vmap(conformal_p_values)(calibration, f, keys)
    assert np.min(p) > 0
    assert np.max(p) <= 1
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    # This number of repetitions sees a p-value that is not.
    assert stats.kstest(jax.vmap(conformal_p_values)(calibration, f), "uniform").pvalue < 1e-9


def test_the_randomised_p_value_lies_below_the_other():
    calibration, f = tied(N), tied(50, seed=1)
    p = conformal_p_values(calibration, f)
    random = conformal_p_values(calibration, f, jax.random.key(0))
    below = np.sum(np.asarray(calibration) < np.asarray(f)[:, None], axis=1) / (N + 1)
    assert np.all(random <= p)
    assert np.all(random > below)
    assert len(np.unique(random)) == 50  # each point draws its own


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 28, 99])
def test_flagged_below_the_threshold_if_and_only_if_p_is_at_most_alpha(n, dtype):
    """For every multiple of 1 / (n + 1), where a rounding would tell, and between them."""
    calibration = tied(n).astype(dtype) if n == 28 else normal(n).astype(dtype)
    f = jnp.concatenate([calibration, calibration - dtype(1e-3), calibration + dtype(1e-3)])
    p = np.asarray(jax.jit(conformal_p_values)(calibration, f))
    assert p.dtype == dtype
    for k in range(1, n + 1):
        for alpha in (k / (n + 1), (k + 0.5) / (n + 1)):
            threshold = conformal_threshold(calibration, alpha)
            assert threshold.dtype == dtype
            np.testing.assert_array_equal(f < threshold, p <= alpha)


@pytest.mark.parametrize(("alpha", "rank"), [(0.29, 29), (np.nextafter(0.3, 0), 29), (0.3, 30)])
def test_rounding_does_not_decide(alpha, rank):
    """0.29 * 100 rounds to below 29, and the number before 0.3, times 100, to 30."""
    calibration = jnp.arange(1.0, 100.0)
    assert conformal_threshold(calibration, float(alpha)) == rank


def test_given_the_calibration_set_the_rate_has_a_beta_distribution():
    # For uniform decision values the threshold is the false-alarm rate.
    calibration = jnp.asarray(np.random.default_rng(0).uniform(size=(REPETITIONS, 99)))
    rates = jax.vmap(lambda f: conformal_threshold(f, 0.1))(calibration)
    assert stats.kstest(rates, stats.beta(10, 90).cdf).pvalue > 1e-3
    assert np.mean(rates) == pytest.approx(0.1, abs=ERRORS * 0.03 / np.sqrt(REPETITIONS))


@pytest.mark.parametrize(
    ("n", "alpha", "confidence"), [(99, 0.1, 0.9), (99, 0.1, 0.3), (59, 0.05, 0.95)]
)
def test_with_confidence_the_rate_of_this_calibration_set_is_bounded(n, alpha, confidence):
    calibration = jnp.asarray(np.random.default_rng(1).uniform(size=(REPETITIONS, n)))
    thresholds = jax.vmap(lambda f: conformal_threshold(f, alpha, confidence=confidence))
    rates = np.asarray(thresholds(calibration))  # for uniform decision values
    kept = np.mean(rates <= alpha)
    assert kept >= confidence - ERRORS * standard_error(confidence)
    # And no more is given away than ranks demand: the next one breaks the promise.
    rank = 1 + int(np.sum(np.asarray(calibration[0]) < rates[0]))
    at_rank = stats.binom.sf(rank - 1, n, alpha)
    assert kept == pytest.approx(at_rank, abs=ERRORS * standard_error(at_rank))
    assert stats.binom.sf(rank, n, alpha) < confidence <= at_rank


@pytest.mark.parametrize("confidence", [None, 0.5, 0.95])
@pytest.mark.parametrize("alpha", [0.1, 1 / 49, 0.07, 0.01, 1e-3])
def test_too_few_calibration_points(alpha, confidence):
    """The number that the error names is enough, and one less is not."""
    error = re.escape(f"a false-alarm rate of {alpha}") + ".* takes at least"
    with pytest.raises(ValueError, match=f"holds 1 values; {error}") as caught:
        conformal_threshold(jnp.zeros(1), alpha, confidence=confidence)
    enough = int(re.findall(r"\d+", str(caught.value))[-1])
    assert conformal_threshold(jnp.zeros(enough), alpha, confidence=confidence) == 0
    with pytest.raises(ValueError, match=error):
        conformal_threshold(jnp.zeros(enough - 1), alpha, confidence=confidence)


def test_on_a_fitted_model_and_never_on_its_own_points():
    """In 10 dimensions the model has pulled its 200 points inside, and few others."""
    x, alpha = normal(200, 10), 0.1
    model = ocsvm_fit(x, 0.1, rbf(0.2))
    new = model.decision_function(normal(10_000, 10, seed=1))
    calibration = model.decision_function(normal(200, 10, seed=2))
    on_average = np.mean(new < conformal_threshold(calibration, alpha))
    bounded = np.mean(new < conformal_threshold(calibration, alpha, confidence=0.99))
    assert on_average == pytest.approx(alpha, abs=ERRORS * stats.beta(20, 181).std())
    assert 0.02 < bounded < alpha
    # nu bounds the share of the training points outside; of new ones, it bounds nothing.
    assert np.mean(new < 0) > 2 * alpha
    biased = np.mean(new < conformal_threshold(model.decision_function(x), alpha))
    assert biased > 2 * alpha


def test_scores_are_handed_over_negated():
    scores = normal(99)
    threshold = -conformal_threshold(-scores, 0.05)
    assert np.sum(scores > threshold) == 4  # the fifth largest is the threshold
    p = conformal_p_values(-scores, -jnp.asarray([10.0, -10.0]))
    np.testing.assert_array_equal(p, [0.01, 1])


def test_benjamini_hochberg_controls_the_false_discovery_rate():
    """The docstring sends people to SciPy: 40 normal points, 10 anomalies, one calibration set."""
    repetitions, q = 2000, 0.2
    f = normal(repetitions, 50, seed=1) - jnp.where(jnp.arange(50) < 10, 3.0, 0.0)[None, :]
    p = jax.vmap(conformal_p_values)(normal(repetitions, 199), f)
    selected = stats.false_discovery_control(np.asarray(p), axis=1) <= q
    false = np.sum(selected[:, 10:], axis=1) / np.maximum(np.sum(selected, axis=1), 1)
    bound = 0.8 * q  # q times the share of normal points
    assert np.mean(false) <= bound + ERRORS * np.std(false) / np.sqrt(repetitions)
    assert np.mean(selected[:, :10]) > 0.7


def test_under_jit_nan_is_not_a_number():
    """It can not be refused there, and must not pass for normal or anomalous."""
    calibration, f = normal(N), jnp.asarray([0.0, np.nan])
    p = jax.jit(conformal_p_values)(calibration, f)
    np.testing.assert_array_equal(np.isnan(p), [False, True])
    damaged = calibration.at[3].set(np.nan)
    assert np.all(np.isnan(jax.jit(conformal_p_values)(damaged, f)))
    assert np.isnan(jax.jit(lambda c: conformal_threshold(c, 0.1))(damaged))
    p = jax.jit(conformal_p_values)(calibration, f, jax.random.key(0))
    np.testing.assert_array_equal(np.isnan(p), [False, True])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0}, r"alpha is 0; it must lie in \(0, 1\)"),
        ({"alpha": 1.0}, r"alpha is 1.0"),
        ({"alpha": np.nan}, "alpha is nan"),
        ({"confidence": 95}, r"confidence is 95; it must lie in \(0, 1\)"),
        ({"f_calibration": np.zeros((5, 1))}, r"shape \(5, 1\); it takes one decision value"),
        ({"f_calibration": []}, r"shape \(0,\)"),
        ({"f_calibration": [1.0, np.nan]}, "f_calibration holds 1 NaN"),
    ],
)
@pytest.mark.usefixtures("as_a_user_calls")
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        conformal_threshold(**{"f_calibration": np.arange(50.0), "alpha": 0.1} | changes)


@pytest.mark.usefixtures("as_a_user_calls")
def test_bad_values():
    with pytest.raises(ValueError, match="f holds 2 NaN"):
        conformal_p_values(np.arange(3.0), [np.nan, 0, np.nan])
    with pytest.raises(ValueError, match=re.escape("f_calibration has shape ()")):
        conformal_p_values(0.0, [0.0])
    # Lists and integers are fine.
    np.testing.assert_array_equal(conformal_p_values([1, 2, 3], [2]), [0.75])
