"""Other projects with this package's OneClassSVM inside: their tests, files and converters."""

import importlib.util
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.svm
from sklearn.metrics.pairwise import rbf_kernel

import ocsvm_jax
from ocsvm_jax.sklearn import SVDD, OneClassSVM

TESTS = Path(__file__).parent
RNG = np.random.default_rng(0)
X, QUERIES = 2 + RNG.normal(size=(90, 3)), 2 + 2 * RNG.normal(size=(200, 3))


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


# All that name OneClassSVM in scikit-learn's test_svm.py and test_sparse.py, but none that it
# shares with the classifiers alone: test_oneclass*, test_sparse_oneclasssvm, and the cases for it
# of the negative weights, of coef_ and of the number of support vectors and iterations. Nothing
# is left out. Elsewhere in scikit-learn, SGDOneClassSVM is compared with OneClassSVM at a tolerance
# that fits LIBSVM's own error (linear_model/tests/test_sgd.py); that is not run.
THEIRS = ("sklearn.svm.tests.test_svm", "sklearn.svm.tests.test_sparse")
NAMED = "OneClassSVM or oneclass or immutable_coef or n_iter_libsvm"


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(sklearn.svm.__file__).parent / "tests").is_dir(), reason="scikit-learn has no tests"
)
def test_scikit_learns_own_tests(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "support.ours_inside",
        "-p",
        "no:cacheprovider",
    ]
    options = ["-p", "no:xdist", "--rootdir", str(tmp_path), "-k", NAMED, "--pyargs", *THEIRS]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"}
    done = subprocess.run(
        command + options,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) >= 80  # 84 in scikit-learn 1.9.1


@needs("pyod")
@pytest.mark.filterwarnings("ignore")
def test_pyods_detector(monkeypatch):
    """What PyOD's test_ocsvm.py asks of its wrapper (its wheel has no tests), ours inside."""
    from pyod.models import ocsvm
    from pyod.utils.data import generate_data

    x, queries, _, truth = generate_data(
        n_train=200, n_test=100, contamination=0.1, random_state=42
    )
    reference = ocsvm.OCSVM(tol=1e-10).fit(x)
    monkeypatch.setattr(ocsvm, "OneClassSVM", OneClassSVM)
    detector = ocsvm.OCSVM().fit(x)
    assert isinstance(detector.detector_, OneClassSVM)
    for name in ("support_", "support_vectors_", "dual_coef_", "intercept_", "threshold_"):
        assert hasattr(detector, name), name
    scores = detector.decision_function(queries)
    np.testing.assert_allclose(scores, reference.decision_function(queries), rtol=0, atol=1e-6)
    np.testing.assert_allclose(detector.decision_scores_, reference.decision_scores_, atol=1e-6)
    np.testing.assert_array_equal(detector.predict(queries), reference.predict(queries))
    np.testing.assert_array_equal(detector.labels_, reference.labels_)
    assert np.mean((scores > np.median(scores)) >= truth) > 0.9
    probability = detector.predict_proba(queries, method="unify")
    assert np.all((probability >= 0) & (probability <= 1))
    assert len(detector.predict_with_rejection(queries)) == 100


KERNELS = {
    "linear": {"kernel": "linear"},
    "poly": {"kernel": "poly", "degree": 2, "coef0": 0.5},
    "rbf": {},
    "sigmoid": {"kernel": "sigmoid", "coef0": 0.1},
    "laplacian": {"kernel": "laplacian"},
    "object": {"kernel": ocsvm_jax.rbf(0.3)},
    "callable": {"kernel": lambda a, b: rbf_kernel(a, b, gamma=0.2)},
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sparse_points", [False, True], ids=["dense", "sparse"])
def test_to_sklearn(kernel, sparse_points):
    from scipy import sparse

    made = sparse.csr_array if sparse_points and kernel != "callable" else np.asarray
    model = OneClassSVM(nu=0.1, **KERNELS[kernel]).fit(made(X), sample_weight=1 + X[:, 0] % 1)
    theirs = model.to_sklearn()
    assert type(theirs) is sklearn.svm.OneClassSVM
    scores = model.score_samples(QUERIES)
    atol = 1e-12 * np.max(np.abs(scores))
    np.testing.assert_allclose(theirs.score_samples(made(QUERIES)), scores, rtol=0, atol=atol)
    np.testing.assert_array_equal(theirs.predict(made(QUERIES)), model.predict(QUERIES))
    np.testing.assert_array_equal(theirs.predict(made(X)), model.predict(X))
    for name in ("n_support_", "offset_", "intercept_", "fit_status_"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(model, name))


def test_to_sklearn_of_a_kernel_matrix():
    K, k = rbf_kernel(X, gamma=0.3), rbf_kernel(QUERIES, X, gamma=0.3)
    model = OneClassSVM(nu=0.1, kernel="precomputed").fit(K)
    theirs = model.to_sklearn()
    np.testing.assert_allclose(theirs.score_samples(k), model.score_samples(k), rtol=1e-12)
    np.testing.assert_array_equal(theirs.predict(k), model.predict(k))


def test_to_sklearn_takes_the_calibrated_offset_and_the_names_of_columns():
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = OneClassSVM(nu=0.1).fit(frame).calibrate(pd.DataFrame(QUERIES, columns=frame.columns))
    theirs = model.to_sklearn()
    np.testing.assert_array_equal(theirs.offset_, model.offset_)
    np.testing.assert_array_equal(theirs.predict(frame), model.predict(frame))
    assert list(theirs.feature_names_in_) == ["a", "b", "c"]


def test_to_sklearn_of_a_kernel_it_has_not():
    model = OneClassSVM(kernel=ocsvm_jax.scaled(ocsvm_jax.rbf(0.3), jnp.ones(3))).fit(X)
    with pytest.raises(ValueError, match="divide X by the scale"):
        model.to_sklearn()


@needs("skl2onnx", "onnxruntime")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
def test_onnx(kernel):
    import onnxruntime
    from skl2onnx import to_onnx

    model = OneClassSVM(nu=0.1, **KERNELS[kernel]).fit(X)
    queries = QUERIES.astype(np.float32)
    graph = to_onnx(model.to_sklearn(), queries[:1])
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    labels, scores = session.run(None, {"X": queries})
    f = model.decision_function(queries)
    np.testing.assert_allclose(np.ravel(scores), f, rtol=0, atol=1e-4 * np.max(np.abs(f)))
    clear = np.abs(f) > 1e-3
    np.testing.assert_array_equal(np.ravel(labels)[clear], model.predict(queries)[clear])


@needs("skops")
@pytest.mark.parametrize("estimator", [OneClassSVM, SVDD])
@pytest.mark.parametrize("kernel", ["rbf", "poly", "laplacian"])
def test_skops(estimator, kernel):
    """One type to trust: the kernel is kept as numbers."""
    import skops.io

    model = estimator(nu=0.1, kernel=kernel).fit(X)
    stored = skops.io.dumps(model)
    name = f"ocsvm_jax.sklearn.{estimator.__name__}"
    assert skops.io.get_untrusted_types(data=stored) == [name]
    loaded = skops.io.loads(stored, trusted=[name])
    np.testing.assert_array_equal(
        loaded.decision_function(QUERIES), model.decision_function(QUERIES)
    )


@needs("mlflow", "skops")
@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path):
    mlflow_sklearn = pytest.importorskip("mlflow.sklearn")
    model = OneClassSVM(nu=0.1).fit(X)
    trusted = ["ocsvm_jax.sklearn.OneClassSVM"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow_sklearn.save_model(model, str(tmp_path / "model"), skops_trusted_types=trusted)
        loaded = mlflow_sklearn.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(
        loaded.decision_function(QUERIES), model.decision_function(QUERIES)
    )
