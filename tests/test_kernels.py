import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.test_util import check_grads
from oracles import pairwise
from sklearn.svm import OneClassSVM

from ocsvm_jax.arrays.distances import squared_distances
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import (
    gram,
    laplacian,
    linear,
    log_gram,
    polynomial,
    rbf,
    resolve_gamma,
    scaled,
    sigmoid,
)
from ocsvm_jax.sklearn import OneClassSVM as Estimator

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


@pytest.mark.parametrize(
    ("kernel", "power", "scale"),
    [
        (rbf(0.3), 2, 1.0),
        (laplacian(0.3), 1, 1.0),
        (scaled(scaled(rbf(0.3), jnp.array([1.0, 2.0])), jnp.array([3.0, 1.0])), 2, [3.0, 2.0]),
    ],
    ids=["rbf", "laplacian", "scaled twice"],
)
def test_the_logarithm_of_a_kernel(kernel, power, scale):
    """Also where the kernel itself is 0."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), np.concatenate([rng.normal(size=(4, 2)), [[1e3, -1e3]]])
    differences = np.abs(x[:, None] - y[None]) / scale
    found = log_gram(kernel, x, y)
    np.testing.assert_allclose(found, -0.3 * (differences**power).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(found), gram(kernel, x, y), rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "polynomial", "sigmoid"])
def test_other_kernels_have_no_logarithm(name):
    with pytest.raises(ValueError, match="only the RBF and the Laplacian kernel have a logarithm"):
        log_gram(KERNELS[name], jnp.ones((2, 3)), jnp.ones((2, 3)))


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
    """All kernels at once: every check is compiled."""
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resolve_gamma_of_constant_points(dtype, as_a_user_calls):
    """Of numbers with no exact mean, too."""
    for value in (2.0, 0.1, 1e30):
        x = np.full((5, 2), value, dtype)
        assert resolve_gamma("scale", x) == resolve_gamma("scale", jnp.asarray(x)) == 1
    assert OneClassSVM(gamma="scale").fit(np.full((5, 2), 2.0))._gamma == 1


def _weighted():
    """Points, their numbers of repetitions, and gamma of the points so repeated."""
    x = np.random.default_rng(5).normal(size=(30, 4)) * 3 + 1
    repeats = np.random.default_rng(6).integers(0, 6, 30)
    return x, repeats, 1 / (4 * np.var(np.repeat(x, repeats, axis=0)))


def test_resolve_gamma_on_the_host():
    """NumPy in, a Python number of float64 out, whatever JAX's own precision."""
    x, repeats, expected = _weighted()
    for w in (repeats, repeats * 1e-300, repeats * 1e300, (repeats / 5).astype(np.float32)):
        gamma = resolve_gamma("scale", x, w)
        assert type(gamma) is float
        np.testing.assert_allclose(gamma, expected, rtol=1e-7 if w.dtype == np.float32 else 1e-13)
    np.testing.assert_allclose(resolve_gamma("scale", x), 1 / (4 * np.var(x)), rtol=1e-13)
    for garbage in (1e20, 1e300, np.nan, np.inf):
        bad = np.where(repeats[:, None] > 0, x, garbage)
        np.testing.assert_allclose(resolve_gamma("scale", bad, repeats), expected, rtol=1e-13)
    integers = np.arange(12).reshape(4, 3)
    np.testing.assert_allclose(resolve_gamma("scale", integers), 1 / (3 * np.var(integers)))
    assert type(resolve_gamma("auto", x)) is type(resolve_gamma(2, x)) is float


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resolve_gamma_with_weights(dtype):
    x, repeats, expected = _weighted()
    rtol = 30 * float(jnp.finfo(dtype).eps)
    resolve = jax.jit(lambda x, w: resolve_gamma("scale", x, w))
    largest = 1e30 if dtype == "float32" else 1e300
    for factor in (1.0, largest, 1 / largest):
        w = jnp.asarray(repeats * factor, dtype)
        for garbage in (0.0, 1e30, np.nan):
            points = jnp.asarray(np.where(repeats[:, None] > 0, x, garbage), dtype)
            gamma = resolve(points, w)
            assert gamma.dtype == dtype
            np.testing.assert_allclose(gamma, expected, rtol=rtol)
            np.testing.assert_allclose(resolve_gamma("scale", points, w), expected, rtol=rtol)


def test_resolve_gamma_far_from_the_origin():
    x = (1e6 + np.random.default_rng(0).uniform(-1, 1, (200, 3))).astype(np.float32)
    expected = 1 / (3 * np.var(x, dtype=np.float64))
    for points in (x, jnp.asarray(x)):
        np.testing.assert_allclose(resolve_gamma("scale", points), expected, rtol=1e-5)


def test_derivative_of_gamma():
    x, w = _points(6), jnp.asarray([1.0, 2.0, 0.5, 3.0, 1.0, 4.0])
    f = jax.jit(lambda x, w: resolve_gamma("scale", x, w))
    check_grads(f, (x, w), order=2, modes=("fwd", "rev"), eps=1e-4)
    constant = jax.grad(lambda x: resolve_gamma("scale", x))(jnp.full((4, 2), 3.0))
    np.testing.assert_array_equal(constant, np.zeros((4, 2)))


@pytest.mark.parametrize("points", [np.asarray, jnp.asarray])
@pytest.mark.parametrize(
    ("scale", "dtype", "end", "said"),
    [
        (1e155, "float64", "overflows", "e\\+155"),
        (1e-160, "float64", "underflows", "e-160"),
        (1e308, "float64", "overflows", "inf"),
        (1e25, "float32", "overflows", r"e\+25"),
        (1e-25, "float32", "underflows", "e-25"),
    ],
)
def test_a_variance_out_of_range(points, scale, dtype, end, said):
    """It is the variance that is at fault; the user gave no number for gamma."""
    x = (np.random.default_rng(0).choice([-1.2, 1.0, 1.3], (20, 3)) * scale).astype(dtype)
    with pytest.raises(ValueError, match=f"the variance {end}: .*differ by .*{said}.*Scale x"):
        resolve_gamma("scale", points(x))


@pytest.mark.parametrize("n", [200, 1100])
def test_the_default_kernel_of_a_fit_counts_weights(n):
    """A point of weight 0 may be anywhere; weights are repetitions."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(n, 3)), rng.integers(1, 5, n).astype(float)
    x[0], w[0] = 1e6, 0
    fitted = ocsvm_fit(jnp.asarray(x), 0.1, sample_weight=jnp.asarray(w))
    expected = 1 / (3 * np.var(np.repeat(x, w.astype(int), axis=0)))
    np.testing.assert_allclose(fitted.kernel.gamma, expected, rtol=1e-12)
    estimator = Estimator(nu=0.1).fit(x, sample_weight=w)
    np.testing.assert_allclose(estimator._kernel.gamma, expected, rtol=1e-12)
    queries = 3 * rng.normal(size=(300, 3))
    ours = np.asarray(fitted.decision_function(jnp.asarray(queries)))
    theirs = estimator.decision_function(queries) / (0.1 * w.sum())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("degree", [2, 3, 5])
def test_polynomials_in_float32(degree):
    """Each to the rounding of its own |x| |y|, whatever the other rows are."""
    x, y = (np.exp(3 * np.random.default_rng(s).normal(size=(20, 4))) for s in (0, 1))
    x[0] = 1e5
    x, y = x.astype(np.float32), y.astype(np.float32)
    K = gram(polynomial(degree, gamma=0.5, coef0=1.0), jnp.asarray(x), jnp.asarray(y))
    exact = (0.5 * x.astype(np.longdouble) @ y.T.astype(np.longdouble) + 1) ** degree
    np.testing.assert_allclose(K, exact.astype(float), rtol=degree * 8 * 1.2e-7)


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
