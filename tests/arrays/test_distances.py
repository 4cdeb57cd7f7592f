"""Distances and what is made of them, where some points are far from others.

The error of each is held to the multiple of the rounding unit that the docstrings state.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from oracles import distances as exact

from ocsvm_jax.arrays import distances
from ocsvm_jax.arrays.distances import absolute_distances, squared_distances, squared_distances_to
from ocsvm_jax.kernel_sums import _CENTRES, _ENTRIES, _POINTS, kernel_sum
from ocsvm_jax.kernels import gram, laplacian, rbf, scaled

pytestmark = pytest.mark.optimised

N, M = 80, 50
FEW, MANY = 3, 24  # dimensions: differences alone, and a choice
DTYPES = ["float32", "float64"]

_squared, _absolute = jax.jit(squared_distances), jax.jit(absolute_distances)
_gram = jax.jit(gram)


def sets(name, d, dtype):
    """Points, and queries of which some are the points, some others of the kind, one far away."""
    x = exact.POINTS[name](np.random.default_rng(0), N, d).astype(dtype)
    others = exact.POINTS[name](np.random.default_rng(1), M, d).astype(dtype)
    others[::5] = x[: M // 5]
    others[-1] = 1e7
    return x, others


def assert_within(actual, expected, multiple, dtype):
    """The error is at most so many rounding units of each; not below the smallest normal number."""
    eps, tiny = (float(getattr(np.finfo(dtype), name)) for name in ("eps", "tiny"))
    expected = np.minimum(expected, np.finfo(dtype).max)
    error = np.abs(np.asarray(actual, np.longdouble) - expected)
    assert np.all(error <= multiple * (eps * expected + tiny))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [FEW, MANY])
@pytest.mark.parametrize("name", exact.POINTS)
def test_each_distance_is_accurate(name, d, dtype):
    x, y = sets(name, d, dtype)
    scale = np.geomspace(0.01, 30, d).astype(dtype)
    for other in (x, y):
        a, b = jnp.asarray(x), jnp.asarray(other)
        for factor, by in ((None, 1), (1 / jnp.asarray(scale), scale)):
            found = _squared(a, b, factor)
            assert found.dtype == dtype
            assert_within(found, exact.squared(x, other, by), d / 2 + 3, dtype)
            found = _absolute(a, b, factor)
            assert_within(found, exact.absolute(x, other, by), d / 2 + 3, dtype)
    same = np.asarray(_squared(jnp.asarray(x), jnp.asarray(x)))
    np.testing.assert_array_equal(same, same.T)
    assert not np.any(np.diag(same))


def assert_kernel(K, exponent, bound, dtype):
    """K = exp(-exponent) up to an error of the exponent and that of the exponential itself."""
    eps = float(np.finfo(dtype).eps)
    expected = np.exp(-exponent)
    # Of what has underflowed there is nothing to compare.
    error = np.abs(np.asarray(K, np.longdouble) - expected)
    allowed = np.expm1(bound * eps) * expected + 4 * eps * expected + np.finfo(dtype).tiny
    assert np.all(error <= allowed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [FEW, MANY])
@pytest.mark.parametrize("name", exact.POINTS)
def test_kernels(name, d, dtype):
    x, y = sets(name, d, dtype)
    scale = np.geomspace(0.5, 3, d).astype(dtype)
    # Exactly representable: of gamma nothing is lost.
    for gamma in (2.0**-5, 2.0**-16):
        for kernel, by in ((rbf(gamma), 1), (scaled(rbf(gamma), jnp.asarray(scale)), scale)):
            K = _gram(kernel, jnp.asarray(x), jnp.asarray(y))
            exponent = gamma * exact.squared(x, y, by)
            bound = (d / 2 + 5) * exponent if d == FEW else 5 * (d + 4) * np.maximum(exponent, 4)
            assert_kernel(K, exponent, np.minimum(bound, 1e4), dtype)
    K = _gram(scaled(laplacian(0.25), jnp.asarray(scale)), jnp.asarray(x), jnp.asarray(y))
    exponent = exact.absolute(x, y, scale) / 4
    assert_kernel(K, exponent, np.minimum((d / 2 + 5) * exponent, 1e4), dtype)


def test_both_ways_are_taken():
    """The product where all points are near their mean, for any query; else differences."""
    x, _ = sets("ordinary", MANY, "float32")
    _, y = sets("one row of 1e5", MANY, "float32")
    gamma = jnp.float32(1 / MANY)
    a, b = jnp.asarray(x), jnp.asarray(y)
    assert np.any(squared_distances_to(a, b, None, gamma) != _squared(a, b))
    for points, factor in ((a.at[0].set(1e5), gamma), (a, jnp.float32(10))):
        found = squared_distances_to(points, b, None, factor)
        np.testing.assert_array_equal(found, _squared(points, b))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [FEW, MANY])
def test_sums_in_tiles(d, dtype):
    """A far row in one tile of the centres and one of the points; the tile beside is filled up."""
    m, q = _CENTRES + 10, 2 * _POINTS + 20
    rng = np.random.default_rng(0)
    centres, x = rng.normal(size=(m, d)), rng.normal(size=(q, d))
    x[:100] = centres[:100]
    centres[3], centres[-1], x[-3] = 1e9, -999_999, 1e12
    centres, x = centres.astype(dtype), x.astype(dtype)
    weights = rng.dirichlet(np.ones(m)).astype(dtype)
    gamma = 1 / 32
    found = kernel_sum(rbf(gamma), *map(jnp.asarray, (centres, weights, x)))
    difference = lambda rows: exact.squared(centres, rows)  # noqa: E731
    parts = [weights @ np.exp(-gamma * difference(rows)) for rows in np.array_split(x, 20)]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found, np.concatenate(parts), rtol=0, atol=20 * eps)


def of_pairs(x, y, weights):
    """The gradient of sum(weights * squared distances) in x and in y, and the size of its terms."""
    difference = x[:, None, :].astype(np.longdouble) - y[None, :, :]
    terms = 2 * weights[..., None] * difference
    return (terms.sum(axis=1), -terms.sum(axis=0)), (
        np.abs(terms).sum(axis=1),
        np.abs(terms).sum(axis=0),
    )


_slopes = jax.jit(
    jax.grad(lambda x, y, weights: jnp.sum(weights * squared_distances(x, y)), argnums=(0, 1))
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(exact.POINTS) - {"squares that overflow"}))
def test_gradients(name, dtype):
    x, y = sets(name, FEW, dtype)
    weights = np.random.default_rng(2).normal(size=(N, M)).astype(dtype)
    expected, sizes = of_pairs(x, y, weights)
    eps = np.finfo(dtype).eps
    for found, right, size in zip(_slopes(x, y, weights), expected, sizes, strict=True):
        assert np.all(np.abs(np.asarray(found, np.longdouble) - right) <= M * eps * size)


def test_second_derivatives():
    """Where points coincide too: along a direction, 2 sum_ij W_ij |u_i - v_j|^2."""
    x, y = sets("near pairs far away", MANY, "float64")
    u, v = (np.random.default_rng(s).normal(size=a.shape) for s, a in ((3, x), (4, y)))
    weights = np.random.default_rng(2).normal(size=(N, M))

    @partial(jax.jit, static_argnums=0)
    def curvature(distances, x, y):
        along = lambda t: jnp.sum(weights * distances(x + t * u, y + t * v))  # noqa: E731
        return jax.grad(jax.grad(along))(0.0)

    right = 2 * np.sum(weights * exact.squared(u, v))
    # Both ways of the kernel's distances: differences, and the product with all points near.
    for gamma, shrink in ((1.0, 1.0), (1e-9, 1e-6)):

        def distances(a, b, gamma=gamma, shrink=shrink):
            return squared_distances_to(shrink * a, shrink * b, None, jnp.asarray(gamma))

        np.testing.assert_allclose(curvature(distances, x, y), shrink**2 * right, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_of_which_one_is_far(dtype):
    """Under vmap both ways are computed: what one cannot hold must not reach the other."""
    names = ["ordinary", "rows of 1e9, -1e12, 1e4", "squares that overflow", "two clusters"]
    pairs = [sets(name, MANY, dtype) for name in names]
    xs, ys = (np.stack(a) for a in zip(*pairs, strict=True))
    weights = np.random.default_rng(2).normal(size=(N, M)).astype(dtype)

    def value(gamma, x, y):
        return jnp.sum(weights * gram(rbf(gamma), x, y))

    slopes = jax.jit(jax.vmap(jax.grad(value, argnums=(0, 1, 2)), in_axes=(None, 0, 0)))
    gamma = np.asarray(1 / 32, dtype)
    together = slopes(gamma, xs, ys)
    assert all(np.all(np.isfinite(a)) for a in together)
    for i, (x, y) in enumerate(pairs):
        difference = x[:, None].astype(np.longdouble) - y[None]
        distances = np.sum(difference**2, axis=-1)
        terms = weights * np.exp(-gamma * distances)
        in_gamma = -np.sum(terms * np.where(terms == 0, 0, distances))
        in_x = (
            -2
            * gamma
            * np.einsum("ij,ijk->ik", terms, np.where(terms[..., None] == 0, 0, difference))
        )
        tolerance = 2e3 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(together[1][i], in_x, rtol=0, atol=tolerance)
        np.testing.assert_allclose(together[0][i], in_gamma, rtol=tolerance, atol=100 * tolerance)


def test_no_distance_is_infinite_and_no_kernel_of_it_nan():
    x = jnp.asarray([[1e155, 0.0], [-1e155, 0.0], [1.0, 2.0]])
    for kernel in (rbf(0.5), rbf(1e-300), laplacian(1e200)):
        K = gram(kernel, x)
        np.testing.assert_array_equal(K, np.eye(3))
    value = lambda gamma, x: jnp.sum(gram(rbf(gamma), x))  # noqa: E731
    assert all(np.all(np.isfinite(a)) for a in jax.grad(value, argnums=(0, 1))(0.5, x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_queries_at_the_end_of_the_range(dtype):
    """Beside points that are near, so that the product is taken; NaN stays NaN, and alone."""
    x, y = sets("ordinary", MANY, dtype)
    y[3], y[4] = 0.9 * np.finfo(dtype).max, -np.finfo(dtype).max
    y[5, 2] = np.nan
    kernel = rbf(1 / MANY)
    value = lambda x, y: jnp.sum(gram(kernel, x, y))  # noqa: E731
    x, y = jnp.asarray(x), jnp.asarray(y)
    K = _gram(kernel, x, y)
    assert not np.any(K[:, 3:5])
    assert np.flatnonzero(np.any(np.isnan(K), axis=0)).tolist() == [5]
    assert np.all(np.isfinite(jax.grad(value)(x, jnp.delete(y, 5, axis=0))))


@pytest.mark.parametrize("sizes", [(0, 4, 3), (4, 0, 3), (4, 5, 0), (1, 1, 1), (300, 1000, 2)])
def test_sizes(sizes):
    """No points, no dimensions, and more pairs than one block holds."""
    n, m, d = sizes
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    found = squared_distances(jnp.asarray(x), jnp.asarray(y))
    assert found.shape == (n, m)
    np.testing.assert_allclose(found, exact.squared(x, y).astype(float), rtol=1e-14)
    if min(sizes):
        slopes = jax.grad(lambda x: jnp.sum(squared_distances(x, jnp.asarray(y))))(jnp.asarray(x))
        right, _ = of_pairs(x, y, np.ones((n, m)))
        np.testing.assert_allclose(slopes, right[0].astype(float), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", [FEW, MANY])
def test_under_shard_map(d):
    x, y = (jnp.asarray(a) for a in sets("ordinary", d, "float32"))
    mesh, rows = Mesh(np.array(jax.devices()[:1]), ("rows",)), PartitionSpec("rows")
    kernel = scaled(rbf(0.1), jnp.ones(d, x.dtype))
    mapped = jax.shard_map(
        lambda x, y: gram(kernel, x, y),
        mesh=mesh,
        in_specs=(rows, PartitionSpec()),
        out_specs=rows,
    )
    np.testing.assert_allclose(jax.jit(mapped)(x, y), gram(kernel, x, y), rtol=1e-6)


@pytest.mark.parametrize("term", [jnp.square, jnp.abs])
def test_the_way_of_accelerators(term):
    """On a CPU it is not taken: values and derivatives are those of the way that is."""
    x, y = (jnp.asarray(a) for a in sets("two clusters", FEW, "float64"))
    factor = jnp.asarray([0.5, 2.0, 1.0])

    def along(way):
        return lambda *arguments: jnp.sum(jnp.exp(-way(term, *arguments) / 8))

    for arguments in ((x, y), (x, y, factor)):
        here, there = (
            jax.jit(jax.value_and_grad(along(way), argnums=tuple(range(len(arguments)))))(
                *arguments
            )
            for way in (distances._by_coordinates, distances._at_once)
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), here, there
        )


def test_an_accelerator_takes_few_large_tiles():
    """A tile takes the time of its launches there; the program is lowered, not run."""
    points, centres = jnp.zeros((300_000, 20), jnp.float32), jnp.zeros((512, 20), jnp.float32)
    traced = kernel_sum.trace(rbf(0.1), centres, centres[:, 0], points)
    for platform, tile in (("cpu", _POINTS), ("cuda", _ENTRIES // 512)):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert max(int(q) for q in re.findall(r"tensor<512x(\d+)xf32>", program)) == tile
