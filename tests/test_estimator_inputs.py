"""The estimator on data and arguments that people do have: scales, weights, mistakes."""

import functools
import re
import tracemalloc
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import sklearn.svm
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel

import ocsvm_jax
from ocsvm_jax.sklearn import OneClassSVM

RNG = np.random.default_rng(0)
X, QUERIES = RNG.normal(size=(90, 3)), 2 * RNG.normal(size=(200, 3))
MANY = RNG.normal(size=(1100, 3))


def alpha_of(model, n):
    alpha = np.zeros(n)
    alpha[model.support_] = model.dual_coef_[0] / np.sum(model.dual_coef_)
    return alpha


def gap_of(model, K, nu):
    """The KKT gap, from alpha and K alone."""
    n = len(K)
    alpha = alpha_of(model, n)
    g = np.asarray(K, np.longdouble) @ alpha
    return float(np.max(g[alpha > 0]) - np.min(g[alpha < (1 - 1e-12) / (nu * n)]))


@pytest.mark.parametrize("n, tol", [(90, 1e-1), (90, 1e-3), (90, 1e-5), (1100, 1e-3)])
def test_tol_bounds_the_gap_at_every_size(n, tol):
    """Of a kernel so large that the solver's default accuracy is not what tol asks for."""
    x, nu = MANY[:n], 0.1
    K = 1e8 * rbf_kernel(x, gamma=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = OneClassSVM(kernel="precomputed", nu=nu, tol=tol).fit(K)
    rounding = 1e-13 * 1e8
    assert gap_of(model, K, nu) <= max(tol / (nu * n), rounding) or model.fit_status_ == 1


def test_less_tol_than_rounding_leaves_is_no_reason_to_warn():
    """scikit-learn asks LIBSVM for the impossible here, and stops it by max_iter."""
    model = OneClassSVM(kernel="linear", nu=0.1).fit(1e7 * (X + 3))
    assert model.fit_status_ == 0


@pytest.mark.parametrize(
    "n, degree, coef0", [(300, 2, 0.0), (300, 3, 0.0), (300, 2, 1.0), (300, 5, 1.0), (1100, 5, 1.0)]
)
def test_a_kernel_of_wide_range_is_solved_or_said_not_to_be(n, degree, coef0):
    """Amounts and counts; what is small against the largest entry decides (F1)."""
    x = np.random.default_rng(0).pareto(1.2, size=(n, 4)) + 1
    model = OneClassSVM(kernel="poly", degree=degree, coef0=coef0, nu=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x)
    K = (model.gamma_ * x @ x.T + coef0) ** degree
    alpha = alpha_of(model, n)
    spread = alpha @ np.diagonal(K) - alpha @ K @ alpha
    if model.fit_status_ == 0:
        assert gap_of(model, K, 0.1) <= 1e-3 / (0.1 * n) * min(1, 4.1 * spread) + 1e-12
        assert 0.1 - 2 / n * 10 <= np.mean(model.predict(x) == -1) <= 0.1


def test_tol_of_little_nu_is_no_licence():
    """In scikit-learn's scale of nu * n any gap would do, and the solution none."""
    model = OneClassSVM(nu=1e-6, gamma=0.5).fit(MANY)
    reference = OneClassSVM(nu=1e-6, gamma=0.5, tol=1e-9).fit(MANY)
    f, expected = (m.decision_function(QUERIES) for m in (model, reference))
    np.testing.assert_allclose(f, expected, rtol=0, atol=2e-3 * 1e-6 * 1100)


@pytest.mark.parametrize("nu", [1e-320, 1e-40])
def test_nu_next_to_nothing(nu):
    model = OneClassSVM(nu=nu, gamma=0.5).fit(X)
    assert model.fit_status_ == 0
    assert np.sum(model.dual_coef_) == pytest.approx(90 * nu, rel=1e-2)
    hard = OneClassSVM(nu=1 / 90, gamma=0.5).fit(X)  # C = 1 is no bound either
    np.testing.assert_array_equal(model.support_, hard.support_)


@pytest.mark.parametrize("n", [90, 1100])
@pytest.mark.parametrize("w", [1e-300, 1e-8, 1e300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_only_ratios_of_weights_count(n, w, dtype):
    x, ratios = MANY[:n], np.arange(n) % 4 * 1.0
    model = OneClassSVM(nu=0.3, dtype=dtype).fit(x, sample_weight=w * ratios)
    expected = OneClassSVM(nu=0.3, dtype=dtype).fit(x, sample_weight=ratios)
    atol = (1e-12 if dtype == "float64" else 1e-5) * expected.offset_[0]
    f = model.decision_function(QUERIES) / w
    np.testing.assert_allclose(f, expected.decision_function(QUERIES), rtol=0, atol=atol)
    assert np.sum(model.dual_coef_) == pytest.approx(0.3 * w * np.sum(ratios), rel=1e-5)
    assert model.gamma_ == pytest.approx(expected.gamma_, rel=1e-14)


def test_weights_whose_sum_overflows():
    with pytest.raises(ValueError, match="sum overflows float64; only the ratios"):
        OneClassSVM().fit(X, sample_weight=np.full(90, 1e308))


def test_a_row_of_weight_zero_may_hold_anything():
    x, w = X.copy(), np.ones(90)
    x[0], w[0] = 1e20, 0
    f = OneClassSVM(nu=0.1).fit(x, sample_weight=w).decision_function(QUERIES)
    expected = OneClassSVM(nu=0.1).fit(X[1:]).decision_function(QUERIES)
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [100, 1100])
@pytest.mark.parametrize("far", [1e5, 1e9, 1e12])
def test_one_far_value_leaves_the_others_alone(n, far):
    """A code for missing values; LIBSVM is exact here (F3)."""
    x = MANY[:n].copy()
    x[0] = far
    f = OneClassSVM(nu=0.1, gamma=0.5, tol=1e-6).fit(x).decision_function(QUERIES)
    reference = sklearn.svm.OneClassSVM(nu=0.1, gamma=0.5, tol=1e-9).fit(x)
    expected = reference.decision_function(QUERIES)
    np.testing.assert_allclose(f, expected, rtol=0, atol=3e-6 * reference.offset_[0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": ocsvm_jax.rbf}, r"kernel is rbf itself, .* call it, as in kernel=rbf\(0.5\)"),
        ({"kernel": ocsvm_jax.polynomial}, r"kernel is polynomial itself"),
        ({"kernel": type(ocsvm_jax.rbf(1.0))}, r"kernel is RBF itself, .*kernel=rbf\(0.5\)"),
        ({"kernel": 0.5}, "kernel is 0.5; it must be 'linear'"),
        ({"kernel": "poly", "degree": 2.5}, "degree is 2.5; it must be an integer and"),
        ({"kernel": "poly", "degree": "2"}, "degree is '2'"),
        ({"kernel": "poly", "degree": True}, "degree is True"),
        ({"kernel": "poly", "coef0": "1"}, "coef0 is '1'; it must be one number and be finite"),
        ({"tol": "1e-3"}, "tol is '1e-3'; it must be one number and be positive and finite"),
        ({"tol": np.inf}, "tol is inf"),
        ({"tol": None}, "tol is None"),
        ({"max_iter": 2.5}, "max_iter is 2.5; it must be an integer"),
        ({"max_iter": None}, "max_iter is None"),
        ({"gamma": None}, "gamma is None; it must be 'scale', 'auto' or a number"),
        ({"gamma": np.nan}, "gamma is nan"),
        ({"nu": "0.1"}, r"nu is '0.1'; it must be one number and lie in \(0, 1\]"),
        ({"nu": None}, "nu is None"),
        ({"nu": [0.1]}, r"nu is \[0.1\]"),
        ({"dtype": "float"}, None),
        ({"dtype": "no type"}, "dtype is 'no type'"),
    ],
    # Not the functions among them, whose addresses differ from one worker to the next.
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_parameters_of_a_wrong_kind(parameters, message):
    if message is None:
        OneClassSVM(**parameters).fit(X)
        return
    with pytest.raises(ValueError, match=message):
        OneClassSVM(**parameters).fit(X)


def test_numbers_of_numpy_are_numbers():
    parameters = dict(
        nu=np.float32(0.25), gamma=np.float64(0.5), coef0=np.int64(1), tol=np.float32(1)
    )
    model = OneClassSVM(kernel="poly", degree=np.int32(2), max_iter=np.int64(10**10), **parameters)
    expected = OneClassSVM(kernel="poly", degree=2, nu=0.25, gamma=0.5, coef0=1.0).fit(X)
    f = model.fit(X).decision_function(QUERIES)
    np.testing.assert_array_equal(f, expected.decision_function(QUERIES))


@pytest.mark.parametrize("name", ["rbf", "laplacian", "poly", "sigmoid", "linear", "precomputed"])
def test_kernels_of_the_package(name):
    kernels = {
        "rbf": ocsvm_jax.rbf(0.3),
        "laplacian": ocsvm_jax.laplacian(0.3),
        "poly": ocsvm_jax.polynomial(2, 0.3, 1.0),
        "sigmoid": ocsvm_jax.sigmoid(0.3, 1.0),
        "linear": ocsvm_jax.linear(),
        "precomputed": ocsvm_jax.precomputed(),
    }
    x, queries = X + 2, QUERIES + 2
    if name == "precomputed":
        x, queries = rbf_kernel(x), rbf_kernel(queries, x)
    given = OneClassSVM(kernel=kernels[name], nu=0.2).fit(x)
    named = OneClassSVM(kernel=name, nu=0.2, gamma=0.3, degree=2, coef0=1.0).fit(x)
    f = named.decision_function(queries)
    np.testing.assert_array_equal(given.decision_function(queries), f)
    assert hasattr(given, "gamma_") == (name not in ("linear", "precomputed"))
    assert given._gamma == named._gamma
    assert given.__sklearn_tags__().input_tags.pairwise == (name == "precomputed")


def test_a_kernel_of_two_points_is_no_callable_of_two_sets():
    kernel = ocsvm_jax.rbf(0.3)
    with pytest.raises(ValueError, match=r"returned an array of shape \(\).*partial\(ocsvm_jax"):
        OneClassSVM(kernel=lambda x, y: np.exp(-np.sum((x[0] - y[0]) ** 2))).fit(X)
    # What the message advises.
    combined = functools.partial(gram_of_numpy, lambda x, y: kernel(x, y) + 0.5 * (x @ y))
    K = np.asarray(gram_of_numpy(lambda x, y: kernel(x, y) + 0.5 * (x @ y), X, X))
    advised = OneClassSVM(kernel=combined, nu=0.2).fit(X)
    given = OneClassSVM(kernel="precomputed", nu=0.2).fit(K)
    np.testing.assert_array_equal(advised.decision_function(X), given.decision_function(K))


def gram_of_numpy(kernel, x, y):
    return ocsvm_jax.gram(kernel, jnp.asarray(x), jnp.asarray(y))


def test_a_variance_that_overflows_is_named():
    with pytest.raises(ValueError, match=r"(?s)scale.*variance.*overflows"):
        OneClassSVM().fit(X * 1e155)


def test_masked_values_are_not_dropped():
    masked = np.ma.masked_greater(X, 1.5)
    with pytest.raises(ValueError, match=r"X is a masked array with \d+ masked values.*filled"):
        OneClassSVM().fit(masked)
    model = OneClassSVM().fit(np.ma.array(X))  # nothing is masked
    with pytest.raises(ValueError, match="X is a masked array"):
        model.predict(masked)


def test_points_that_are_no_numbers():
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1, 2, 3]})
    with pytest.raises(ValueError, match="NaN"):
        OneClassSVM().fit(frame)
    with pytest.raises(ValueError, match="Complex data not supported"):
        OneClassSVM().fit(X + 1j)


@pytest.mark.parametrize("precomputed", [True, False])
def test_a_matrix_of_distances_is_warned_of(precomputed):
    model = OneClassSVM(kernel="precomputed" if precomputed else euclidean_distances)
    with pytest.warns(UserWarning, match=r"not positive semi-definite: its diagonal is zero.*exp"):
        model.fit(euclidean_distances(X) if precomputed else X)


def test_negative_weights_in_scikit_learns_words():
    for w in (np.zeros(90), np.full(90, -0.3)):
        with pytest.raises(ValueError, match="all samples have zero or negative weights"):
            OneClassSVM().fit(X, sample_weight=w)
    with pytest.raises(ValueError, match=r"^sample_weight holds 1 negative values"):
        OneClassSVM().fit(X, sample_weight=np.append(np.ones(89), -1))


@pytest.mark.parametrize("kernel", ["rbf", "linear", "laplacian", "poly"])
def test_attributes_of_a_sparse_fit_are_sparse(kernel):
    x = np.where(X > 0, X, 0)
    model = OneClassSVM(kernel=kernel, nu=0.2).fit(sparse.csr_array(x))
    dense = OneClassSVM(kernel=kernel, nu=0.2).fit(x)
    for name in ["support_vectors_", "dual_coef_"] + ["coef_"] * (kernel == "linear"):
        assert sparse.issparse(getattr(model, name))
        np.testing.assert_allclose(getattr(model, name).toarray(), getattr(dense, name), rtol=1e-12)


@pytest.mark.parametrize(
    "kernel, n",
    [
        ("rbf", 60),
        ("linear", 60),
        ("laplacian", 60),
        ("poly", 60),
        pytest.param("rbf", 1100, marks=pytest.mark.slow),
    ],
)
def test_sparse_points_of_many_dimensions(kernel, n):
    """Words, say: to the values of dense points, and never all of them in memory."""
    d = 9000
    x = sparse.random_array((n, d), density=2e-3, rng=np.random.default_rng(1), format="csr")
    x.data += 1000  # distances by products would lose what decides
    queries = sparse.vstack([x[:20], x[:20] * 1.001]).tocsr()
    parameters = dict(kernel=kernel, nu=0.2, gamma=1e-7, tol=1e-9)
    dense = OneClassSVM(**parameters).fit(x.toarray())
    f = dense.decision_function(queries.toarray())
    tracemalloc.start()
    model = OneClassSVM(**parameters).fit(x)
    atol = 1e-10 * np.max(np.abs(dense.score_samples(queries.toarray())))
    np.testing.assert_allclose(model.decision_function(queries), f, rtol=0, atol=atol)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 60 or peak < n * d * 8
    np.testing.assert_allclose(model.decision_function(queries.toarray()), f, rtol=0, atol=atol)
    np.testing.assert_allclose(dense.decision_function(queries), f, rtol=0, atol=atol)


def test_sparse_queries_are_never_all_dense():
    d = 20_000
    x = sparse.random_array((6000, d), density=1e-3, rng=np.random.default_rng(1), format="csr")
    model = OneClassSVM(nu=0.2).fit(x[:200])
    tracemalloc.start()
    model.predict(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6000 * d * 8 / 10


def test_a_fit_keeps_its_kernel_whatever_is_set_or_fitted_next():
    model = OneClassSVM(kernel=rbf_kernel, nu=0.2).fit(X)
    model.set_params(kernel="rbf", gamma=0.3).fit(X)
    expected = OneClassSVM(gamma=0.3, nu=0.2).fit(X).decision_function(QUERIES)
    np.testing.assert_array_equal(model.decision_function(QUERIES), expected)
    np.testing.assert_allclose(model.to_sklearn().decision_function(QUERIES), expected, atol=1e-12)
    model.set_params(gamma=5.0, nu=0.9)
    np.testing.assert_array_equal(model.decision_function(QUERIES), expected)


@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear"])
def test_a_pickle_of_version_0_1_0(kernel):
    """It held the kernel as an object, and no number for gamma."""
    model = OneClassSVM(kernel=kernel, nu=0.2).fit(X)
    state = model.__getstate__()
    old = {k: v for k, v in state.items() if k not in ("_fitted_kernel", "gamma_")}
    loaded = OneClassSVM.__new__(OneClassSVM)
    loaded.__setstate__(old | {"_kernel": model._kernel})
    f = model.decision_function(QUERIES)
    np.testing.assert_array_equal(loaded.decision_function(QUERIES), f)
    assert loaded._gamma == model._gamma
    assert OneClassSVM.__module__ == "ocsvm_jax.sklearn"


class TestCalibration:
    @pytest.mark.parametrize("confidence", [None, 0.9])
    def test_false_alarms_are_as_few_as_asked(self, confidence):
        rng = np.random.default_rng(5)
        model = OneClassSVM(nu=0.2).fit(rng.normal(size=(100, 3)))
        before = np.mean(model.predict(rng.normal(size=(5000, 3))) == -1)
        rates = []
        for _ in range(60):
            model.calibrate(rng.normal(size=(99, 3)), 0.1, confidence)
            rates.append(np.mean(model.predict(rng.normal(size=(500, 3))) == -1))
        assert before > 0.15  # nu is no promise
        if confidence is None:
            assert abs(np.mean(rates) - 0.1) < 4 * 0.03 / np.sqrt(60)
        else:
            assert np.mean(np.asarray(rates) > 0.1) < 0.1 + 0.13

    def test_values_that_many_points_share_are_not_flagged_by_rounding(self):
        """At most .4 was asked; the threshold is a value that much of the data has (F4)."""
        rng = np.random.default_rng(0)

        def draw(n):
            return (rng.random((n, 6)) < 0.93).astype(float)

        for gamma in np.arange(0.1, 0.22, 0.01):
            model = OneClassSVM(nu=0.1, gamma=gamma).fit(draw(200)).calibrate(draw(399), 0.4)
            new = draw(3000)
            flagged = model.predict(new) == -1
            assert np.mean(flagged) < 0.45
            np.testing.assert_array_equal(flagged, model.p_values(new) <= 0.4)
            alone = np.concatenate([model.predict(x[None]) for x in new[:50]])
            np.testing.assert_array_equal(alone == -1, flagged[:50])

    def test_what_follows_and_what_stays(self):
        model = OneClassSVM(nu=0.2).fit(X)
        scores, offset = model.score_samples(QUERIES), model.offset_
        assert model.calibrate(QUERIES, 0.1) is model
        np.testing.assert_array_equal(model.offset_fit_, offset)
        np.testing.assert_array_equal(model.intercept_, -model.offset_)
        np.testing.assert_array_equal(model.score_samples(QUERIES), scores)
        np.testing.assert_array_equal(model.decision_function(QUERIES), scores - model.offset_)
        model.calibrate(QUERIES, 0.3)
        np.testing.assert_array_equal(model.offset_fit_, offset)
        model.fit(X)
        np.testing.assert_array_equal(model.offset_, offset)
        assert not hasattr(model, "offset_fit_")
        with pytest.raises(AttributeError, match="not calibrated; call calibrate"):
            model.p_values(X)

    def test_too_few_points(self):
        with pytest.raises(ValueError, match="takes at least 99"):
            OneClassSVM().fit(X).calibrate(X[:20], 0.01)
