"""The tolerances of float32, which is all a TPU has; a float64 solve of the same numbers judges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import optimality
from support.problems import (
    BATCH,
    as_dtype,
    derivatives_batch,
    on_host,
    rbf_matrices,
    solve_batch,
)

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import Status, ocsvm_solve

pytestmark = pytest.mark.optimised

N = 24


@pytest.fixture(scope="module")
def batch():
    """The same problems in both dtypes, exactly: float64 copies of float32 numbers."""
    rng = np.random.default_rng(7)
    arguments = (
        rbf_matrices(7, N),
        rng.uniform(0.05, 0.95, BATCH),
        rng.uniform(0.5, 2, (BATCH, N)),
    )
    dK = rng.normal(size=arguments[0].shape)
    tangents = (dK + np.swapaxes(dK, 1, 2), rng.normal(size=BATCH), rng.normal(size=(BATCH, N)))
    cotangents = (rng.normal(size=(BATCH, N)), rng.normal(size=BATCH))
    single = as_dtype((arguments, tangents, cotangents), jnp.float32)
    return single, as_dtype(single, float)


def test_solutions(batch):
    (single, _, _), (double, _, _) = batch
    actual, expected = on_host(solve_batch(*single)), on_host(solve_batch(*double))
    assert np.all(actual.status == Status.CONVERGED)
    np.testing.assert_array_equal(actual.free, expected.free)
    np.testing.assert_allclose(actual.alpha, expected.alpha, rtol=0, atol=2e-5)
    np.testing.assert_allclose(actual.rho, expected.rho, rtol=0, atol=1e-6)


def test_derivatives(batch):
    """Relative to the largest entry, per problem."""
    single, double = batch
    actual, expected = (on_host(derivatives_batch(*b)) for b in (single, double))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == np.float32
        error, scale = (np.max(np.abs(v).reshape(BATCH, -1), axis=1) for v in (a - e, e))
        assert np.all(error <= 1e-3 * scale)
        assert np.median(error[scale > 0] / scale[scale > 0]) < 1e-4


@pytest.mark.parametrize("factor", [1e-12, 1e-6, 1e6, 1e12])
def test_no_unit_is_built_in(batch, factor):
    """Derivatives in nu of a matrix in other units: alpha's are the same, rho's scale."""
    ((K, nu, w), (dK, d_nu, dw), cotangents), _ = batch
    tangents = (0 * dK, d_nu, 0 * dw)
    (expected, d_rho), _ = derivatives_batch((K, nu, w), tangents, cotangents)
    (actual, d_rho_scaled), _ = derivatives_batch((factor * K, nu, w), tangents, cotangents)
    scale = float(np.max(np.abs(expected)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)
    np.testing.assert_allclose(d_rho_scaled / factor, d_rho, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("log10_gamma", [-7, -5, -3])
def test_nearly_constant_matrices(log10_gamma):
    """K is 1 up to gamma: what is left are the digits behind, which rounding at 1 would drown."""
    K = rbf_matrices(8, N, log10_gamma=(log10_gamma, log10_gamma)).astype(np.float32)
    nu, w = np.full(BATCH, 0.3, np.float32), np.ones((BATCH, N), np.float32)
    solutions = solve_batch(*as_dtype((K, nu, w), jnp.float32))
    for b in range(BATCH):
        solution = on_host(solutions, b)
        optimality.assert_solves(K[b], nu[b], w[b], solution)
        C = optimality.upper_bounds(N, nu[b], w[b])
        spread = np.max(np.abs(K[b] - np.mean(K[b], dtype=float)))
        assert optimality.gap(K[b], solution.alpha, C) <= 4e-6 * spread


def test_no_matrix_product_at_default_precision():
    """The default is bfloat16 on a TPU and TF32 on recent GPUs; here it can only be read off."""

    def everything(x, queries, nu):
        def one(x, queries, nu):
            kernel = rbf(0.3)
            solution = ocsvm_solve(gram(kernel, x), nu)
            return jnp.sum(decision_function(solution, gram(kernel, queries, x)) ** 2)

        return jax.vmap(jax.value_and_grad(one))(x, queries, nu)

    x = jnp.ones((3, 50, 2), jnp.float32)
    jaxpr = jax.make_jaxpr(everything)(x, x[:, :5], jnp.full(3, 0.5, jnp.float32))
    precisions = [
        e.params["precision"] for e in _equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"
    ]
    assert len(precisions) > 5
    highest = jax.lax.Precision.HIGHEST
    assert set(precisions) == {(highest, highest)}


def _equations(jaxpr):
    """All equations of a jaxpr and of whatever its loops, branches and calls hold."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)
