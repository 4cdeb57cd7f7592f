"""Children forked after JAX has run: they score in NumPy, and refuse to fit; none hangs."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax import gram, ocsvm_fit, ocsvm_solve, rbf
from ocsvm_jax.localized import fit_locations
from ocsvm_jax.path import choose_model
from ocsvm_jax.sklearn import SVDD, OneClassSVM

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
    # JAX's warning that such a child may hang.
    pytest.mark.filterwarnings("ignore:os.fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]
SECONDS = 60
RNG = np.random.default_rng(0)
X, QUERIES = RNG.normal(size=(100, 4)), RNG.normal(size=(300, 4))


def _answer(connection, function, arguments):
    try:
        connection.send(function(*arguments))
    except Exception as error:
        connection.send(error)


def in_a_forked_child(function, *arguments):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_answer, args=(theirs, function, arguments))
    child.start()
    try:
        assert ours.poll(SECONDS), "the child hangs"
        answer = ours.recv()
    finally:
        child.kill()
        child.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize("kernel", ["rbf", "laplacian", "poly", "linear"])
@pytest.mark.parametrize("estimator", [OneClassSVM, SVDD])
def test_scores_of_a_child(estimator, kernel):
    model = estimator(nu=0.1, kernel=kernel).fit(X)
    f = model.decision_function(QUERIES)
    found = in_a_forked_child(model.decision_function, QUERIES)
    np.testing.assert_allclose(found, f, rtol=0, atol=1e-12 * np.max(np.abs(f)))
    np.testing.assert_array_equal(in_a_forked_child(model.predict, X), model.predict(X))


def test_scores_of_a_child_where_its_parent_scores_in_jax():
    x, queries = RNG.normal(size=(1000, 4)), RNG.normal(size=(8000, 4))
    model = OneClassSVM(nu=0.5).fit(x)
    f = model.decision_function(queries)
    found = in_a_forked_child(model.decision_function, queries)
    assert np.any(found != f)  # by another way
    np.testing.assert_allclose(found, f, rtol=0, atol=1e-12 * np.max(np.abs(f)))


def test_a_pool_of_forked_processes():
    model = OneClassSVM(nu=0.1).fit(X)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map_async(model.decision_function, np.split(QUERIES, 3)).get(SECONDS)
    np.testing.assert_allclose(np.concatenate(parts), model.decision_function(QUERIES), rtol=1e-12)


def test_a_calibrated_model_in_a_child():
    model = OneClassSVM(nu=0.1).fit(X).calibrate(QUERIES[:150], 0.1)
    p = in_a_forked_child(model.p_values, QUERIES)
    np.testing.assert_array_equal(p, model.p_values(QUERIES))
    again = in_a_forked_child(calibrated_offset, model)
    np.testing.assert_array_equal(again, model.offset_)


def calibrated_offset(model):
    return model.calibrate(QUERIES[:150], 0.1).offset_


def test_a_child_refuses_what_would_hang_it():
    model = OneClassSVM(kernel=Constant()).fit(X)
    with pytest.raises(RuntimeError, match=r"OneClassSVM\.fit runs JAX.*spawn.*joblib"):
        in_a_forked_child(model.fit, X)
    with pytest.raises(RuntimeError, match="Scoring with this kernel runs JAX"):
        in_a_forked_child(model.predict, X)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda model: ocsvm_fit(X, 0.1), "ocsvm_fit"),
        (lambda model: model.decision_function(QUERIES), "OCSVM"),
        (lambda model: model.calibrate(QUERIES), "OCSVM"),
        (lambda model: gram(rbf(0.1), X), "ocsvm_jax"),
        (lambda model: ocsvm_solve(np.eye(5), 0.5), "ocsvm_jax"),
        (lambda model: choose_model(X), "choose_model"),
        (lambda model: fit_locations(X[None], nu=0.5, gamma=1.0), "fit_locations"),
    ],
    ids=["fit", "scores", "calibrate", "gram", "solve", "choose", "locations"],
)
def test_functions_of_jax_refuse_at_once(function, name):
    model = ocsvm_fit(X, 0.1)
    with pytest.raises(RuntimeError, match=f"{name} runs JAX, which hangs.*spawn"):
        in_a_forked_child(function, model)


class Constant:
    """A kernel that only JAX knows."""

    def pairwise(self, x, y):
        return jnp.ones((x.shape[0], y.shape[0]), x.dtype)

    def __call__(self, x, y):
        return jnp.ones((), x.dtype)


BEFORE_JAX = """
import multiprocessing
import numpy as np
from ocsvm_jax.sklearn import OneClassSVM

def work(connection):
    connection.send(OneClassSVM().fit(np.eye(5)).offset_)

context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
child = context.Process(target=work, args=(theirs,))
child.start()
assert ours.poll(120) and np.isfinite(ours.recv())
child.kill()
"""


def test_a_child_forked_before_jax_has_run_may_fit():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", BEFORE_JAX], env=environment, check=True, timeout=180)
