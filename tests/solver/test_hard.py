"""Entries of very different size: the certificate is true, and CONVERGED means what it says.

A reference in extended precision (oracles/exact.py) judges. benchmarks/hard.py does the same with
any number of problems.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import exact
from support.hard_problems import problem
from support.problems import as_dtype, on_host, solve_one

from ocsvm_jax.solver import Status, ocsvm_solve

pytestmark = pytest.mark.skipif(not exact.EXTENDED, reason="longdouble has no more digits here")

N, BATCH = 40, 64
_solve = jax.jit(jax.vmap(solve_one))
# What a decision value may be off by and yet count as one of the boundary, relative to what it, and
# rho, are summed from.
BOUNDARY = {"float64": 1e-6, "float32": 1e-3}


def bounds(w, nu, solution):
    """C as the solver rounds it: an alpha that is not free and not zero is its bound."""
    C = (w / (nu * np.sum(w, dtype=w.dtype))).astype(w.dtype)
    return np.where((solution.alpha > 0) & ~solution.free, solution.alpha, C)


def assert_honest(K, nu, w, solution):
    """Promise (a) always, (b) where it says CONVERGED; returns whether (b) could be checked."""
    assert solution.status != Status.INVALID
    dtype = solution.alpha.dtype
    C = bounds(w, nu, solution)
    gap, sizes = exact.measure(K, solution.alpha, C)
    noise = 8 * np.finfo(np.longdouble).eps * len(K) * np.max(sizes[solution.alpha > 0])
    assert gap <= float(solution.gap) + float(noise)
    if solution.status != Status.CONVERGED:
        return False
    expected = exact.solve(K, C, solution.alpha)
    # None is beyond extended precision, too.
    if expected is None or exact.only_rounding_is_free(expected.alpha, C, dtype):
        return False
    f = K.astype(np.longdouble) @ solution.alpha.astype(np.longdouble) - np.longdouble(
        float(solution.rho)
    )
    sizes = np.abs(K).astype(np.longdouble) @ expected.alpha + expected.scale
    assert exact.farthest_wrong(expected, C, f, sizes, w > 0) <= BOUNDARY[dtype.name]
    return True


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", [0, 1])
def test_hard_problems(seed, dtype):
    drawn = [problem(np.random.default_rng([seed, i]), N, dtype) for i in range(BATCH)]
    K, nu, w = (np.stack(a).astype(dtype) for a in zip(*drawn, strict=True))
    solutions = on_host(_solve(*as_dtype((K, nu, w), dtype)))
    checked = [assert_honest(K[i], nu[i], w[i], on_host(solutions, i)) for i in range(BATCH)]
    assert np.mean(checked) > (0.85 if dtype == "float64" else 0.6)


KERNELS = {
    "linear": lambda x: x @ x.T,
    "poly 2": lambda x: (x @ x.T + 1) ** 2,
    "poly 3": lambda x: (x @ x.T + 1) ** 3,
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("offset", [0, 4])
def test_one_row_scaled(kernel, offset):
    """The share of points outside is right at every size of the row, whatever the status is."""
    scales = 10.0 ** np.arange(6)
    x = np.random.default_rng(0).normal(size=(N, 4)) + offset
    stretched = [np.where(np.arange(N)[:, None] == 0, s * x, x) for s in scales]
    K = np.stack([KERNELS[kernel](y) for y in stretched])
    K, nu, w = np.resize(K, (BATCH, N, N)), np.full(BATCH, 0.1), np.ones((BATCH, N))
    for dtype in ("float64", "float32"):
        arguments = on_host(as_dtype((K, nu, w), dtype))
        solutions = on_host(_solve(*arguments))
        for i in range(len(scales)):
            solution = on_host(solutions, i)
            assert_honest(*(a[i] for a in arguments), solution)
            f = K[i] @ solution.alpha.astype(float) - float(solution.rho)
            resolved = dtype == "float64" or scales[i] <= 1e3
            if resolved:
                sizes = np.abs(K[i]) @ solution.alpha.astype(float)
                outside = np.sum(f < -1e-4 * sizes)
                assert outside <= 0.1 * N, (dtype, scales[i])
                assert np.sum(solution.alpha > 0) >= 0.1 * N


def test_gap_of_zero_is_not_said_beside_what_underflows():
    """Where all that the support sees is below the normal numbers, nothing can be claimed."""
    K = np.diag([1e-41, 2e-41, 3e-41, 1.0]).astype(np.float32)
    solution = jax.jit(ocsvm_solve)(K, np.float32(0.5))
    assert solution.status == Status.STALLED
    assert solution.gap >= 1e-41


def test_huge_terms_that_cancel_make_no_tolerance():
    """Entries from 1e-26 to 1e9: a support of the largest, cancelling, sees a scale of 5e7."""
    given = problem(np.random.default_rng([1, 12, 40, 5]), 12, "float32")
    K, nu, w = (np.asarray(a, np.float32) for a in given)
    solution = on_host(_solve(*(jnp.asarray(a[None]) for a in (K, nu, w))), 0)
    assert solution.status == Status.STALLED
    assert_honest(K, nu, w, solution)
    # A scale of ordinary points that cancel is theirs: a linear kernel around the origin.
    x = np.float32(np.concatenate([np.eye(12), -np.eye(12)]))
    found = on_host(solve_one(*as_dtype((x @ x.T, 1.0, np.ones(24)), "float32")))
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.rho, 0, atol=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "poly 2"])
def test_derivatives_beside_a_far_row(kernel):
    """The implicit derivative along a direction, against differences of the exact solutions.

    Of "poly 3" float64 does not resolve the solution itself: that solve is STALLED.
    """
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, 4)) + 4
    x[0] *= -1e3
    K = KERNELS[kernel](x)
    root = np.sqrt(np.diag(K))
    dK = 1e-3 * root[:, None] * root[None, :] * rng.normal(size=(N, N))
    dK = dK + dK.T
    nu, C = 0.13, np.full(N, 1 / (0.13 * N))

    @jax.jit
    def along(K, dK):
        return jax.jvp(lambda K: _alpha_and_rho(K, nu), (K,), (dK,))

    (alpha, _), (d_alpha, d_rho) = on_host(along(K, dK))
    h = 1e-6
    ends = [exact.solve(K + t * dK, C, alpha) for t in (-h, h)]
    assert all(np.array_equal(end.alpha > 0, alpha > 0) for end in ends), "an active set changed"
    expected = (ends[1].alpha - ends[0].alpha) / (2 * h)
    # In units in which each alpha counts by what it adds to g.
    np.testing.assert_allclose(
        root * d_alpha, root * expected, rtol=1e-5, atol=1e-7 * np.mean(root)
    )
    assert d_rho == pytest.approx(float((ends[1].rho - ends[0].rho) / (2 * h)), rel=1e-5)


def _alpha_and_rho(K, nu):
    solution = ocsvm_solve(K, nu)
    return solution.alpha, solution.rho
