"""alpha, rho and decision values against LIBSVM at a tolerance of 1e-10."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import libsvm, optimality
from support.problems import BATCH, as_dtype, on_host, rbf_matrices, solve_batch

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import Status

SIZES = (8, 24, 60)
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("n", SIZES)
def test_precomputed(n, weighted, dtype):
    """Random problems with nu anywhere in (0, 1); of the weights, a quarter is zero."""
    rng = np.random.default_rng(n)
    K = libsvm.representable(rbf_matrices(n, n))
    nu = rng.uniform(0.02, 0.98, BATCH).astype(dtype).astype(float)
    w = np.ones((BATCH, n))
    if weighted:
        w = rng.uniform(0, 3, (BATCH, n)).astype(dtype).astype(float)
        w[:, ::4] = 0
    solutions = solve_batch(*as_dtype((K, nu, w), dtype))
    for b in range(BATCH):
        _assert_agree(on_host(solutions, b), libsvm.solve(K[b], nu[b], w[b]), K[b], dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", SIZES)
def test_rbf(n, dtype):
    """Through the kernel on a grid of nu and gamma, with other points as queries."""
    grid = np.array(list(itertools.product(NUS := (0.02, 0.1, 0.35, 0.5, 0.93), GAMMAS)))
    assert len(grid) == BATCH == len(NUS) * len(GAMMAS)
    nus, gammas = grid.T.astype(dtype)
    rng = np.random.default_rng(n)
    x, queries = (rng.normal(size=(m, 4)).astype(np.float32) for m in (n, 20))
    K, K_query = _kernel_matrices(*as_dtype((x, queries, gammas), dtype))
    solutions = solve_batch(K, jnp.asarray(nus), jnp.ones((BATCH, n), dtype))
    decisions = jax.vmap(decision_function)(solutions, K_query)
    for b in range(BATCH):
        expected = libsvm.solve_rbf(x, float(nus[b]), float(gammas[b]), queries)
        solution = on_host(solutions, b)
        bound = TOLERANCE[dtype]
        np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=bound)
        np.testing.assert_allclose(solution.rho, expected.rho, rtol=0, atol=bound)
        np.testing.assert_allclose(decisions[b], expected.decision, rtol=0, atol=bound)


GAMMAS = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 5.0)


@jax.jit
def _kernel_matrices(x, queries, gammas):
    def both(gamma):
        return gram(rbf(gamma), x), gram(rbf(gamma), queries, x)

    return jax.vmap(both)(gammas)


def test_integer_nu_n():
    """No index need be free: rho is the midpoint of an interval, and that of LIBSVM lies in it."""
    n = 24
    K = libsvm.representable(rbf_matrices(n, n))
    nu = (1 + np.arange(BATCH) % (n - 1)) / n
    solutions = solve_batch(*as_dtype((K, nu, np.ones((BATCH, n))), float))
    without_free = 0
    for b in range(BATCH):
        solution = on_host(solutions, b)
        expected = libsvm.solve(K[b], nu[b])
        np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=1e-6)
        if not np.any(solution.free):
            without_free += 1
            C = optimality.upper_bounds(n, nu[b])
            lower, upper = optimality.rho_interval(K[b], solution.alpha, C)
            np.testing.assert_allclose(solution.rho, (lower + upper) / 2, rtol=1e-12)
            assert lower - 1e-9 <= expected.rho <= upper + 1e-9
    assert without_free >= 5


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", SIZES)
def test_nu_of_one(n, dtype):
    """Every alpha is at its bound. scikit-learn refuses this: LIBSVM finds an infinite offset."""
    K = rbf_matrices(n, n)
    even = np.full((BATCH, n), 1 / n)
    solutions = on_host(solve_batch(*as_dtype((K, np.ones(BATCH), np.ones((BATCH, n))), dtype)))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(solutions.alpha, even, rtol=n * eps)
    assert not np.any(solutions.free)
    g = np.einsum("bij,bj->bi", K, even)
    np.testing.assert_allclose(solutions.rho, np.max(g, axis=1), rtol=n * eps)


def _assert_agree(solution, expected: libsvm.Reference, K: np.ndarray, dtype: str) -> None:
    assert solution.status == Status.CONVERGED
    assert solution.alpha.dtype == solution.rho.dtype == dtype
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=bound)
    np.testing.assert_allclose(solution.rho, expected.rho, rtol=0, atol=bound)
    f = K @ solution.alpha.astype(float) - float(solution.rho)
    np.testing.assert_allclose(f, expected.decision, rtol=0, atol=bound)
