"""Models of points of which some lie far from the rest, against LIBSVM and against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import distances as exact
from oracles import libsvm, optimality

from ocsvm_jax import explain
from ocsvm_jax.export import export_scoring
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import laplacian, rbf
from ocsvm_jax.localized import fit_locations, log_score_locations, score_locations
from ocsvm_jax.model import OCSVM
from ocsvm_jax.sklearn import OneClassSVM
from ocsvm_jax.solver import Status

pytestmark = pytest.mark.optimised

NU, GAMMA = 0.1, 0.5
N, D = 100, 2


def points(far, dtype, n=N):
    """Of normal points the first is far; queries, one of which is the far one."""
    rng = np.random.default_rng(0)
    x, queries = rng.normal(size=(n, D)), 2 * rng.normal(size=(200, D))
    x[0] = queries[0] = far
    return x.astype(dtype), queries.astype(dtype)


def kernel_of(x, y, gamma=GAMMA):
    return np.exp(-gamma * exact.squared(x, y)).astype(float)


@pytest.mark.parametrize("far", [1e3, 1e4, 1e5, 1e6, -999_999, 1e12])
def test_fit_in_float32(far):
    x, queries = points(far, np.float32)
    model = ocsvm_fit(jnp.asarray(x), NU, rbf(GAMMA))
    expected = libsvm.solve(libsvm.representable(kernel_of(x, x)), NU)
    f = kernel_of(queries, x) @ expected.alpha - expected.rho
    assert model.info.status == Status.CONVERGED
    np.testing.assert_allclose(model.decision_function(jnp.asarray(queries)), f, rtol=0, atol=2e-6)
    sure = np.abs(f) > 1e-5
    assert np.array_equal(
        np.asarray(model.decision_function(jnp.asarray(queries)) < 0)[sure], (f < 0)[sure]
    )


@pytest.mark.parametrize("n", [N, 1100])
@pytest.mark.parametrize("far", [1e8, 1e9, 1e12])
def test_the_estimator(far, n):
    x, queries = points(far, float, n)
    ours = OneClassSVM(nu=NU, gamma=GAMMA, tol=1e-8).fit(x)
    theirs = libsvm.solve_rbf(x, NU, GAMMA, queries)
    # In units of the kernel; LIBSVM keeps it in float32.
    f = ours.decision_function(queries) / (NU * n)
    np.testing.assert_allclose(f, theirs.decision, rtol=0, atol=1e-6)
    sure = np.abs(theirs.decision) > 1e-5
    assert np.array_equal((ours.predict(queries) < 0)[sure], (theirs.decision < 0)[sure])


def test_the_laplacian_kernel():
    x, queries = points(1e12, np.float32)
    model = ocsvm_fit(jnp.asarray(x), NU, laplacian(GAMMA))
    K, k = (np.exp(-GAMMA * exact.absolute(a, x)).astype(float) for a in (x, queries))
    expected = libsvm.solve(libsvm.representable(K), NU)
    f = k @ expected.alpha - expected.rho
    np.testing.assert_allclose(model.decision_function(jnp.asarray(queries)), f, rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def model():
    """Support vectors of which two are far, near one another."""
    x, queries = points(1e6, np.float32)
    x[1] = x[0] + 1
    weights = np.random.default_rng(1).dirichlet(np.ones(N)).astype(np.float32)
    return OCSVM(jnp.asarray(x), jnp.asarray(weights), jnp.float32(0.1), rbf(GAMMA)), queries


def test_what_is_exported(model):
    model, queries = model
    f = kernel_of(queries, model.support_vectors) @ np.asarray(model.coefficients) - 0.1
    scoring = export_scoring(model, platforms=("cpu",))
    out = scoring.call(jnp.asarray(queries), jnp.float32(0))
    np.testing.assert_allclose(out["f"], f, rtol=0, atol=1e-6)


@pytest.mark.parametrize("far", [1.0, 1e6])
def test_what_is_exported_in_many_dimensions(far):
    """Where the way is chosen, and the number of rows a symbol."""
    rng = np.random.default_rng(0)
    x, queries = (rng.normal(size=(n, 24)).astype(np.float32) for n in (N, 7))
    x[0], queries[0] = far * x[0], far * queries[0]
    weights = np.full(N, 1 / N, np.float32)
    model = OCSVM(jnp.asarray(x), jnp.asarray(weights), jnp.float32(0.1), rbf(1 / 32))
    f = kernel_of(queries, x, 1 / 32) @ weights - 0.1
    scoring = export_scoring(model, platforms=("cpu", "cuda", "tpu"))
    for rows in (slice(7), slice(1)):
        out = scoring.call(jnp.asarray(queries[rows]), jnp.float32(0))
        np.testing.assert_allclose(out["f"], f[rows], rtol=0, atol=1e-6)


def test_what_is_explained(model):
    model, queries = model
    x, alpha = np.asarray(model.support_vectors), np.asarray(model.coefficients)
    terms = kernel_of(queries, x) * alpha
    found = explain.contributions(model, jnp.asarray(queries), 3)
    np.testing.assert_allclose(found.values, -np.sort(-terms)[:, :3], rtol=1e-5, atol=1e-7)
    difference = queries[:, None].astype(np.longdouble) - x[None]
    slope = -2 * GAMMA * np.sum(terms[..., None] * difference, axis=1)
    gradient = explain.decision_gradient(model, jnp.asarray(queries))
    np.testing.assert_allclose(gradient, slope.astype(float), rtol=0, atol=2e-6)


V, POINTS_OF_EACH = 4, 24
score, log_score = jax.jit(score_locations), jax.jit(log_score_locations)


def locations(dtype):
    """A far point at one, an offset, two clusters, a code for missing values in one dimension."""
    rng = np.random.default_rng(2)
    z, queries = (rng.normal(size=(V, POINTS_OF_EACH, 4)) * s for s in (1, 1.5))
    z[0, 0] = queries[0, 0] = 1e7
    for a in (z, queries):
        a[1] += 1e5
        a[2, ::2] += 1e5
        a[3, :3, 0] = -999_999
    return z.astype(dtype), queries.astype(dtype)


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize(("gamma", "standardize"), [(0.3, False), ("scale", True)])
def test_locations(gamma, standardize, dtype, atol):
    """Optimal for the exact kernel of each location, and scored by it, one point or all of them."""
    z, queries = locations(dtype)
    model = fit_locations(jnp.asarray(z), nu=NU, gamma=gamma, standardize=standardize)
    scores, log_scores = score(model, queries), log_score(model, queries)
    bounds = optimality.upper_bounds(POINTS_OF_EACH, NU)
    for i in range(V):
        x = z[i].astype(np.longdouble)
        std = x.std(axis=0) + 1e-6 if standardize else np.ones(4)
        np.testing.assert_allclose(model.std[i], std.astype(float), rtol=20 * np.finfo(dtype).eps)
        number = 0.3 if gamma == 0.3 else 0.25 / np.var((x - x.mean(axis=0)) / std)
        np.testing.assert_allclose(model.gamma[i], float(number), rtol=20 * np.finfo(dtype).eps)
        K, k = (np.expm1(-number * exact.squared(a, x, std)).astype(float) for a in (x, queries[i]))
        alpha = np.asarray(model.alpha[i], float)
        # At the bound of its own dtype.
        alpha = np.where(alpha > bounds - 1e-6, bounds, alpha)
        assert optimality.gap(K, alpha, bounds) < atol
        rho = float(model.rho[i])
        total = k @ alpha
        np.testing.assert_allclose(scores[i], rho - total, rtol=0, atol=atol)
        near = total > -0.9
        np.testing.assert_allclose(
            np.asarray(log_scores[i])[near],
            np.log1p(rho) - np.log1p(total[near]),
            rtol=0,
            atol=30 * atol,
        )
    alone = score(model, queries[:, :1])
    np.testing.assert_allclose(alone, scores[:, :1], rtol=0, atol=4 * np.finfo(dtype).eps)
