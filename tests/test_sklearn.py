import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import joblib
import matplotlib
import numpy as np
import pytest
import sklearn.svm
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ocsvm_jax.sklearn.solving as module
from ocsvm_jax.sklearn import OneClassSVM

N, LARGE = 90, 1100  # one size on each side of the limit of the dense solve
ROOT = Path(module.__file__).parents[2]


def points(n, seed=0):
    """Away from the origin, where a linear one-class SVM has a solution; exact in float32."""
    rng = np.random.default_rng(seed)
    return (1 + 0.4 * rng.normal(size=(n, 4))).astype(np.float32).astype(float)


X, QUERIES = points(N), points(40, seed=1)
WEIGHTS = np.random.default_rng(2).integers(1, 4, N) * 1.0

checks = parametrize_with_checks([OneClassSVM()])


# As a list: the generator of scikit-learn 1.6 is more than the newest pytest takes.
@pytest.mark.parametrize(checks.args[0], list(checks.args[1]), **checks.kwargs)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def alpha_of(model, n):
    alpha = np.zeros(n)
    alpha[model.support_] = model.dual_coef_[0]
    return alpha


KERNELS = {
    "linear": {},
    "poly": {"degree": 2, "coef0": 0.5},
    "rbf": {},
    "sigmoid": {"coef0": 0.1},
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("nu", [0.05, 0.52])
@pytest.mark.parametrize("w", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_solution_is_that_of_libsvm(kernel, nu, w, dtype):
    parameters = dict(kernel=kernel, nu=nu, gamma=0.2) | KERNELS[kernel]
    model = OneClassSVM(**parameters).fit(X.astype(dtype), sample_weight=w)
    reference = sklearn.svm.OneClassSVM(**parameters, tol=1e-10).fit(X, sample_weight=w)
    # LIBSVM keeps K in float32, which moves alpha by some 1e-6.
    np.testing.assert_allclose(alpha_of(model, N), alpha_of(reference, N), rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.offset_, reference.offset_, rtol=1e-6)
    f, expected = (m.decision_function(QUERIES.astype(dtype)) for m in (model, reference))
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-6 * model.offset_[0])
    np.testing.assert_array_equal(model.predict(QUERIES), reference.predict(QUERIES))
    assert model.fit_status_ == 0


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.7])
def test_gamma(gamma):
    model = OneClassSVM(gamma=gamma, nu=0.2).fit(X)
    reference = sklearn.svm.OneClassSVM(gamma=gamma, nu=0.2, tol=1e-10).fit(X)
    expected = reference.decision_function(QUERIES)
    np.testing.assert_allclose(model.decision_function(QUERIES), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_many_points(weighted):
    x = points(LARGE)
    w = np.random.default_rng(3).integers(1, 4, LARGE) * 1.0 if weighted else None
    model = OneClassSVM(gamma=0.5, nu=0.1, tol=1e-7).fit(x, sample_weight=w)
    reference = sklearn.svm.OneClassSVM(gamma=0.5, nu=0.1, tol=1e-10).fit(x, sample_weight=w)
    np.testing.assert_allclose(model.offset_, reference.offset_, rtol=1e-6)
    expected = reference.decision_function(QUERIES)
    atol = 1e-6 * model.offset_[0]
    np.testing.assert_allclose(model.decision_function(QUERIES), expected, rtol=0, atol=atol)


def test_kernel_matrices_and_callables():
    model = OneClassSVM(gamma=0.5, nu=0.1).fit(X)
    expected = model.decision_function(QUERIES)
    given = OneClassSVM(kernel="precomputed", nu=0.1).fit(rbf_kernel(X, gamma=0.5))
    called = OneClassSVM(kernel=half_rbf, nu=0.1).fit(X)
    f = given.decision_function(rbf_kernel(QUERIES, X, gamma=0.5))
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(called.decision_function(QUERIES), f)
    np.testing.assert_array_equal(given.support_, model.support_)
    assert given.support_vectors_.shape == called.support_vectors_.shape == (0, 0)
    assert given.shape_fit_ == (N, N)
    assert called.shape_fit_ == (N, 4)


def half_rbf(a, b):
    assert isinstance(a, np.ndarray)
    assert isinstance(b, np.ndarray)
    return rbf_kernel(a, b, gamma=0.5)


def test_laplacian_by_name():
    model = OneClassSVM(kernel="laplacian", gamma=0.3, nu=0.2).fit(X)
    reference = sklearn.svm.OneClassSVM(kernel="precomputed", nu=0.2, tol=1e-10)
    reference.fit(laplacian_kernel(X, gamma=0.3))
    expected = reference.decision_function(laplacian_kernel(QUERIES, X, gamma=0.3))
    np.testing.assert_allclose(model.decision_function(QUERIES), expected, rtol=0, atol=1e-6)


def test_a_callable_may_take_what_is_no_matrix():
    words = ["A A", "A", "B", "B B", "A B"]

    def common(a, b):
        return [[u.count("A") * v.count("A") + u.count("B") * v.count("B") for v in b] for u in a]

    counts = np.array([[2, 0], [1, 0], [0, 1], [0, 2], [1, 1]])
    by_words = OneClassSVM(kernel=common).fit(words)
    by_counts = OneClassSVM(kernel="linear").fit(counts)
    f = by_counts.decision_function(counts)
    np.testing.assert_allclose(by_words.decision_function(words), f, rtol=0, atol=1e-12)


def test_example_of_scikit_learns_documentation():
    x = [[0], [0.44], [0.45], [0.46], [1]]
    model = OneClassSVM(gamma="auto").fit(x)
    np.testing.assert_array_equal(model.predict(x), [-1, 1, 1, 1, -1])
    scores = [1.7798, 2.0547, 2.0556, 2.0561, 1.7332]
    np.testing.assert_allclose(model.score_samples(x), scores, rtol=0, atol=1e-4)


def test_novelties_lie_outside():
    rng = np.random.default_rng(4)
    centres = np.array([[2.0, 2.0], [-2.0, -2.0]])
    train = (0.3 * rng.normal(size=(100, 1, 2)) + centres).reshape(-1, 2)
    regular = (0.3 * rng.normal(size=(20, 1, 2)) + centres).reshape(-1, 2)
    novel = rng.uniform(-4, 4, size=(20, 2))
    model = OneClassSVM(nu=0.1, gamma=0.1).fit(train)
    assert np.mean(model.predict(regular) == 1) > 0.8
    assert np.mean(model.predict(novel) == -1) > 0.8
    f = model.decision_function(novel)
    np.testing.assert_array_equal(model.predict(novel), np.where(f > 0, 1, -1))
    np.testing.assert_allclose(f, model.score_samples(novel) - model.offset_, rtol=0, atol=1e-14)


def test_attributes():
    model = OneClassSVM(kernel="linear", nu=0.2)
    assert not hasattr(model, "n_support_")
    assert not hasattr(model, "coef_")
    with pytest.raises(NotFittedError):
        model.predict(X)
    model.fit(X, sample_weight=WEIGHTS)
    m = len(model.support_)
    assert model.support_.dtype == model.n_support_.dtype == np.int32
    assert model.n_support_.tolist() == [m]
    np.testing.assert_array_equal(model.support_vectors_, X[model.support_])
    assert model.dual_coef_.shape == (1, m)
    assert np.all(model.dual_coef_ > 0)
    assert np.all(model.dual_coef_ <= WEIGHTS[model.support_] * (1 + 1e-14))
    assert np.sum(model.dual_coef_) == pytest.approx(0.2 * np.sum(WEIGHTS), rel=1e-13)
    assert model.offset_.shape == (1,)
    np.testing.assert_array_equal(model.intercept_, -model.offset_)
    assert type(model.n_iter_) is int
    assert model.shape_fit_ == (N, 4)
    assert model.n_features_in_ == 4
    assert model.predict(X).dtype == np.intp


def test_coef_belongs_to_the_linear_kernel_and_is_read_only():
    model = OneClassSVM(kernel="linear").fit(X)
    f = QUERIES @ model.coef_[0] + model.intercept_
    np.testing.assert_allclose(f, model.decision_function(QUERIES), rtol=0, atol=1e-12)
    with pytest.raises(AttributeError):
        model.coef_ = np.zeros(4)
    with pytest.raises(ValueError, match="read-only"):
        model.coef_[0, 0] = 0
    with pytest.raises(AttributeError, match="linear kernel"):
        _ = OneClassSVM().fit(X).coef_


@pytest.mark.parametrize("n", [N, 256, 257, LARGE])
def test_weights_are_repetitions(n):
    x = points(n)
    w = np.tile([0.0, 1.0, 3.0, 0.0], -(-n // 4))[:n]
    weighted = OneClassSVM(nu=0.3, tol=1e-9).fit(x, sample_weight=w)
    repeated = OneClassSVM(nu=0.3, tol=1e-9).fit(np.repeat(x, w.astype(int), axis=0))
    atol = 1e-8 * weighted.offset_[0]
    expected = repeated.decision_function(QUERIES)
    np.testing.assert_allclose(weighted.decision_function(QUERIES), expected, rtol=0, atol=atol)
    # No row that fills the problem up is a support vector, and none of weight 0.
    assert np.all(w[weighted.support_] > 0)
    assert np.sum(repeated.dual_coef_) == pytest.approx(0.3 * np.sum(w), rel=1e-13)


@pytest.mark.parametrize("nu", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_points_on_the_boundary_are_inside(kernel, nu):
    """Whatever the other rows of a call are; so that never more than nu n points are outside."""
    model = OneClassSVM(kernel=kernel, nu=nu).fit(X)
    inside = model.predict(X)
    assert np.sum(inside == -1) <= nu * N
    alone = np.concatenate([model.predict(x[None]) for x in X])
    np.testing.assert_array_equal(alone, inside)
    backwards = model.predict(np.tile(X[::-1], (5, 1)))[-N:][::-1]
    np.testing.assert_array_equal(backwards, inside)
    np.testing.assert_array_equal(model.fit_predict(X), inside)


def test_nu_of_one_takes_every_point_whole():
    model = OneClassSVM(nu=1.0, gamma=0.5).fit(X, sample_weight=WEIGHTS)
    np.testing.assert_allclose(alpha_of(model, N), WEIGHTS, rtol=1e-13)
    expected = rbf_kernel(QUERIES, X, gamma=0.5) @ WEIGHTS
    np.testing.assert_allclose(model.score_samples(QUERIES), expected, rtol=1e-12)


def test_fits_of_other_sizes_compile_no_solver(monkeypatch):
    """Compiling takes seconds, and cross-validation fits to every size there is."""
    traced = []
    solve = module.ocsvm_solve
    monkeypatch.setattr(module, "ocsvm_solve", lambda *a, **k: traced.append(1) or solve(*a, **k))
    OneClassSVM().fit(X)
    del traced[:]
    for n, kernel in [(1, "rbf"), (17, "poly"), (N, "linear"), (200, "laplacian"), (256, "rbf")]:
        OneClassSVM(kernel=kernel, nu=n / 300, tol=1e-3 / n).fit(points(n)[:, : 1 + n % 4])
    assert not traced


OTHER_PROCESS = """
import pickle, sys
import jax, jax.numpy as jnp, numpy as np
from ocsvm_jax.sklearn import OneClassSVM
assert not jax.config.jax_enable_x64
model, x, queries, expected = pickle.load(sys.stdin.buffer)
fitted = OneClassSVM(**model.get_params()).fit(x)
f = [m.decision_function(queries) for m in (model, fitted)]
assert all(values.dtype == np.float64 for values in f)
np.testing.assert_allclose(f, [expected, expected], rtol=0, atol=1e-11)
np.testing.assert_allclose(fitted.dual_coef_, model.dual_coef_, rtol=0, atol=1e-9)
assert not jax.config.jax_enable_x64
assert jnp.ones(2).dtype == jnp.float32
"""


def test_float64_in_a_process_that_has_not_enabled_it():
    model = OneClassSVM(nu=0.1).fit(X)
    load = pickle.dumps((model, X, QUERIES, model.decision_function(QUERIES)))
    # The command line of CI or a user may have set the switch.
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    command = [sys.executable, "-c", OTHER_PROCESS]
    done = subprocess.run(
        command, input=load, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_float32():
    single, double = (OneClassSVM(nu=0.1, dtype=dtype).fit(X) for dtype in ("float32", None))
    f = single.decision_function(QUERIES)
    assert f.dtype == single.dual_coef_.dtype == np.float64
    expected = double.decision_function(QUERIES)
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-4 * double.offset_[0])
    assert np.any(np.abs(f - expected) > 1e-10)  # it is another arithmetic
    assert jax.config.jax_enable_x64


def test_iterations_used_up():
    x = points(200, seed=5)
    with pytest.warns(ConvergenceWarning, match="OUT_OF_STEPS after 2 iterations.*max_iter"):
        model = OneClassSVM(nu=0.3, gamma=5.0, max_iter=2, tol=1e-9).fit(x)
    assert model.fit_status_ == 1
    assert model.n_iter_ == 2
    assert np.sum(model.dual_coef_) == pytest.approx(0.3 * 200)
    # Early, but within what was asked.
    loose = OneClassSVM(nu=0.3, gamma=5.0, max_iter=2, tol=100.0).fit(x)
    assert loose.fit_status_ == 0
    np.testing.assert_array_equal(loose.support_, model.support_)


def test_verbose(capsys):
    OneClassSVM(verbose=True).fit(X)
    assert "[OneClassSVM] CONVERGED after" in capsys.readouterr().out


def _no_kernel(a, b):
    return a


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "rbff"}, "kernel is 'rbff'; it must be 'linear'"),
        ({"kernel": None}, "kernel is None"),
        ({"gamma": "skale"}, "gamma is 'skale'; it must be 'scale'"),
        ({"gamma": -1.0}, "gamma is -1.0"),
        ({"gamma": 0.0}, "gamma is 0.0; it must be positive"),
        ({"kernel": "poly", "degree": 0}, "degree is 0"),
        ({"kernel": "poly", "degree": 99, "gamma": 1e9}, "the kernel gives NaN or infinite"),
        ({"nu": 0.0}, r"nu is 0.0; it must lie in \(0, 1\]"),
        ({"nu": 1.5}, "nu is 1.5"),
        ({"tol": 0.0}, "tol is 0.0; it must be positive"),
        ({"max_iter": 0}, "max_iter is 0; it must be positive, or -1"),
        ({"dtype": "float16"}, "dtype is 'float16'; it must be None, 'float64' or 'float32'"),
        ({"kernel": "precomputed"}, r"the kernel matrix has shape \(90, 4\); it must be square"),
        ({"kernel": _no_kernel}, r"the kernel matrix has shape \(90, 4\); it must be square"),
    ],
    # Not the repr of a function, which is another one in every process.
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),
)
def test_parameters_that_can_not_work(parameters, message):
    with pytest.raises(ValueError, match=message):
        OneClassSVM(**parameters).fit(X)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(N), "sample_weight is all zero: no point takes part"),
        (np.full(N, -0.3), "sample_weight holds 90 negative values"),
        (np.ones(N - 1), r"sample_weight has shape \(89,\); X has 90 rows"),
        (np.full(N, np.nan), "sample_weight holds NaN"),
    ],
)
def test_weights_that_can_not_work(weights, message):
    with pytest.raises(ValueError, match=message):
        OneClassSVM().fit(X, sample_weight=weights)


@pytest.mark.parametrize("kernel", ["precomputed", lambda a, b: np.ones((len(a), len(b)))])
def test_a_kernel_matrix_of_other_points(kernel):
    model = OneClassSVM(kernel=kernel).fit(X @ X.T)
    message = "features" if kernel == "precomputed" else r"it must be \(q, 90\)"
    if callable(kernel):
        model._X_fit = model._X_fit[1:]
    with pytest.raises(ValueError, match=message):
        model.decision_function(X @ X[1:].T)


@pytest.mark.parametrize("kernel", ["rbf", "linear", "precomputed"])
def test_sparse_input(kernel):
    x = np.where(X > 1, X, 0)
    x = x @ x.T if kernel == "precomputed" else x
    dense = OneClassSVM(kernel=kernel, nu=0.2).fit(x)
    loose = OneClassSVM(kernel=kernel, nu=0.2).fit(sparse.coo_array(x))
    alpha = loose.dual_coef_ if kernel == "precomputed" else loose.dual_coef_.toarray()
    np.testing.assert_array_equal(alpha, dense.dual_coef_)
    f = dense.decision_function(x)
    for model in (dense, loose):
        for given in (sparse.csr_matrix(x), sparse.csc_array(x), x):
            np.testing.assert_array_equal(model.decision_function(given), f)


def test_pickle_joblib_and_clone(tmp_path):
    model = OneClassSVM(kernel=half_rbf, nu=0.2).fit(X)
    joblib.dump(model, tmp_path / "model.joblib")
    f = model.decision_function(QUERIES)
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(copy.decision_function(QUERIES), f)
    assert clone(model).get_params() == model.get_params()
    assert not hasattr(clone(model), "dual_coef_")


def test_pipeline_and_grid_search():
    anomalies = np.random.default_rng(6).uniform(-2, 4, size=(20, 4))
    x, inlier = np.concatenate([X, anomalies]), np.repeat([1, 0], [N, 20])

    def auroc(model, x, y):
        return roc_auc_score(y, model.decision_function(x))

    grid = {"oneclasssvm__nu": [0.1, 0.9], "oneclasssvm__gamma": ["scale", 1e4]}
    pipeline = make_pipeline(StandardScaler(), OneClassSVM())
    search = GridSearchCV(pipeline, grid, scoring=auroc, cv=StratifiedKFold(3)).fit(x, inlier)
    # So narrow a kernel knows the points it was fitted to and no others.
    assert search.best_params_["oneclasssvm__gamma"] == "scale"
    assert search.best_score_ > 0.95
    np.testing.assert_array_equal(search.predict(x), search.best_estimator_.predict(x))


def test_cross_validation_cuts_a_precomputed_kernel_on_both_sides():
    by_points = cross_val_predict(OneClassSVM(gamma=0.5, nu=0.2), X, cv=3)
    K = rbf_kernel(X, gamma=0.5)
    by_kernel = cross_val_predict(OneClassSVM(kernel="precomputed", nu=0.2), K, cv=3)
    np.testing.assert_array_equal(by_kernel, by_points)


def test_decision_boundary_display():
    matplotlib.use("Agg")
    model = OneClassSVM(nu=0.2).fit(X[:, :2])
    display = DecisionBoundaryDisplay.from_estimator(
        model, X[:, :2], response_method="decision_function", grid_resolution=9
    )
    grid = np.stack([display.xx0.ravel(), display.xx1.ravel()], axis=1)
    f = model.decision_function(grid)
    np.testing.assert_allclose(display.response.ravel(), f, rtol=0, atol=1e-13)
    matplotlib.pyplot.close(display.figure_)


def test_fits_in_threads():
    def fit(nu):
        return OneClassSVM(nu=nu).fit(X).dual_coef_

    nus = [0.1, 0.2, 0.3, 0.4]
    with ThreadPoolExecutor(4) as pool:
        for found, nu in zip(pool.map(fit, nus), nus, strict=True):
            np.testing.assert_array_equal(found, fit(nu))
