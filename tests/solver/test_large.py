"""The working-set solver on small matrices, where the optimality conditions can be checked in full.

All problems share one size and one compiled program; how far the solver scales is test_model.py's.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import libsvm, optimality
from support.problems import rbf_matrices

from ocsvm_jax.solver import Status
from ocsvm_jax.solver.large import KernelAccess, Settings, solve_large

N, WORKING_SET, MAX_ROUNDS = 96, 16, 300


@partial(jax.jit, static_argnames=("max_rounds", "working_set"))
def _solve(K, C, tol, max_rounds, working_set):
    access = KernelAccess(
        square=lambda W: K[W[:, None], W[None, :]],
        product=lambda W, v, offset: (K[:, W] - offset) @ v,
        diagonal=lambda: jnp.diagonal(K),
    )
    return solve_large(access, C, Settings(tol, working_set, max_rounds))


def solve(
    K, nu, w=None, *, tol=1e-9, dtype="float64", max_rounds=MAX_ROUNDS, working_set=WORKING_SET
):
    C = optimality.upper_bounds(N, nu, w)
    arrays = (jnp.asarray(a, dtype) for a in (K, C, tol))
    return jax.device_get(_solve(*arrays, max_rounds=max_rounds, working_set=working_set))


def assert_optimal(solution, K, nu, w=None, tol=1e-9):
    alpha, C = solution.alpha, optimality.upper_bounds(N, nu, w)
    eps = float(np.finfo(alpha.dtype).eps)
    assert solution.status == Status.CONVERGED
    assert np.all(alpha >= 0)
    assert np.all(alpha <= C * (1 + 2 * eps))
    assert np.sum(alpha, dtype=np.float64) == pytest.approx(1, abs=32 * eps)
    bound = tol + optimality.rounding(K, alpha.dtype)
    assert optimality.gap(K, alpha, C) <= bound
    assert solution.gap <= tol
    lower, upper = optimality.rho_interval(K, alpha, C)
    assert lower - bound <= solution.rho <= upper + bound
    np.testing.assert_array_equal(solution.free, (alpha > 0) & (alpha < C.astype(alpha.dtype)))


@pytest.fixture(scope="module")
def matrix():
    return libsvm.representable(rbf_matrices(0, N, batch=1)[0])


WEIGHTS = {
    "even": np.ones(N),
    "half of them zero": np.arange(N) % 2.0,
    "spread over eight decades": 10.0 ** np.linspace(-8, 0, N),
    "one point": np.eye(N)[5],
    "two points": np.eye(N)[5] + np.eye(N)[70],
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("nu", [1.0, 0.5, 0.1, 0.013, 1e-3, 1e-12])
def test_optimality(matrix, nu, weights):
    """A nu below 1 / n leaves every alpha free; more than half of them fits no working set."""
    w = WEIGHTS[weights]
    assert_optimal(solve(matrix, nu, w), matrix, nu, w)


@pytest.mark.parametrize("nu", [0.9, 0.1, 0.001])
def test_against_libsvm(matrix, nu):
    solution, expected = solve(matrix, nu), libsvm.solve(matrix, nu)
    np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=1e-6)
    f = matrix @ solution.alpha - solution.rho
    np.testing.assert_allclose(f, expected.decision, rtol=0, atol=1e-7)


def test_the_working_set_may_be_all_points(matrix):
    assert_optimal(solve(matrix, 0.2, working_set=N), matrix, 0.2)


_HALF = np.arange(N) < N // 2
DEGENERATE = {
    "all points identical": np.ones((N, N)),
    "two clusters of duplicates": np.where(_HALF[:, None] == _HALF[None, :], 1.0, 0.3),
    "all points apart": np.eye(N),
    "no similarity at all": np.zeros((N, N)),
    "rank one": np.outer(np.linspace(-1, 1, N), np.linspace(-1, 1, N)),
}


@pytest.mark.parametrize("nu", [1.0, 0.25, 1e-3])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_matrices(name, nu):
    K = DEGENERATE[name]
    solution = solve(K, nu)
    assert_optimal(solution, K, nu)
    assert solution.num_steps < MAX_ROUNDS / 2


@pytest.mark.parametrize("nu", [1.0, 0.3, 0.01])
def test_float32(matrix, nu):
    solution = solve(matrix, nu, tol=1e-6, dtype="float32")
    assert solution.alpha.dtype == solution.rho.dtype == solution.gap.dtype == np.float32
    assert_optimal(solution, matrix, nu, tol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_tolerance_out_of_reach_ends_soon_and_says_so(matrix, dtype, scale):
    eps = float(np.finfo(dtype).eps)
    K, nu = scale * matrix, 1e-3
    solution = solve(K, nu, tol=1e-6 * eps * scale, dtype=dtype)
    # Now and then rounding leaves a gap of exactly 0, which no tolerance is below.
    assert solution.status == (Status.CONVERGED if solution.gap <= 0 else Status.STALLED)
    assert solution.num_steps < MAX_ROUNDS
    assert optimality.gap(K, solution.alpha, optimality.upper_bounds(N, nu)) < 100 * eps * scale


def test_out_of_rounds(matrix):
    solution = solve(matrix, 0.01, max_rounds=2)
    assert solution.status == Status.OUT_OF_STEPS
    assert solution.num_steps == 2
    C = optimality.upper_bounds(N, 0.01)
    assert solution.gap == pytest.approx(optimality.gap(matrix, solution.alpha, C), rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["everywhere", "one entry"])
def test_a_matrix_that_is_not_finite(matrix, value, where):
    K = matrix.copy()
    K[(slice(None), slice(None)) if where == "everywhere" else (-2, -2)] = value
    solution = solve(K, 1.0 if where == "everywhere" else 0.99)
    assert solution.status == Status.INVALID
    assert solution.num_steps < 50
