"""What ocsvm_solve accepts; of the rest, ValueError where it can be seen, INVALID under jit."""

import contextlib

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from support.float_modes import float32_mode
from support.problems import on_host, rbf_matrices, solve

from ocsvm_jax.decision import decision_function
from ocsvm_jax.solver import Status, ocsvm_solve
from ocsvm_jax.solver.checks import normalized_weights

N = 12
K = rbf_matrices(0, N, batch=1)[0]


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


WRONG = {
    "vector": ((np.ones(4), 0.5), {}, "K has shape (4,)"),
    "rectangle": ((np.ones((4, 3)), 0.5), {}, "K has shape (4, 3)"),
    "batch": ((np.ones((2, 3, 3)), 0.5), {}, "jax.vmap"),
    "empty": ((np.ones((0, 0)), 0.5), {}, "K has shape (0, 0)"),
    "NaN": ((np.full((2, 2), np.nan), 0.5), {}, "K holds NaN or infinite"),
    "infinite": ((np.diag([np.inf, 1]), 0.5), {}, "K holds NaN or infinite"),
    "nu of 0": ((K, 0), {}, "nu is 0.0"),
    "nu above 1": ((K, 1.5), {}, "nu is 1.5"),
    "negative nu": ((K, -0.1), {}, "nu is -0.1"),
    "nu of NaN": ((K, np.nan), {}, "nu is nan"),
    "many nu": ((K, np.full(3, 0.5)), {}, "nu has shape (3,)"),
    "too few weights": ((K, 0.5), {"sample_weight": np.ones(N - 1)}, "shape (11,); K has 12"),
    "a scalar weight": ((K, 0.5), {"sample_weight": 1.0}, "sample_weight has shape ()"),
    "a negative weight": ((K, 0.5), {"sample_weight": -np.eye(N)[2]}, "1 negative values"),
    "weights of 0": ((K, 0.5), {"sample_weight": np.zeros(N)}, "sample_weight is all zero"),
    "a weight of NaN": ((K, 0.5), {"sample_weight": np.full(N, np.nan)}, "sample_weight holds NaN"),
    "no steps": ((K, 0.5), {"max_steps": 0}, "max_steps is 0"),
    "tol of 0": ((K, 0.5), {"tol": 0.0}, "tol is 0.0"),
    "negative tol": ((K, 0.5), {"tol": -1e-3}, "tol is -0.001"),
}


@pytest.mark.parametrize("name", WRONG)
def test_misuse_says_what_was_received(name, as_a_user_calls):
    arguments, keywords, text = WRONG[name]
    with pytest.raises(ValueError) as error:
        ocsvm_solve(*arguments, **keywords)
    assert text in str(error.value)


def test_whatever_is_not_traced_is_checked_under_jit_too(as_a_user_calls):
    with pytest.raises(ValueError, match=r"K has shape \(4, 3\)"):
        jax.jit(ocsvm_solve)(np.ones((4, 3)), 0.5)
    with pytest.raises(ValueError, match=r"nu is 2\.0"):
        jax.jit(lambda K: ocsvm_solve(K, 2.0))(K)
    with pytest.raises(ValueError, match="sample_weight is all zero"):
        jax.jit(lambda K: ocsvm_solve(K, 0.5, sample_weight=np.zeros(N)))(K)


INVALID = {
    "nu of 0": (K, 0.0, np.ones(N)),
    "nu above 1": (K, 1.01, np.ones(N)),
    "nu of NaN": (K, np.nan, np.ones(N)),
    "one NaN in K": (np.where(np.arange(N * N).reshape(N, N) == 5, np.nan, K), 0.5, np.ones(N)),
    "one infinity in K": (K + np.diag(np.where(np.arange(N) == 3, np.inf, 0)), 0.5, np.ones(N)),
    "a negative weight": (K, 0.5, np.ones(N) - 2 * np.eye(N)[0]),
    "a weight of NaN": (K, 0.5, np.where(np.arange(N) == 3, np.nan, 1)),
    "an infinite weight": (K, 0.5, np.where(np.arange(N) == 3, np.inf, 1)),
    "weights of 0": (K, 0.5, np.zeros(N)),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_under_jit(name):
    """Nothing can be raised there: the solution is NaN, says so, and the solve ends."""
    solution = on_host(solve(*INVALID[name]))
    assert solution.status == Status.INVALID
    assert np.all(np.isnan(solution.alpha))
    assert np.isnan(solution.rho) and np.isnan(solution.gap)
    assert not np.any(solution.free)


def test_an_invalid_problem_leaves_its_neighbours_alone():
    nus = jnp.array([0.5, np.nan, 0.5])
    solutions = on_host(jax.jit(jax.vmap(ocsvm_solve, in_axes=(None, 0)))(jnp.asarray(K), nus))
    assert solutions.status.tolist() == [Status.CONVERGED, Status.INVALID, Status.CONVERGED]
    expected = on_host(solve(K, 0.5, np.ones(N)))
    for b in (0, 2):
        np.testing.assert_allclose(solutions.alpha[b], expected.alpha, rtol=0, atol=1e-12)


def test_nan_beside_a_point_of_weight_zero_is_ignored():
    w = np.ones(N)
    w[5] = 0
    hole = np.where((np.arange(N) == 5)[:, None] | (np.arange(N) == 5)[None, :], np.nan, K)
    expected, actual = on_host(solve(K, 0.5, w)), on_host(solve(hole, 0.5, w))
    assert actual.status == Status.CONVERGED
    np.testing.assert_allclose(actual.alpha, expected.alpha, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "solved"),
    [
        ("int32", "float64"),
        ("bool", "float64"),
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
    ],
)
def test_dtype_of_the_solve(given, solved, as_a_user_calls):
    identity = jnp.eye(N).astype(given)
    solution = jax.eval_shape(lambda K: ocsvm_solve(K, 0.5, sample_weight=jnp.arange(N)), identity)
    assert solution.alpha.dtype == solution.rho.dtype == solution.gap.dtype == solved
    assert solution.free.dtype == bool
    assert solution.num_steps.dtype == solution.status.dtype == jnp.int32


def test_arrays_of_numpy_and_plain_numbers(as_a_user_calls):
    """What a user has at hand: no need to convert anything."""
    expected = on_host(solve(K, 0.5, np.arange(1.0, N + 1)))
    actual = jax.jit(lambda: ocsvm_solve(K, 0.5, sample_weight=list(range(1, N + 1))))()
    np.testing.assert_allclose(actual.alpha, expected.alpha, rtol=0, atol=1e-12)
    f = decision_function(actual, K)
    np.testing.assert_allclose(f, K @ expected.alpha - expected.rho, rtol=0, atol=1e-12)


def test_entries_whose_sum_overflows():
    """They are solved in other units."""
    unit = 2.0**1020
    scaled, expected = (on_host(solve(factor * K, 0.5, np.ones(N))) for factor in (unit, 1.0))
    assert scaled.status == Status.CONVERGED
    np.testing.assert_array_equal(scaled.alpha, expected.alpha)
    assert scaled.rho == unit * expected.rho and scaled.gap == unit * expected.gap


def test_a_traced_tolerance_bounds_the_gap():
    solve = jax.jit(lambda K, tol: ocsvm_solve(K, 0.5, tol=tol, max_steps=10_000))
    loose, tight = solve(jnp.asarray(K), 10.0), solve(jnp.asarray(K), 1e-12)
    assert loose.gap <= 10 and tight.gap <= 1e-12
    assert loose.num_steps == 0 < tight.num_steps
    assert loose.status == tight.status == Status.CONVERGED


@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_only_ratios_of_weights_count(single, as_a_user_calls):
    """Also of those that float32 cannot hold, and of traced ones."""
    w = np.random.default_rng(0).integers(0, 4, N) * 1.0
    atol = 1e-5 if single else 1e-10  # of an alpha, as float32 resolves it here
    with float32_mode() if single else contextlib.nullcontext():
        expected = ocsvm_solve(K, 0.5, sample_weight=w)
        for scale in (1e-300, 1e300, 2.0**-1060):
            solution = ocsvm_solve(K, 0.5, sample_weight=scale * w)
            np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=atol)
            assert solution.status == Status.CONVERGED
        largest = 1e37 if single else 1e307  # their sum is infinite
        traced = jax.jit(lambda w: ocsvm_solve(K, 0.5, sample_weight=w))(largest * w)
        np.testing.assert_allclose(traced.alpha, expected.alpha, rtol=0, atol=atol)


def test_the_derivative_in_weights_of_any_size():
    """alpha(w) = alpha(s w): each derivative at s w is that at w, divided by s once more."""
    w = jnp.asarray(np.random.default_rng(1).uniform(0.5, 2, N))
    v = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, N))

    def value(w):
        return ocsvm_solve(jnp.asarray(K), 0.7, sample_weight=w).rho

    @jax.jit
    def derivatives(w, v):
        return jax.jvp(jax.grad(value), (w,), (v,))

    first, second = derivatives(w, v)
    scaled_first, scaled_second = derivatives(1e6 * w, v)
    assert np.any(first != 0) and np.any(second != 0)
    np.testing.assert_allclose(1e6 * scaled_first, first, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(1e12 * scaled_second, second, rtol=1e-6, atol=1e-9)
    difference = (value(w + 1e-6 * v) - value(w - 1e-6 * v)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(first, v), difference, rtol=1e-5)


def test_weights_are_divided_by_the_largest():
    found = normalized_weights([1, 0, 4])
    assert isinstance(found, np.ndarray) and found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.25, 0, 1])
    np.testing.assert_array_equal(normalized_weights(np.float16([1, 2])), [0.5, 1])
    # What is not valid under jit stays so.
    for wrong in ([1.0, np.inf], [1.0, np.nan], [0.0, 0.0], [-1.0, -2.0]):
        traced = np.asarray(jax.jit(normalized_weights)(jnp.array(wrong)))
        np.testing.assert_array_equal(traced, wrong)


@pytest.mark.parametrize("nu", [1e-40, 1e-50, 1e-320])
def test_a_nu_below_the_dtype(nu, as_a_user_calls):
    """No bound on alpha acts: the same as any nu below 1 / n."""
    with float32_mode():
        expected, solution = ocsvm_solve(K, 1e-3), ocsvm_solve(K, nu)
    assert solution.status == Status.CONVERGED
    np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=1e-5)


def test_what_a_cast_would_lose(as_a_user_calls):
    with float32_mode():
        with pytest.raises(
            ValueError, match=r"up to 1\.0e\+39; the solve is in float32, whose largest"
        ):
            ocsvm_solve(np.eye(8) * 1e39, 0.4)
        for scale in (1e-42, 1e-36):
            with pytest.raises(
                ValueError, match=r"largest value of K is 1\.0e-.*Scale K .*float64"
            ):
                ocsvm_solve(K * scale, 0.4)
        with pytest.raises(ValueError, match=r"largest value of K is 1\.0e-42; .*Scale K"):
            ocsvm_solve(np.float32(K * 1e-42), 0.4)
        assert ocsvm_solve(np.zeros((8, 8)), 0.4).status == Status.CONVERGED
    with pytest.raises(TypeError, match="K is complex"):
        ocsvm_solve(K + 0j, 0.4)
