"""SVDD against generic solvers, the one-class SVM, and scikit-learn's contract."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import parametrize_with_checks

import ocsvm_jax
from ocsvm_jax.sklearn import SVDD, OneClassSVM

RNG = np.random.default_rng(0)
X, QUERIES = 1 + RNG.normal(size=(40, 3)), 1 + 2 * RNG.normal(size=(60, 3))
WEIGHTS = RNG.integers(0, 3, 40) * 1.0
KERNELS = {
    "linear": (lambda a, b: a @ b.T, {}),
    "poly": (lambda a, b: (0.1 * a @ b.T + 1) ** 2, {"degree": 2, "coef0": 1.0, "gamma": 0.1}),
    "rbf": (lambda a, b: rbf_kernel(a, b, gamma=0.2), {"gamma": 0.2}),
}

checks = parametrize_with_checks([SVDD()])


@pytest.mark.parametrize(checks.args[0], list(checks.args[1]), **checks.kwargs)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def by_sequential_quadratic_programming(K, C):
    """alpha of Tax and Duin's dual, by SciPy's SLSQP."""
    d, n = np.diagonal(K), len(K)
    part = C > 0
    found = minimize(
        lambda a: a @ K @ a - d @ a,
        np.where(part, 1 / np.sum(part), 0),
        jac=lambda a: 2 * K @ a - d,
        bounds=[(0, c) for c in C],
        constraints={"type": "eq", "fun": lambda a: np.sum(a) - 1, "jac": lambda a: np.ones(n)},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    assert found.success
    return found.x


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("w", [np.ones(40), WEIGHTS], ids=["even", "weighted"])
def test_centre_and_radius_of_a_generic_solver(kernel, w):
    function, parameters = KERNELS[kernel]
    K, C = function(X, X), w / (0.2 * np.sum(w))
    alpha = by_sequential_quadratic_programming(K, C)
    model = SVDD(kernel=kernel, nu=0.2, **parameters).fit(X, sample_weight=w)

    def distances(k_own, k):
        return k_own - 2 * k @ alpha + alpha @ K @ alpha

    own = np.diagonal(function(QUERIES, QUERIES))
    expected = -distances(own, function(QUERIES, X))
    scale = np.max(np.abs(expected))
    scores = model.score_samples(QUERIES)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6 * scale)
    free = (alpha > 1e-5) & (alpha < C - 1e-5)
    radius = np.sqrt(np.mean(distances(np.diagonal(K), K)[free]))
    assert model.radius_ == pytest.approx(radius, rel=1e-5)
    f = model.decision_function(QUERIES)
    np.testing.assert_allclose(f, model.radius_**2 + scores, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("n", [90, 1100])
def test_of_a_constant_diagonal_it_is_the_one_class_svm(n):
    x = np.random.default_rng(1).normal(size=(n, 3))
    ball, plane = (C(nu=0.1, gamma=0.5, tol=1e-8).fit(x) for C in (SVDD, OneClassSVM))
    expected = 2 / (0.1 * n) * plane.decision_function(x)
    np.testing.assert_allclose(ball.decision_function(x), expected, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(ball.support_, plane.support_)
    assert np.sum(ball.dual_coef_) == pytest.approx(1, rel=1e-13)


@pytest.mark.parametrize("n", [90, 1100])
def test_linear_kernel_is_a_ball_round_the_points(n):
    """Wherever they lie: a common offset costs only what it rounds off the points themselves."""
    x = np.random.default_rng(2).normal(size=(n, 2))
    model = SVDD(kernel="linear", nu=0.1).fit(x)
    f = model.decision_function(x)
    squares = np.sum((x - model.center_) ** 2, axis=1)
    np.testing.assert_allclose(f, model.radius_**2 - squares, rtol=0, atol=1e-11)
    assert np.sum(model.predict(x) == -1) <= 0.1 * n
    far = SVDD(kernel="linear", nu=0.1).fit(x + 1e6)
    np.testing.assert_allclose(far.decision_function(x + 1e6), f, rtol=0, atol=1e-6)


def test_kernel_objects_sparse_points_and_calibration():
    model = SVDD(kernel="rbf", gamma=0.2, nu=0.2).fit(X)
    given = SVDD(kernel=ocsvm_jax.rbf(0.2), nu=0.2).fit(X)
    loose = SVDD(gamma=0.2, nu=0.2).fit(sparse.csr_array(X))
    f = model.decision_function(QUERIES)
    np.testing.assert_array_equal(given.decision_function(QUERIES), f)
    np.testing.assert_allclose(loose.decision_function(sparse.csr_array(QUERIES)), f, atol=1e-12)
    np.testing.assert_array_equal(
        model.calibrate(QUERIES, 0.1).predict(X) == -1, model.p_values(X) <= 0.1
    )


@pytest.mark.parametrize("kernel", ["precomputed", ocsvm_jax.precomputed(), rbf_kernel])
def test_matrices_are_refused(kernel):
    with pytest.raises(ValueError, match=r"SVDD needs k\(x, x\) of the points it scores"):
        SVDD(kernel=kernel).fit(X @ X.T)


def test_centre_belongs_to_the_linear_kernel():
    with pytest.raises(AttributeError, match="linear kernel"):
        _ = SVDD().fit(X).center_
