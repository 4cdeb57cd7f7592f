"""Degenerate problems: right values, and derivatives that are finite, and right where defined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import differences, optimality
from support.problems import as_dtype, on_host, solution_and_derivatives

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, linear, rbf, sigmoid
from ocsvm_jax.solver import Status, ocsvm_solve
from ocsvm_jax.solver.implicit import _projected_inverse

N = 12


def _points(seed: int = 0, n: int = N, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def _rbf(x: np.ndarray, gamma: float) -> np.ndarray:
    return np.asarray(gram(rbf(gamma), jnp.asarray(x)))


def _one_weight() -> np.ndarray:
    return np.eye(N)[4]


# name: (K, nu, weights)
CASES = {
    "nu = 1": (_rbf(_points(), 0.3), 1.0, np.ones(N)),
    "nu n < 1": (_rbf(_points(), 0.3), 0.5 / N, np.ones(N)),
    "nu n = 1": (_rbf(_points(), 0.3), 1 / N, np.ones(N)),
    "nu n integer, no free index": (_rbf(_points(), 10.0) + 9 * np.eye(N), 4 / N, np.ones(N)),
    "all points twice": (_rbf(np.tile(_points(n=N // 2), (2, 1)), 0.3), 0.4, np.ones(N)),
    "all points equal": (_rbf(np.ones((N, 3)), 0.3), 0.4, np.ones(N)),
    "a constant feature": (_rbf(_points() * [1, 0, 1], 0.3), 0.4, np.ones(N)),
    "one weight": (_rbf(_points(), 0.3), 0.4, _one_weight()),
    "rank 1": (_points(d=1) @ _points(d=1).T, 0.4, np.ones(N)),
    "rank 1, all positive": ((2 + _points(d=1) ** 2) @ (2 + _points(d=1) ** 2).T, 0.4, np.ones(N)),
    "linear, n > d, origin inside": (_points() @ _points().T, 0.8, np.ones(N)),
    "linear, n > d, origin outside": ((_points() + 4) @ (_points() + 4).T, 0.4, np.ones(N)),
    "zero": (np.zeros((N, N)), 0.4, np.ones(N)),
    "all ones to 1e-7": (_rbf(_points(), 1e-8), 0.4, np.ones(N)),
    "identity": (_rbf(_points(), 1e4), 0.4, np.ones(N)),
    "sigmoid": (np.asarray(gram(sigmoid(1.0, -0.5), jnp.asarray(_points()))), 0.4, np.ones(N)),
    "n = 1": (np.full((1, 1), 2.0), 0.4, np.ones(1)),
    "n = 1, nu = 1": (np.full((1, 1), 2.0), 1.0, np.ones(1)),
    "n = 2": (np.array([[1, 0.3], [0.3, 2]]), 0.7, np.ones(2)),
    "n = 2, equal": (np.ones((2, 2)), 0.7, np.ones(2)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_feasible_honest_and_finite(name, dtype):
    arguments = as_dtype(CASES[name], dtype)
    out = on_host(solution_and_derivatives(*arguments))
    K, nu, w = on_host(arguments)
    solution = out["solution"]
    assert solution.status == Status.CONVERGED
    optimality.assert_solves(K, nu, w, solution)
    for leaf in jax.tree.leaves(out):
        assert np.all(np.isfinite(leaf))
        assert not np.issubdtype(leaf.dtype, np.floating) or leaf.dtype == dtype


SINGULAR = {
    "linear, n > d, origin inside": (0, 0.0, False),
    "linear, n > d, origin outside": (0, 4.0, False),
    "linear, all points twice": (0, 4.0, True),
    "gaussian, all points twice": (1, 0.0, True),
    "sigmoid, n > d": (2, 0.0, False),
}


def _decision_and_rho(which, x, nu, w, queries):
    def kernel(a, b):
        return jnp.dot(which, jnp.stack([linear()(a, b), rbf(0.3)(a, b), sigmoid(0.2, -0.5)(a, b)]))

    solution = ocsvm_solve(gram(kernel, x), nu, sample_weight=w)
    return decision_function(solution, gram(kernel, queries, x)), solution.rho


_values = jax.jit(jax.vmap(_decision_and_rho))


@jax.jit
@jax.vmap
def _forward(which, primals, tangents):
    return jax.jvp(lambda *p: _decision_and_rho(which, *p), primals, tangents)[1]


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrix_right_derivative_of_f_and_rho(name):
    """Along motions that keep K singular alpha is not unique, but f and rho have a derivative."""
    kernel, offset, twice = SINGULAR[name]
    rng = np.random.default_rng(1)
    batch = 20
    which = np.tile(np.eye(3)[kernel], (batch, 1))

    def points(offset=0.0):
        x = offset + rng.normal(size=(batch, N, 3))
        if twice:
            x[:, N // 2 :] = x[:, : N // 2]
        return x

    queries = rng.normal(size=(batch, 4, 3))
    weights, d_weights = rng.uniform(0.5, 2, (batch, N)), rng.normal(size=(batch, N))
    primals = (points(offset), rng.uniform(0.3, 0.9, batch), weights, queries)
    tangents = (points(), rng.normal(size=batch), d_weights, 0 * queries)

    def along(h):
        return _values(which, *(p + h * t for p, t in zip(primals, tangents, strict=True)))

    coarse, fine = (differences.directional(along, h) for h in (1e-3, 5e-4))
    actual = _forward(which, primals, tangents)
    as_rows = lambda f, rho: np.column_stack([f, rho])  # noqa: E731
    coarse, fine, actual = as_rows(*coarse), as_rows(*fine), as_rows(*actual)
    scale = 1 + np.max(np.abs(fine), axis=1)
    # Where the active set changes within the step the two differences disagree.
    smooth = np.max(np.abs(coarse - fine), axis=1) < 1e-7 * scale
    assert np.sum(smooth) >= batch / 2
    error = np.max(np.abs(actual - fine), axis=1) / scale
    np.testing.assert_array_less(error[smooth], 1e-6)


@pytest.mark.parametrize("how", ["plain", "interpret"])
@pytest.mark.parametrize("scale", [1.0, 2.0**-100, 2.0**100])
def test_pseudo_inverse_where_points_coincide(scale, how):
    """With the reference, the first point, and apart from it; NumPy's is the oracle."""
    x = np.random.default_rng(0).normal(size=(7, 2))
    x[0] *= 0.1
    x[6], x[5] = x[0], x[4]
    P = np.eye(7) - 1 / 7
    expected = np.linalg.pinv(P @ (x @ x.T) @ P, rcond=1e-10)
    found = _projected_inverse(jnp.asarray(scale * (x @ x.T)), jnp.ones(7, bool), how)
    np.testing.assert_allclose(scale * found, expected, atol=1e-13 * np.max(np.abs(expected)))
