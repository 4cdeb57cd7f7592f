import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.float_modes import float32_mode, float64_mode

from ocsvm_jax.conformal import benjamini_hochberg, conformal_p_values, conformal_threshold
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import rbf
from ocsvm_jax.model import OCSVM

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
    """40 normal points, 10 anomalies, one calibration set."""
    repetitions, q = 2000, 0.2
    f = normal(repetitions, 50, seed=1) - jnp.where(jnp.arange(50) < 10, 3.0, 0.0)[None, :]
    p = jax.vmap(conformal_p_values)(normal(repetitions, 199), f)
    selected = np.asarray(jax.vmap(lambda p: benjamini_hochberg(p, q))(p))
    np.testing.assert_array_equal(selected, stats.false_discovery_control(p, axis=1) <= q)
    false = np.sum(selected[:, 10:], axis=1) / np.maximum(np.sum(selected, axis=1), 1)
    bound = 0.8 * q  # q times the share of normal points
    assert np.mean(false) <= bound + ERRORS * np.std(false) / np.sqrt(repetitions)
    assert np.mean(selected[:, :10]) > 0.7


def test_under_jit_nan_is_not_a_number():
    """It cannot be refused there, and must not pass for normal or anomalous."""
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


def in_dtype(values, dtype):
    """As a NumPy or a JAX array; "list" as Python's numbers."""
    if dtype == "list":
        return values.tolist()
    return jnp.asarray(values, dtype[4:]) if dtype.startswith("jax ") else values.astype(dtype)


DTYPES = ["float64", "float32", "float16", "list", "jax float64", "jax float32", "jax bfloat16"]
DTYPES += ["int64", "jax int32"]


@pytest.mark.parametrize("float64", [True, False], ids=["float64", "float32"])
@pytest.mark.parametrize("calibration", DTYPES)
@pytest.mark.parametrize("scores", DTYPES)
@pytest.mark.usefixtures("as_a_user_calls")
def test_flags_and_p_values_agree_in_all_dtypes(calibration, scores, float64):
    """Atoms whose values no dtype but float64 holds: a threshold rounded up would flag them."""
    rng = np.random.default_rng(0)
    atoms = np.array([-3, -1, 0, 2, 5]) / 7 + np.array([1 / 3, -1, 4, 7, 9])
    if "int" in calibration + scores:
        atoms = atoms * (1e3 if "float16" in calibration + scores else 1e8)
    f_calibration = in_dtype(rng.choice(atoms, 39), calibration)
    f = in_dtype(rng.choice(atoms, 50), scores)
    # What was handed over, as the numbers they are.
    exact_calibration, exact = (np.asarray(v).astype(np.float64) for v in (f_calibration, f))
    with float64_mode() if float64 else float32_mode():
        p = np.asarray(conformal_p_values(f_calibration, f), np.float64)
        counts = np.sum(exact_calibration <= exact[:, None], axis=-1)
        np.testing.assert_allclose(p, (1 + counts) / 40, rtol=1e-6)
        for alpha in (0.025, 0.3, 0.4, 0.75):
            threshold = float(conformal_threshold(f_calibration, alpha))
            assert threshold in exact_calibration
            np.testing.assert_array_equal(exact < threshold, p <= alpha * (1 + 1e-6))
            rank_value = np.sort(exact_calibration)[int(np.floor(alpha * 40 + 1e-9)) - 1]
            assert not np.any(exact_calibration[exact_calibration == rank_value] < threshold)


@pytest.mark.usefixtures("as_a_user_calls")
def test_numpy_in_numpy_out():
    rng = np.random.default_rng(0)
    f_calibration, f = rng.normal(size=99), rng.normal(size=(4, 5))
    with float32_mode():
        p, threshold = conformal_p_values(f_calibration, f), conformal_threshold(f_calibration, 0.1)
        selected = benjamini_hochberg(p.ravel(), 0.1)
    assert isinstance(p, np.ndarray) and p.dtype == np.float64
    assert isinstance(threshold, np.float64)
    assert isinstance(selected, np.ndarray) and selected.dtype == bool
    single = jnp.asarray(f_calibration, jnp.float32)
    assert isinstance(conformal_threshold(single, 0.1), jax.Array)
    assert isinstance(conformal_p_values(single, single), jax.Array)


@pytest.mark.usefixtures("as_a_user_calls")
def test_what_is_known_under_jit_is_rounded_to_the_safe_side():
    """float64 calibration values in a float32 program: p-values count as if nothing was cast."""
    f_calibration = np.random.default_rng(0).normal(size=199)
    f = f_calibration.astype(np.float32)
    with float32_mode():
        p = jax.jit(lambda f: conformal_p_values(f_calibration, f))(f)
        random = jax.jit(lambda f, key: conformal_p_values(f_calibration, f, key))
        lowest = np.min([random(f, jax.random.key(seed)) for seed in range(20)], axis=0)
    exact = np.sum(f_calibration <= np.float64(f)[:, None], axis=1)
    np.testing.assert_allclose(p, (1 + exact) / 200, rtol=1e-6)
    assert np.all(lowest >= np.sum(f_calibration < np.float64(f)[:, None], axis=1) / 200)
    calibration = f_calibration.astype(np.float32)
    with float32_mode():
        p = jax.jit(lambda c: conformal_p_values(c, f_calibration))(calibration)
    exact = np.sum(np.float64(calibration) <= f_calibration[:, None], axis=1)
    np.testing.assert_allclose(p, (1 + exact) / 200, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
@pytest.mark.usefixtures("as_a_user_calls")
def test_a_threshold_in_fewer_digits_is_rounded_down(dtype):
    f = np.random.default_rng(0).normal(size=99)
    for alpha in np.arange(1, 99) / 100:
        threshold, exact = (conformal_threshold(f, alpha, dtype=d) for d in (dtype, None))
        assert threshold.dtype == dtype
        assert float(threshold) <= exact
        up = np.nextafter(threshold, np.asarray(np.inf, dtype))
        assert float(up) > exact
        assert not np.any(f[f == exact] < float(threshold))
    traced = jax.jit(lambda f: conformal_threshold(f, 0.98, dtype=dtype))(f)
    assert traced.dtype == dtype and float(traced) == float(threshold)


@settings(deadline=None, max_examples=300)
@given(
    p=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    q=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5]),
)
def test_benjamini_hochberg_is_scipys(p, q):
    """On p-values as they come, multiples of 1 / (n + 1) with many ties on the line q i / m."""
    values = np.array(p) / 40
    expected = stats.false_discovery_control(values) <= q
    np.testing.assert_array_equal(benjamini_hochberg(values, q), expected)


def test_benjamini_hochberg_under_transformations():
    p = jnp.asarray(np.random.default_rng(0).integers(1, 41, (7, 30)) / 40)
    p = p.at[:, :3].set(1 / 400)
    selected = jax.jit(jax.vmap(lambda p: benjamini_hochberg(p, 0.3)))(p)
    np.testing.assert_array_equal(selected, stats.false_discovery_control(p, axis=1) <= 0.3)
    assert np.any(selected)
    with_nan = jax.jit(lambda p: benjamini_hochberg(p, 0.9))(p[0].at[5].set(np.nan))
    assert not with_nan[5] and np.any(with_nan)
    assert benjamini_hochberg(p[0, :0], 0.5).shape == (0,)


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([[0.5]], 0.1, r"p has shape \(1, 1\); it takes one p-value per point"),
        ([0.5, 1.5], 0.1, r"p holds values from 0\.5 to 1\.5; p-values lie in \[0, 1\]"),
        ([0.5, np.nan], 0.1, "p holds 1 NaN"),
        ([0.5], 1.0, r"q is 1\.0; it must lie in \(0, 1\)"),
    ],
)
@pytest.mark.usefixtures("as_a_user_calls")
def test_what_benjamini_hochberg_refuses(p, q, message):
    with pytest.raises(ValueError, match=message):
        benjamini_hochberg(p, q)


@pytest.mark.usefixtures("as_a_user_calls")
def test_a_false_alarm_rate_of_text():
    with pytest.raises(TypeError, match=r"alpha is '0\.1'; it must be one number in \(0, 1\)"):
        conformal_threshold(normal(50), "0.1")


@pytest.fixture(scope="module")
def fitted():
    return ocsvm_fit(normal(200, 10), 0.1, rbf(0.2))


def test_a_calibrated_model_keeps_its_promise(fitted):
    """On average over calibration sets, and given one with the confidence asked for."""
    new = normal(10_000, 10, seed=1)
    rates, bounded = [], []
    for seed in range(20):
        x = normal(200, 10, seed=2 + seed)
        rates.append(np.mean(fitted.calibrate(x, 0.1).flagged(new)))
        detector = fitted.calibrate(x, 0.1, confidence=0.9)
        bounded.append(np.mean(detector.flagged(new)))
    expected = stats.beta(20, 181)
    assert np.mean(rates) == pytest.approx(expected.mean(), abs=ERRORS * expected.std() / 20**0.5)
    assert np.mean(rates) <= 0.1 + ERRORS * expected.std() / 20**0.5
    assert np.mean(np.array(bounded) <= 0.1) >= 0.75  # .9 expected, of 20
    # The boundary of the model itself promises nothing.
    assert np.mean(fitted.decision_function(new) < 0) > 0.2


def test_flags_of_a_calibrated_model_are_its_p_values(fitted, tmp_path):
    detector = fitted.calibrate(normal(99, 10, seed=2), 0.05)
    x = normal(500, 10, seed=3)
    flagged, p = detector.flagged(x), detector.p_values(x)
    np.testing.assert_array_equal(flagged, p <= 0.05)
    np.testing.assert_array_equal(jax.jit(lambda d, x: d.flagged(x))(detector, x), flagged)
    np.testing.assert_array_equal(detector.decision_function(x), fitted.decision_function(x))
    assert not np.any(detector.p_values(x, jax.random.key(0)) > p)
    assert detector.flagged(x.at[0, 0].set(np.nan))[0]
    text = "99 calibration points, threshold=-0.0"
    assert text in repr(detector) and repr(detector).count("\n") == 1
    assert "threshold=float64[]" in str(jax.eval_shape(lambda d: d, detector))

    path = tmp_path / "detector.npz"
    detector.save(path)
    loaded = OCSVM.load_calibrated(path)
    np.testing.assert_array_equal(loaded.flagged(x), flagged)
    assert (loaded.false_alarm, loaded.confidence) == (0.05, None)
    np.testing.assert_array_equal(OCSVM.load(path).coefficients, fitted.coefficients)
    with float32_mode():
        single = OCSVM.load_calibrated(path)
        assert single.threshold.dtype == np.float32
        # Downwards both: on the safe side, and still one of the values.
        assert float(single.threshold) <= float(detector.threshold)
        assert np.any(single.calibration == single.threshold)
    fitted.save(path)
    with pytest.raises(ValueError, match="a model without a calibration"):
        OCSVM.load_calibrated(path)


def test_too_few_points_to_calibrate(fitted):
    with pytest.raises(ValueError, match=r"a false-alarm rate of 0\.01 takes at least 99"):
        fitted.calibrate(normal(98, 10), 0.01)
