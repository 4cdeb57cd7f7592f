"""What holds for every one-class SVM, whatever solves it."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import optimality
from support.problems import (
    BATCH,
    as_dtype,
    on_host,
    rbf_matrices,
    solution_and_derivatives,
    solve_batch,
)

from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import Status, ocsvm_solve

N = 24


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(5)
    K, nu = rbf_matrices(5, N), rng.uniform(0.05, 0.95, BATCH)
    w = rng.uniform(0, 2, (BATCH, N))
    w[: BATCH // 2] = 1
    return K, nu, w


def _solve(K, nu, w, dtype=float):
    return on_host(solve_batch(*as_dtype((K, nu, w), dtype)))


def _assert_same(actual, expected, rtol=1e-8):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_optimality_conditions(batch, dtype):
    solutions = _solve(*batch, dtype)
    K, nu, w = on_host(as_dtype(batch, dtype))
    assert np.all(solutions.status == Status.CONVERGED)
    for b in range(BATCH):
        optimality.assert_solves(K[b], nu[b], w[b], on_host(solutions, b))


def test_nu_bounds_the_share_outside_and_the_share_of_support_vectors(batch):
    K, nu, _ = batch
    solutions = _solve(K, nu, np.ones((BATCH, N)))
    f = np.einsum("bij,bj->bi", K, solutions.alpha) - solutions.rho[:, None]
    assert np.all(np.sum(f < -1e-9, axis=1) <= nu * N)
    assert np.all(np.sum(solutions.alpha > 0, axis=1) >= nu * N)


def test_permuting_the_points_permutes_alpha(batch):
    K, nu, w = batch
    order = np.random.default_rng(0).permutation(N)
    expected, actual = _solve(*batch), _solve(K[:, order][:, :, order], nu, w[:, order])
    _assert_same(actual.alpha, expected.alpha[:, order])
    _assert_same(actual.rho, expected.rho)
    np.testing.assert_array_equal(actual.free, expected.free[:, order])


def test_a_point_twice_is_a_point_of_weight_two(batch):
    _, nu, _ = batch
    half = rbf_matrices(6, N // 2)
    K = np.tile(half, (1, 2, 2))
    w = np.ones((BATCH, N))
    w[:, N // 2 - 4 : N // 2] = 0  # four points occur once, the others twice
    twice = _solve(K, nu, w)
    merged = np.where(np.arange(N) < N // 2, w + np.roll(w, N // 2, axis=1), 0)
    weighted = _solve(K, nu, merged)
    _assert_same(twice.rho, weighted.rho)
    f = [np.einsum("bij,bj->bi", K, s.alpha) for s in (twice, weighted)]
    _assert_same(*f)
    folded = twice.alpha[:, : N // 2] + twice.alpha[:, N // 2 :]
    _assert_same(folded, weighted.alpha[:, : N // 2], rtol=1e-6)


@pytest.mark.parametrize("filling", [0.0, 1.0, -3.0, 1e6, 1e30])
def test_a_point_of_weight_zero_takes_no_part(filling):
    """Whatever stands in its row and column: the weights serve as a mask of padded batches."""
    rng = np.random.default_rng(2)
    small = rbf_matrices(2, 8)
    nu, w = rng.uniform(0.1, 0.9, BATCH), rng.uniform(0.5, 2, (BATCH, 8))
    expected = _solve(small, nu, w)
    K = np.full((BATCH, N, N), filling)
    K[:, :8, :8] = small
    padded = np.zeros((BATCH, N))
    padded[:, :8] = w
    actual = _solve(K, nu, padded)
    assert np.all(actual.alpha[:, 8:] == 0)
    assert np.all(actual.status == Status.CONVERGED)
    _assert_same(actual.alpha[:, :8], expected.alpha)
    _assert_same(actual.rho, expected.rho)


@pytest.mark.parametrize("factor", [1e-6, 3.0, 1e6])
def test_scaling_the_matrix_scales_rho(batch, factor):
    K, nu, w = batch
    expected, actual = _solve(*batch), _solve(factor * K, nu, w)
    _assert_same(actual.alpha, expected.alpha)
    _assert_same(actual.rho / factor, expected.rho)


@pytest.mark.parametrize("constant", [-1.0, 0.5, 100.0])
def test_adding_a_constant_to_the_matrix_shifts_rho(batch, constant):
    K, nu, w = batch
    expected, actual = _solve(*batch), _solve(K + constant, nu, w)
    _assert_same(actual.alpha, expected.alpha, rtol=1e-7)
    _assert_same(actual.rho - constant, expected.rho)


def test_only_the_ratios_of_the_weights_count(batch):
    K, nu, w = batch
    expected, actual = _solve(*batch), _solve(K, nu, 1e-3 * w)
    _assert_same(actual.alpha, expected.alpha)
    _assert_same(actual.rho, expected.rho)


def test_rho_falls_on_the_quantile_for_a_flat_kernel():
    """For K = I all points are alike: alpha = 1 / n, rho = 1 / n, whatever nu."""
    nu = np.linspace(0.05, 1, BATCH)
    solutions = _solve(np.broadcast_to(np.eye(N), (BATCH, N, N)), nu, np.ones((BATCH, N)))
    _assert_same(solutions.alpha, np.full((BATCH, N), 1 / N))
    _assert_same(solutions.rho, np.full(BATCH, 1 / N))


@st.composite
def problems(draw, n=12):
    """Points with ties and repetitions, a positive semi-definite matrix of any magnitude."""
    dtype = draw(st.sampled_from(["float64", "float32"]))
    d = draw(st.integers(1, 5))
    entries = st.one_of(
        st.sampled_from([0.0, 1.0, -1.0, 0.5]),
        st.floats(-100, 100, width=32, allow_subnormal=False),
    )
    x = draw(hnp.arrays(float, (n, d), elements=entries))
    kind = draw(st.sampled_from(["linear", "gaussian", "scaled gaussian", "indefinite"]))
    products = x @ x.T
    if kind == "linear":
        K = products
    elif kind == "indefinite":
        K = np.tanh(products - 1)
    else:
        squares = np.diag(products)
        distances = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
        K = np.exp(-(10.0 ** draw(st.integers(-8, 2))) * distances)
        if kind == "scaled gaussian":
            scale = 10.0 ** draw(hnp.arrays(float, n, elements=st.integers(-2, 2)))
            K = K * scale[:, None] * scale[None, :]
    K = K * 10.0 ** draw(st.sampled_from([0, 0, -20, -5, 5, 20]))
    nu = draw(st.one_of(st.sampled_from([1.0, 0.5, 0.25, 1 / n]), st.floats(1e-9, 1)))
    weight = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(1e-6, 1e6))
    w = draw(st.one_of(st.just(np.ones(n)), hnp.arrays(float, n, elements=weight)))
    hypothesis.assume(np.any(w > 0))
    return as_dtype((K, nu, w), dtype)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(problems())
def test_any_finite_input(problem):
    """Feasible, honest, and finite with all its derivatives."""
    out = on_host(solution_and_derivatives(*problem))
    K, nu, w = on_host(problem)
    optimality.assert_solves(K, nu, w, out["solution"])
    leaves = [*out["grad and hessian"][0], out["jvp"]]
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)


def test_alpha_sums_to_one_whatever_the_ties():
    """Points that occur several times tie in the order in which the start is filled.

    One lane alone: XLA then rounded the two sides of each comparison apart.
    """
    n = 64
    solve = jax.jit(lambda K, w, nu: ocsvm_solve(K, nu, sample_weight=w))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points = rng.random((15, 30))
        times = rng.integers(0, 5, 15)
        x = jnp.asarray(np.resize(np.repeat(points, times, axis=0), (n, 30)))
        w = jnp.asarray((np.arange(n) < np.sum(times)) * 1.0)
        for nu in (0.3, 0.5, 0.9):
            alpha = np.asarray(solve(gram(rbf(0.384), x), w, nu).alpha)
            assert np.sum(alpha) == pytest.approx(1, abs=1e-13), (seed, nu)
            assert np.all(alpha <= np.asarray(w) / (nu * np.sum(w)) * (1 + 1e-13))
