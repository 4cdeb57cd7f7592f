"""Derivatives of alpha, rho and f from several sides, where the active set does not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from oracles import differences, equations
from support.problems import (
    BATCH,
    alpha_and_rho,
    as_dtype,
    derivatives_batch,
    on_host,
    rbf_matrices,
    solve_batch,
)

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import Status, ocsvm_solve

N = 24
STEP = 1e-4


def _active_set(solution) -> np.ndarray:
    """(batch, n) -1 at zero, 0 free, 1 at the upper bound."""
    solution = on_host(solution)
    return np.where(solution.free, 0, np.where(solution.alpha > 0, 1, -1))


def _unchanged(solutions) -> np.ndarray:
    """The problems whose active set is one and the same in all `solutions`."""
    sets = [_active_set(s) for s in solutions]
    return np.all([np.all(s == sets[0], axis=1) for s in sets], axis=0)


def _assert_close(actual, expected, rtol):
    """Compares vectors by their largest entry: small ones are differences of large ones."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        scale = np.max(np.abs(np.asarray(e).reshape(len(e), -1)), axis=1)
        error = np.max(np.abs(np.asarray(a - e).reshape(len(e), -1)), axis=1)
        np.testing.assert_array_less(error, rtol * scale + 1e-9)


@pytest.fixture(scope="module")
def batch():
    """(arguments, tangents, cotangents) of random problems; the derivative in K is symmetric."""
    rng = np.random.default_rng(0)
    K = rbf_matrices(0, N)
    dK = rng.normal(size=K.shape)
    arguments = (K, rng.uniform(0.05, 0.95, BATCH), rng.uniform(0.5, 2, (BATCH, N)))
    tangents = (
        0.5 * (dK + np.swapaxes(dK, 1, 2)),
        rng.normal(size=BATCH),
        rng.normal(size=(BATCH, N)),
    )
    cotangents = (rng.normal(size=(BATCH, N)), rng.normal(size=BATCH))
    return as_dtype((arguments, tangents, cotangents), float)


@pytest.mark.parametrize("moving", [(0,), (1,), (2,), (0, 1, 2)], ids=["K", "nu", "weights", "all"])
def test_central_differences(batch, moving):
    """alpha and rho, forwards; reverse mode is its transpose (next test)."""
    arguments, tangents, cotangents = batch
    tangents = tuple(t if i in moving else 0 * t for i, t in enumerate(tangents))
    seen = []

    def along(h):
        seen.append(solve_batch(*(a + h * t for a, t in zip(arguments, tangents, strict=True))))
        return seen[-1].alpha, seen[-1].rho

    expected = differences.directional(along, STEP)
    (actual, _) = derivatives_batch(arguments, tangents, cotangents)
    kept = _unchanged(seen)
    assert np.sum(kept) >= 0.6 * BATCH
    _assert_close(*((d[0][kept], d[1][kept]) for d in (actual, expected)), rtol=1e-6)


def test_forward_is_the_transpose_of_reverse(batch):
    arguments, tangents, cotangents = batch
    forward, reverse = derivatives_batch(arguments, tangents, cotangents)

    def inner(a, b):
        leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return sum(np.sum(np.asarray(u * v).reshape(BATCH, -1), axis=1) for u, v in leaves)

    np.testing.assert_allclose(inner(forward, cotangents), inner(reverse, tangents), rtol=1e-10)


def test_gradient_in_the_matrix_is_symmetric(batch):
    """K is one symmetric object: both halves carry the same, so that a kernel may fill either."""
    _, (dK, _, _) = derivatives_batch(*batch)
    np.testing.assert_allclose(dK, jnp.swapaxes(dK, 1, 2), rtol=0, atol=1e-14 * np.max(np.abs(dK)))


def test_through_the_kernel():
    """alpha, rho and f as functions of the points, the queries and gamma."""
    rng = np.random.default_rng(1)
    x, queries = rng.normal(size=(BATCH, N, 3)), rng.normal(size=(BATCH, 5, 3))
    gamma, nu = 10 ** rng.uniform(-1.3, 0, BATCH), rng.uniform(0.05, 0.95, BATCH)
    primals = as_dtype((x, queries, gamma), float)
    tangents = as_dtype(tuple(rng.normal(size=p.shape) for p in primals), float)
    tangents = (tangents[0], tangents[1], tangents[2] * primals[2])

    def outputs(x, queries, gamma, nu):
        kernel = rbf(gamma)
        solution = ocsvm_solve(gram(kernel, x), nu)
        f = decision_function(solution, gram(kernel, queries, x))
        return (solution.alpha, solution.rho, f), solution

    batched = jax.vmap(lambda p, nu: outputs(*p, nu))
    values = jax.jit(batched)
    seen = []

    def along(h):
        out, solution = values(tuple(p + h * t for p, t in zip(primals, tangents, strict=True)), nu)
        seen.append(solution)
        return out

    expected = differences.directional(along, STEP)
    push = jax.jit(lambda p, t: jax.jvp(lambda p: batched(p, nu), (p,), (t,), has_aux=True))
    _, actual, _ = push(primals, tangents)
    kept = _unchanged(seen)
    assert np.sum(kept) >= 0.6 * BATCH
    _assert_close(*(jax.tree.map(lambda d: d[kept], t) for t in (actual, expected)), rtol=1e-6)


def _small_problem():
    """K, nu, w of five points, three of them free, one at each bound, none close to a change."""
    w = np.random.default_rng(3).uniform(0.5, 2, (BATCH, 5))[3]
    return as_dtype((rbf_matrices(3, 5, log10_gamma=(-0.5, -0.5))[3], 0.5, w), float)


@pytest.fixture(scope="module")
def small():
    """A functional, and on the small problem: solution, its gradient, jacfwd, jacrev, Hessian."""
    weights = jnp.asarray([0.3, -1.2, 0.7, 0.4, 1.9])

    def functional(alpha, rho):
        return jnp.sin(jnp.dot(weights, alpha)) + rho * jnp.sum(alpha**3) + rho**2

    def implicit(K, nu, w):
        solution = ocsvm_solve(K, nu, sample_weight=w)
        return functional(solution.alpha, solution.rho), solution

    argnums = (0, 1, 2)

    @jax.jit
    def everything(*problem):
        _, solution = implicit(*problem)
        alone = lambda *problem: implicit(*problem)[0]  # noqa: E731
        return (
            solution,
            jax.grad(alone, argnums)(*problem),
            jax.jacfwd(alpha_and_rho, argnums)(*problem),
            jax.jacrev(alpha_and_rho, argnums)(*problem),
            jax.hessian(alone, argnums)(*problem),
        )

    return functional, everything(*_small_problem())


def test_the_small_problem_has_all_three_kinds(small):
    _, (solution, *_) = small
    assert solution.status == Status.CONVERGED
    assert sorted(_active_set(jax.tree.map(lambda x: x[None], solution))[0]) == [-1, 0, 0, 0, 1]


def test_jacfwd_equals_jacrev(small):
    _, (_, _, forward, reverse, _) = small
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), forward, reverse
    )


def test_hessian_is_symmetric(small):
    _, (*_, hessian) = small
    sizes = (25, 1, 5)
    rows = [
        jnp.hstack([b.reshape(m, n) for b, n in zip(row, sizes, strict=True)])
        for row, m in zip(hessian, sizes, strict=True)
    ]
    matrix = np.vstack(rows)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12 * np.max(np.abs(matrix)))


def test_gradient_and_hessian_equal_those_of_the_equations(small):
    """The linear system of the same active set, differentiated by JAX: exact to any order."""
    functional, (solution, gradient, _, _, hessian) = small
    upper = (solution.alpha > 0) & ~solution.free

    def by_equations(K, nu, w):
        C = w / (nu * jnp.sum(w))
        return functional(*equations.active_set_solution(0.5 * (K + K.T), C, solution.free, upper))

    problem, argnums = _small_problem(), (0, 1, 2)
    expected = jax.jit(
        lambda *p: (jax.grad(by_equations, argnums)(*p), jax.hessian(by_equations, argnums)(*p))
    )(*problem)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10),
        (gradient, hessian),
        expected,
    )


def test_implicit_equals_unrolled(small):
    """Differentiating 1,500 steps of projected gradient descent one by one."""
    functional, (solution, gradient, *_) = small

    def unrolled(K, nu, w):
        C = w / (nu * jnp.sum(w))
        return functional(*equations.projected_gradient_solution(0.5 * (K + K.T), C, 1500))

    value, expected = jax.jit(jax.value_and_grad(unrolled, (0, 1, 2)))(*_small_problem())
    np.testing.assert_allclose(value, functional(solution.alpha, solution.rho), rtol=1e-10)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-8), gradient, expected
    )


@pytest.mark.slow
def test_check_grads_to_second_order():
    """Forward and reverse over each other, out of jit."""

    def f(*problem):  # the checker passes NumPy arrays
        return alpha_and_rho(*as_dtype(problem, float))

    check_grads(f, _small_problem(), order=2, modes=("fwd", "rev"), eps=1e-4)


def test_two_points_in_closed_form():
    """With both free: alpha_1 = (c - b) / (a + c - 2b), rho = (ac - b^2) / (a + c - 2b)."""

    def closed(a, b, c):
        total = a + c - 2 * b
        return (c - b) / total, (a * c - b * b) / total

    def solved(a, b, c):
        alpha, rho = alpha_and_rho(jnp.array([[a, b], [b, c]]), jnp.asarray(0.6), jnp.ones(2))
        return alpha[0], rho

    both = jax.jit(lambda *p: [(f(*p), jax.jacrev(f, (0, 1, 2))(*p)) for f in (closed, solved)])
    expected, actual = both(1.3, 0.4, 0.9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), actual, expected)
