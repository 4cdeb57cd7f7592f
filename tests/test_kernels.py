import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads
from oracles import pairwise
from sklearn.svm import OneClassSVM

from ocsvm_jax.kernels import (
    gram,
    laplacian,
    linear,
    polynomial,
    rbf,
    resolve_gamma,
    scaled,
    sigmoid,
    squared_distances,
)

KERNELS = {
    "rbf": rbf(0.3),
    "laplacian": laplacian(0.3),
    "linear": linear(),
    "polynomial": polynomial(3, gamma=0.5, coef0=1.5),
    "polynomial, degree 1": polynomial(1, gamma=0.5),
    "sigmoid": sigmoid(0.2, -0.5),
    "scaled rbf": scaled(rbf(0.3), jnp.array([1.0, 2.0, 4.0])),
}


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def _points(n, d=3, seed=0, offset=0.0, dtype=float):
    return jnp.asarray(offset + np.random.default_rng(seed).normal(size=(n, d)), dtype)


@pytest.mark.parametrize("name", KERNELS)
def test_against_scikit_learn(name):
    x, y = _points(7), _points(5, seed=1)
    for other in (x, y):
        expected = pairwise.MATRICES[name](np.asarray(x), np.asarray(other))
        np.testing.assert_allclose(gram(KERNELS[name], x, other), expected, rtol=1e-12)
    np.testing.assert_allclose(
        gram(KERNELS[name], x), pairwise.MATRICES[name](np.asarray(x), np.asarray(x)), rtol=1e-12
    )


@pytest.mark.parametrize("name", KERNELS)
def test_one_pair_is_an_entry_of_the_matrix(name):
    x, y = _points(3), _points(2, seed=1)
    K = gram(KERNELS[name], x, y)
    value = KERNELS[name](x[2], y[1])
    assert value.shape == ()
    np.testing.assert_allclose(value, K[2, 1], rtol=1e-14)


@pytest.mark.parametrize("d", [1, 3, 32])
def test_float32_far_from_the_origin(d):
    """Plain |x|^2 + |y|^2 - 2 x'y is off by 1e-3 there; the reference sees the same points."""
    x, y = (_points(40, d, seed, offset=100.0, dtype=jnp.float32) for seed in (0, 1))
    kernel = rbf(0.5 / d)
    for K, other in ((gram(kernel, x), x), (gram(kernel, x, y), y)):
        assert K.dtype == jnp.float32
        a, b = np.asarray(x, float), np.asarray(other, float)
        exact = np.exp(-0.5 / d * np.sum((a[:, None] - b[None, :]) ** 2, axis=-1))
        np.testing.assert_allclose(K, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["rbf", "laplacian", "scaled rbf"])
def test_the_diagonal_is_exactly_one(name, dtype):
    x = _points(50, offset=10.0, dtype=dtype)
    assert np.all(np.diag(gram(KERNELS[name], x)) == 1)


def test_squared_distances_are_never_negative():
    x = _points(30, offset=1e3, dtype=jnp.float32)
    twice = jnp.concatenate([x, x])
    assert np.all(squared_distances(twice, twice) >= 0)


def test_any_function_of_two_points():
    x, y = _points(6), _points(4, seed=1)
    inverse = gram(lambda a, b: 1 / (1 + jnp.sum(jnp.abs(a - b))), x, y)
    distances = np.sum(np.abs(np.asarray(x)[:, None] - np.asarray(y)[None, :]), axis=-1)
    np.testing.assert_allclose(inverse, 1 / (1 + distances), rtol=1e-14)


def test_sums_and_products_are_written_as_functions():
    x, y = _points(6), _points(4, seed=1)
    a, b, c = (KERNELS[name] for name in ("rbf", "linear", "polynomial"))
    mixed = gram(lambda u, v: 2 * a(u, v) + b(u, v) * c(u, v), x, y)
    expected = 2 * gram(a, x, y) + gram(b, x, y) * gram(c, x, y)
    np.testing.assert_allclose(mixed, expected, rtol=1e-13)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_a_pytree(name):
    """It goes through jit as an argument, and comes out of tree maps as the same kernel."""
    kernel = KERNELS[name]
    x = _points(4)
    expected = gram(kernel, x)
    np.testing.assert_allclose(jax.jit(gram)(kernel, x), expected, rtol=1e-14)
    rebuilt = jax.tree.map(lambda leaf: leaf, kernel)
    assert type(rebuilt) is type(kernel)
    np.testing.assert_array_equal(gram(rebuilt, x), expected)


def test_a_static_degree_is_no_leaf():
    assert jax.tree.leaves(polynomial(3, 0.5, 1.5)) == [0.5, 1.5]
    assert jax.tree.structure(polynomial(2)) != jax.tree.structure(polynomial(3))


def test_derivative_in_gamma():
    x, y = _points(5), _points(4, seed=1)
    slope = jax.jit(jax.jacfwd(lambda gamma: gram(rbf(gamma), x, y)))(0.3)
    distances = np.sum((np.asarray(x)[:, None] - np.asarray(y)[None, :]) ** 2, axis=-1)
    np.testing.assert_allclose(slope, -distances * np.exp(-0.3 * distances), rtol=1e-12)


def test_many_gammas_at_once():
    x = _points(5)
    many = jax.vmap(lambda gamma: gram(rbf(gamma), x))(jnp.array([0.1, 1.0]))
    for K, gamma in zip(many, (0.1, 1.0), strict=True):
        np.testing.assert_allclose(K, gram(rbf(gamma), x), rtol=1e-14)


def test_derivatives_in_the_points():
    """All kernels at once: every check compiles anew."""
    f = jax.jit(lambda x, y: [gram(k, x, y) + jnp.sum(gram(k, x)) for k in KERNELS.values()])
    check_grads(f, (_points(3), _points(2, seed=1)), order=2, modes="rev", eps=1e-4)


@pytest.mark.parametrize("name", ["rbf", "scaled rbf"])
def test_second_derivative_where_points_coincide(name):
    """The clamp of rounded distances at zero must not show: it is no kink of the kernel."""
    x = jnp.concatenate([_points(3), _points(3)])
    kernel = KERNELS[name]
    weights = _points(6, 6, seed=2)
    fast = jax.jit(jax.hessian(lambda x: jnp.sum(weights * gram(kernel, x))))
    pair_by_pair = jax.jit(
        jax.hessian(lambda x: jnp.sum(weights * gram(lambda a, b: kernel(a, b), x)))
    )
    np.testing.assert_allclose(fast(x), pair_by_pair(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.7])
def test_resolve_gamma_as_scikit_learn(gamma):
    x = np.asarray(_points(20, 4, offset=3.0))
    expected = OneClassSVM(gamma=gamma).fit(x)._gamma
    np.testing.assert_allclose(resolve_gamma(gamma, jnp.asarray(x)), expected, rtol=1e-13)


def test_resolve_gamma_of_constant_points():
    assert resolve_gamma("scale", jnp.full((5, 2), 2.0)) == 1
    assert OneClassSVM(gamma="scale").fit(np.full((5, 2), 2.0))._gamma == 1


@pytest.mark.parametrize(
    ("given", "computed"),
    [("int32", "float64"), ("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32")],
)
@pytest.mark.parametrize("name", ["rbf", "polynomial"])
def test_dtype(name, given, computed, as_a_user_calls):
    x = jnp.array([[1, 2], [3, 4], [0, 1]]).astype(given)
    K = gram(KERNELS[name], x)
    assert K.dtype == computed
    assert resolve_gamma("scale", x).dtype == computed
    exact = gram(KERNELS[name], jnp.asarray(x, float))
    np.testing.assert_allclose(K, exact, rtol=1e-6)


def test_the_dtype_of_the_first_points_decides():
    x, y = _points(3, dtype=jnp.float32), _points(2, seed=1)
    assert gram(rbf(0.3), x, y).dtype == jnp.float32
    assert gram(rbf(0.3), y, x).dtype == jnp.float64


def test_numpy_points(as_a_user_calls):
    x = np.asarray(_points(4))
    np.testing.assert_array_equal(gram(linear(), x), gram(linear(), jnp.asarray(x)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gram(rbf(1.0), jnp.ones(3)), r"received \(3,\)"),
        (lambda: gram(rbf(1.0), jnp.ones((3, 2)), jnp.ones((4, 3))), r"\(3, 2\) and \(4, 3\)"),
        (lambda: gram(rbf(1.0), jnp.ones((2, 3, 2))), r"received \(2, 3, 2\)"),
        (lambda: rbf(0.0), "gamma is 0.0"),
        (lambda: rbf(-1), "gamma is -1.0"),
        (lambda: rbf(float("nan")), "gamma is nan"),
        (lambda: rbf(float("inf")), "gamma is inf"),
        (lambda: laplacian(-0.1), "gamma is -0.1"),
        (lambda: rbf("scale"), r"resolve_gamma\('scale', x\)"),
        (lambda: polynomial(2, gamma="auto"), "resolve_gamma"),
        (lambda: polynomial(0), "degree is 0"),
        (lambda: polynomial(2.5), "degree is 2.5"),
        (lambda: resolve_gamma("median", jnp.ones((2, 2))), "gamma is 'median'"),
        (lambda: resolve_gamma(-2.0, jnp.ones((2, 2))), "gamma is -2.0"),
    ],
)
def test_misuse_says_what_was_received(call, text, as_a_user_calls):
    with pytest.raises(ValueError, match=text):
        call()
