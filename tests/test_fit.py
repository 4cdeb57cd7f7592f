"""`ocsvm_fit` as a user drives it: progress, interruption, warm starts, matrices, memory.

Its solutions are judged in test_model.py (against LIBSVM) and solver/test_large.py.
"""

import signal

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import optimality

from ocsvm_jax import OCSVM, Progress, Status, fit_large, gram, linear, ocsvm_fit, precomputed, rbf
from ocsvm_jax.kernels import RBF

N = 1030  # just beyond the dense solver: every size is a compilation


def points(n=N, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, 3)))


def alpha_of(model, n=N):
    alpha = np.zeros(n)
    alpha[np.asarray(model.info.support)] = np.asarray(model.coefficients)
    return alpha


@pytest.fixture
def without_type_checks(monkeypatch):
    """Outside of this suite nobody checks annotations, and the code's own messages are shown."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def model():
    return ocsvm_fit(points(), 0.2, rbf(0.7), tol=1e-9)


def test_the_callback_sees_the_gap_fall_to_the_tolerance(model, monkeypatch):
    monkeypatch.setattr(fit_large, "_SECONDS_PER_CALL", 0)  # one step per call
    seen: list[Progress] = []
    fitted = ocsvm_fit(points(), 0.2, rbf(0.7), tol=1e-9, callback=seen.append)
    assert len(seen) >= 3
    assert [p.num_steps for p in seen] == sorted(p.num_steps for p in seen)
    assert seen[-1].num_steps == fitted.info.num_steps
    assert seen[-1].gap <= seen[-1].tol == 1e-9 < seen[0].gap
    np.testing.assert_array_equal(fitted.coefficients, model.coefficients)


def test_an_interrupted_fit_leaves_nothing_behind(model):
    def interrupt(progress):
        signal.raise_signal(signal.SIGINT)

    # A job that a shell started in the background ignores the signal: as a terminal has it, then.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ocsvm_fit(points(), 0.2, rbf(0.7), tol=1e-9, callback=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    again = ocsvm_fit(points(), 0.2, rbf(0.7), tol=1e-9)
    np.testing.assert_array_equal(again.coefficients, model.coefficients)


def test_a_start_changes_the_time_and_not_the_solution(model):
    again = ocsvm_fit(points(), 0.2, rbf(0.7), tol=1e-9, start=model)
    assert again.info.num_steps <= 1
    np.testing.assert_allclose(alpha_of(again), alpha_of(model), rtol=0, atol=1e-9)
    for nu, kernel in ((0.25, rbf(0.7)), (0.15, rbf(0.7)), (0.2, rbf(0.9))):
        cold = ocsvm_fit(points(), nu, kernel, tol=1e-9)
        warm = ocsvm_fit(points(), nu, kernel, tol=1e-9, start=model)
        assert warm.info.status == Status.CONVERGED
        np.testing.assert_allclose(alpha_of(warm), alpha_of(cold), rtol=0, atol=1e-8)


@pytest.mark.parametrize("nu", [1.0, 0.2, 1e-4])
def test_a_start_is_cut_to_the_weights(model, nu):
    w = np.where(np.arange(N) % 2, 1.0, 0.0)
    warm = ocsvm_fit(points(), nu, rbf(0.7), sample_weight=jnp.asarray(w), tol=1e-9, start=model)
    K, C = np.asarray(gram(rbf(0.7), points())), optimality.upper_bounds(N, nu, w)
    alpha = alpha_of(warm)
    assert np.all(alpha <= C * (1 + 1e-12))
    assert np.sum(alpha) == pytest.approx(1, abs=1e-12)
    assert optimality.gap(K, alpha, C) <= 1e-9 + optimality.rounding(K, alpha.dtype)


def test_a_start_from_elsewhere_is_refused(model):
    by_hand = OCSVM(model.support_vectors, model.coefficients, model.rho, model.kernel)
    other = ocsvm_fit(points(2000)[1000:], 0.2, rbf(0.7)).with_info(
        model.info._replace(support=jnp.array([N]))
    )
    for start in (by_hand, other):
        with pytest.raises(ValueError, match=f"not a model that ocsvm_fit returned for these {N}"):
            ocsvm_fit(points(), 0.2, rbf(0.7), start=start)


@pytest.mark.parametrize("n", [100, N])
def test_a_precomputed_matrix(n, tmp_path):
    x, queries = points(n), points(7, seed=1)
    by_kernel = ocsvm_fit(x, 0.3, rbf(0.7), tol=1e-10)
    by_matrix = ocsvm_fit(gram(rbf(0.7), x), 0.3, precomputed(), tol=1e-10)
    np.testing.assert_allclose(alpha_of(by_matrix, n), alpha_of(by_kernel, n), rtol=0, atol=1e-9)
    expected = by_kernel.decision_function(queries)
    k_query = gram(rbf(0.7), queries, x)
    np.testing.assert_allclose(by_matrix.decision_function(k_query), expected, rtol=0, atol=1e-9)
    jitted = jax.jit(OCSVM.decision_function)(by_matrix, k_query)
    np.testing.assert_allclose(jitted, expected, rtol=0, atol=1e-9)
    path = tmp_path / "model.npz"
    by_matrix.save(path)
    loaded = OCSVM.load(path)
    np.testing.assert_array_equal(
        loaded.decision_function(k_query), by_matrix.decision_function(k_query)
    )
    np.testing.assert_array_equal(loaded.info.support, by_matrix.info.support)


@pytest.mark.usefixtures("without_type_checks")
def test_what_a_precomputed_kernel_refuses():
    with pytest.raises(ValueError, match=r"\(4, 3\); with the kernel precomputed\(\) .* square"):
        ocsvm_fit(np.ones((4, 3)), 0.5, precomputed())
    fitted = ocsvm_fit(np.eye(4), 0.5, precomputed())
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\); .* precomputed \(4, 4\)"):
        fitted.decision_function(np.ones((2, 3)))
    with pytest.raises(TypeError, match="not a function of two points"):
        gram(precomputed(), np.ones((2, 2)))


def test_memory_is_that_of_the_points_and_a_working_set():
    n = 50_000
    x, C = jax.ShapeDtypeStruct((n, 8), np.float32), jax.ShapeDtypeStruct((n,), np.float32)
    limits = (jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct((), np.int32))
    kernel = RBF(jax.ShapeDtypeStruct((), np.float32))
    state = jax.eval_shape(fit_large._begin, kernel, x, C)
    turns = jax.ShapeDtypeStruct((), np.int32)
    compiled = fit_large._advance.lower(kernel, x, C, limits, state, turns).compile()
    needed = compiled.memory_analysis().temp_size_in_bytes
    assert needed < 100e6 < n * n * 4 / 50


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ocsvm_jax.ConvergenceWarning")  # the status is what is tested
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    # Few distinct rows make duplicates. Of far larger ones the squared distances, a difference of
    # squares, would hold fewer digits than the tolerance.
    rows=hnp.arrays(np.float64, (8, 3), elements=st.floats(-10, 10, allow_subnormal=False)),
    scale=st.sampled_from([1e-3, 1.0, 10.0]),
    jitter=st.sampled_from([0.0, 1e-9, 1.0]),
    nu=st.floats(1e-6, 1),
    weights=hnp.arrays(np.float64, 8, elements=st.sampled_from([0.0, 0.5, 1.0, 100.0])),
    by_lines=st.booleans(),
)
def test_any_finite_points(rows, scale, jitter, nu, weights, by_lines):
    """A feasible alpha, and a status that says what the gap, computed here, is."""
    weights[0] = 1.0
    noise = jitter * np.random.default_rng(0).standard_normal((N, 3))
    x = scale * (rows[np.arange(N) % 8] + noise)
    w = weights[np.arange(N) % 8]
    kernel = linear() if by_lines else rbf(0.3)
    model = ocsvm_fit(
        jnp.asarray(x), nu, kernel, sample_weight=jnp.asarray(w), tol=1e-7, max_steps=200
    )
    alpha, C = alpha_of(model), optimality.upper_bounds(N, nu, w)
    assert np.all(alpha >= 0) and np.all(alpha <= C * (1 + 1e-12))
    assert np.sum(alpha) == pytest.approx(1, abs=1e-12)
    K = np.asarray(gram(kernel, jnp.asarray(x)))
    rounding = 8 * optimality.rounding(K, alpha.dtype)  # of sums of a thousand terms
    gap = optimality.gap(K, alpha, C)
    assert gap == pytest.approx(float(model.info.gap), abs=1e-7 + rounding, rel=1e-6)
    if model.info.status == Status.CONVERGED:
        assert gap <= 1e-7 + rounding
    else:
        assert gap > 1e-7 - rounding
    assert np.all(np.isfinite(model.decision_function(jnp.asarray(x[:9]))))
