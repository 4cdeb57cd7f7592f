"""alpha, rho and decision values against LIBSVM at a tolerance of 1e-10."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import libsvm, optimality
from problems import as_dtype, rbf_matrices, solve_batch

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import Status, ocsvm_solve

SIZES = (5, 24, 60)
NUS = (0.02, 0.1, 0.37, 0.5, 0.93)
GAMMAS = (0.1, 0.5, 2.0)
TOLERANCE = {"float64": 1e-6, "float32": 1e-4}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
@pytest.mark.parametrize("n", SIZES)
def test_precomputed(n, weighted, dtype):
    """40 random problems a case, nu drawn over (0, 1): 480 in all."""
    rng = np.random.default_rng(n)
    batch = 40
    K = libsvm.representable(rbf_matrices(n, batch, n, 3))
    nu = rng.uniform(0.02, 0.98, batch).astype(dtype).astype(float)
    w = rng.uniform(0, 3, (batch, n)) if weighted else np.ones((batch, n))
    if weighted:
        w[:, ::4] = 0
    w = w.astype(dtype).astype(float)
    solution = jax.tree.map(np.asarray, solve_batch(*as_dtype((K, nu, w), dtype)))
    assert np.all(solution.status == Status.CONVERGED)
    for b in range(batch):
        expected = libsvm.solve(K[b], nu[b], w[b])
        _assert_agree(expected, K[b], jax.tree.map(lambda x, b=b: x[b], solution), dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("nu", NUS)
@pytest.mark.parametrize("n", SIZES)
def test_rbf(n, nu, gamma, dtype):
    """Through the kernel, on a grid of nu, gamma and n, with queries far and near."""
    rng = np.random.default_rng(n)
    x, queries = (rng.normal(size=shape).astype(np.float32) for shape in ((n, 4), (20, 4)))
    f, solution = _fit_rbf(*as_dtype((x, queries, nu, gamma), dtype))
    assert f.dtype == solution.alpha.dtype == dtype
    exact_gamma, exact_nu = (float(np.asarray(v, dtype)) for v in (gamma, nu))
    expected = libsvm.solve_rbf(x, exact_nu, exact_gamma, queries)
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=bound)
    np.testing.assert_allclose(solution.rho, expected.rho, rtol=0, atol=bound)
    np.testing.assert_allclose(f, expected.decision, rtol=0, atol=bound)


@jax.jit
def _fit_rbf(x, queries, nu, gamma):
    kernel = rbf(gamma)
    solution = ocsvm_solve(gram(kernel, x), nu)
    return decision_function(solution, gram(kernel, queries, x)), solution


@pytest.mark.parametrize("n", [5, 24])
def test_integer_nu_n(n):
    """With nu * n an integer no index need be free: rho is the midpoint LIBSVM takes, too."""
    count = np.arange(1, n)
    K = libsvm.representable(rbf_matrices(n, n - 1, n, 3))
    nu = count / n
    solution = jax.tree.map(np.asarray, solve_batch(*as_dtype((K, nu, np.ones((n - 1, n))), float)))
    for b in range(n - 1):
        expected = libsvm.solve(K[b], nu[b])
        np.testing.assert_allclose(solution.alpha[b], expected.alpha, rtol=0, atol=1e-6)
        C = optimality.upper_bounds(n, nu[b])
        lower, upper = optimality.rho_interval(K[b], solution.alpha[b], C)
        assert lower - 1e-9 <= solution.rho[b] <= upper + 1e-9
        if not np.any(solution.free[b]):
            assert solution.rho[b] == pytest.approx((lower + upper) / 2, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nu_of_one(dtype):
    """All alphas are at their bound. LIBSVM reports an infinite offset here; rho is the finite end."""
    K = rbf_matrices(0, 1, 24, 3)[0]
    solution = jax.jit(ocsvm_solve)(jnp.asarray(K, dtype), 1)
    np.testing.assert_allclose(solution.alpha, np.full(24, 1 / 24), rtol=1e-6)
    assert not np.any(solution.free)
    np.testing.assert_allclose(solution.rho, np.max(K @ np.full(24, 1 / 24)), rtol=1e-6)
    assert np.all(np.isfinite(libsvm.solve(K, 1.0).alpha))


def _assert_agree(expected: libsvm.Reference, K, solution, dtype):
    bound = TOLERANCE[dtype]
    np.testing.assert_allclose(solution.alpha, expected.alpha, rtol=0, atol=bound)
    if np.any(solution.free):
        np.testing.assert_allclose(solution.rho, expected.rho, rtol=0, atol=bound)
        f = K @ solution.alpha.astype(float) - float(solution.rho)
        np.testing.assert_allclose(f, expected.decision, rtol=0, atol=bound)
