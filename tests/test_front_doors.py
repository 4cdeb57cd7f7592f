"""What people pass by mistake: one clear message each, before any tracing; and what is printed."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ocsvm_jax import (
    OCSVM,
    ConvergenceWarning,
    decision_function,
    gram,
    laplacian,
    linear,
    ocsvm_fit,
    ocsvm_solve,
    polynomial,
    precomputed,
    rbf,
)
from ocsvm_jax.arrays.arguments import as_float, as_numbers
from ocsvm_jax.kernels import RBF

N = 60
X = np.random.default_rng(0).normal(size=(N, 2))
K = np.exp(-0.5 * np.sum((X[:, None] - X[None]) ** 2, axis=-1))


@pytest.fixture(autouse=True)
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def model():
    return ocsvm_fit(X, 0.1, rbf(0.5))


@pytest.fixture(scope="module")
def solution():
    return ocsvm_solve(jnp.asarray(K), 0.1)


def outer(a, b):
    return a[:, None] * b[None, :]


NO_KERNELS = {
    "text": ("rbf", r"kernel is the text 'rbf'; .*: rbf\(gamma\)"),
    "scikit-learn's name": ("poly", r"polynomial\(\)"),
    "unknown text": ("cosine", "one of rbf, laplacian, linear"),
    "number": (0.5, r"kernel is 0.5; .*gamma=0.5"),
    "matrix": (K, r"kernel is an array of shape \(60, 60\)"),
    "uncalled rbf": (rbf, r"kernel is rbf itself, .* call it, rbf\(\.\.\.\)"),
    "uncalled linear": (linear, r"call it, linear"),
    "uncalled polynomial": (polynomial, r"call it, polynomial"),
    "uncalled laplacian": (laplacian, r"call it, laplacian"),
    "class": (RBF, r"call it, RBF"),
    "dictionary": ({"gamma": 1}, "kernel is of type dict; it must be a function of two points"),
}


@pytest.mark.parametrize("name", NO_KERNELS)
def test_what_is_no_kernel(name):
    kernel, message = NO_KERNELS[name]
    with pytest.raises(TypeError, match=message):
        ocsvm_fit(X, 0.1, kernel)
    with pytest.raises(TypeError, match=message):
        gram(kernel, X)


@pytest.mark.parametrize("n", [N, 1030])  # on both sides of the dense solver
def test_a_kernel_that_returns_a_matrix(n):
    with pytest.raises(ValueError, match=r"maps two points of shape \(2,\) to float64\[2,2\]"):
        ocsvm_fit(np.resize(X, (n, 2)), 0.1, outer)


WRONG_ORDER = {
    "fit, kernel first": (lambda: ocsvm_fit(rbf(0.5), X), "x is of type RBF.*order"),
    "fit, no nu": (lambda: ocsvm_fit(X, rbf(0.5)), "nu is of type RBF; .* one number"),
    "gram": (lambda: gram(X, rbf(0.5)), r"kernel is an array of shape \(60, 2\)"),
    "solve, a kernel": (lambda: ocsvm_solve(rbf(0.5), 0.1), "K is of type RBF.*order"),
}


@pytest.mark.parametrize("name", WRONG_ORDER)
def test_the_wrong_order(name):
    call, message = WRONG_ORDER[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_the_decision_function_of_what_is_no_solution(model, solution):
    with pytest.raises(TypeError, match=r"of type OCSVM; .*model\.decision_function\(x\)"):
        decision_function(model, X)
    with pytest.raises(TypeError, match="the other way round"):
        decision_function(K, solution)
    with pytest.raises(TypeError, match="what ocsvm_solve returned"):
        decision_function(K, K)


def with_gamma(gamma):
    return lambda a, b: jnp.exp(-gamma * jnp.sum((a - b) ** 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: jax.jit(lambda x: ocsvm_fit(x, 0.1).rho)(X),
        lambda: jax.vmap(lambda x: ocsvm_fit(x, 0.1).rho)(X[None]),
        lambda: jax.grad(lambda x: ocsvm_fit(x, 0.1).rho)(X),
        lambda: jax.grad(lambda nu: ocsvm_fit(X, nu).rho)(0.1),
        lambda: jax.grad(lambda g: ocsvm_fit(X, 0.1, rbf(g)).rho)(0.5),
        lambda: jax.grad(lambda g: ocsvm_fit(X, 0.1, gamma=g).rho)(0.5),
        lambda: jax.grad(lambda g: ocsvm_fit(X, 0.1, with_gamma(g)).rho)(0.5),
    ],
    ids=["jit", "vmap", "grad", "nu", "kernel", "gamma", "closure"],
)
def test_fitting_inside_of_a_transformation(call):
    with pytest.raises(TypeError, match=r"use ocsvm_solve\(gram\(kernel, x\), nu\)"):
        call()


NO_NUMBERS = {
    "sparse matrix": (sparse.csr_matrix(X), TypeError, r"sparse matrix; pass dense .*toarray"),
    "sparse array": (sparse.coo_array(X), TypeError, "sparse"),
    "complex": (X + 1j, TypeError, "complex"),
    "text": ([["a", "b"]], TypeError, "not numbers"),
    "text as objects": (np.array([["1", "2"]], object), TypeError, "text, such as '1'"),
    "a column of text": (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), TypeError, "such as 'x'"),
    "dates": (np.array([["2020-01-01"]], "datetime64[s]"), TypeError, "timedelta64"),
    "objects": (np.array([[object()]], object), TypeError, "not real numbers"),
    "rows of two lengths": ([[1, 2], [3]], ValueError, "cannot be read as an array"),
    "masked": (np.ma.masked_greater(X, 1), ValueError, r"22 masked values; fill them in"),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_holds_no_numbers(name, model, solution):
    value, error, message = NO_NUMBERS[name]
    calls = {
        "x": lambda: ocsvm_fit(value, 0.1),
        "K": lambda: ocsvm_solve(value, 0.1),
        "k_query": lambda: decision_function(solution, value),
    }
    for argument, call in calls.items():
        with pytest.raises(error, match=f"^{argument} .*{message}"):
            call()
    for call in (lambda: model.decision_function(value), lambda: gram(rbf(0.5), value)):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    "x",
    [
        [[1.0, None], [2.0, 3.0]],
        pd.DataFrame({"a": pd.array([1, 2, None], dtype="Int64")}),
        np.array([[1.0], [pd.NaT]], object),
    ],
    ids=["None", "NA", "NaT"],
)
def test_missing_values(x):
    with pytest.raises(ValueError, match="x holds NaN or infinite values; remove or impute"):
        ocsvm_fit(x, 0.5)


def test_what_is_taken_for_numbers():
    frame = pd.DataFrame({"a": pd.array([1, 2, 4], dtype="Int64"), "b": [1.5, 2.5, 4.0]})
    np.testing.assert_array_equal(as_numbers(frame), [[1, 1.5], [2, 2.5], [4, 4]])
    np.testing.assert_array_equal(as_numbers(np.ma.masked_array([1.0, 2.0])), [1, 2])
    assert as_float(np.array([2**40 + 1])) == 2.0**40 + 1  # no int32 on the way
    assert as_float(np.longdouble(0.5)).dtype == np.float64


@pytest.mark.parametrize("nu", ["0.1", True, np.True_, None, 1j, b"1"])
def test_nu_is_a_number(nu):
    for call in (lambda: ocsvm_fit(X, nu), lambda: ocsvm_solve(K, nu)):
        with pytest.raises(TypeError, match=r"nu is .*; it must be one number in \(0, 1\]"):
            call()


@pytest.mark.parametrize("nu", [[0.1], np.array([0.1]), jnp.array([0.1, 0.2])])
def test_nu_is_one_number(nu):
    for call in (lambda: ocsvm_fit(X, nu), lambda: ocsvm_solve(K, nu)):
        with pytest.raises(ValueError, match=r"nu has shape .* Use jax\.vmap for several"):
            call()


LIMITS = [
    ({"max_steps": 2.5}, TypeError, r"max_steps is 2\.5; it must be a whole number"),
    ({"max_steps": "5"}, TypeError, "max_steps is '5'"),
    ({"max_steps": True}, TypeError, "max_steps is True"),
    ({"max_steps": np.nan}, TypeError, "max_steps is nan"),
    ({"max_steps": -1}, ValueError, "max_steps is -1; it must be at least 1"),
    ({"tol": "1e-3"}, TypeError, "tol is '1e-3'; it must be one positive number"),
    ({"tol": True}, TypeError, "tol is True"),
    ({"tol": np.inf}, ValueError, "tol is inf; it must be positive and finite"),
    ({"tol": np.nan}, ValueError, "tol is nan"),
    ({"tol": np.array([1e-3])}, ValueError, r"tol has shape \(1,\)"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), LIMITS)
def test_limits_of_a_solve(arguments, error, message):
    for call in (lambda: ocsvm_fit(X, 0.1, **arguments), lambda: ocsvm_solve(K, 0.1, **arguments)):
        with pytest.raises(error, match=message):
            call()


def test_steps_without_end():
    assert ocsvm_solve(K, 0.1, max_steps=10**10).status == 0
    assert ocsvm_fit(X, 0.1, max_steps=10**10).info.status == 0


def test_a_fit_that_did_not_converge_warns_where_it_was_called():
    with pytest.warns(ConvergenceWarning, match=r"OUT_OF_STEPS after 3 steps, at a gap of") as seen:
        model = ocsvm_fit(X, 0.1, rbf(0.5), max_steps=3)
    assert len(seen) == 1
    assert "Raise max_steps" in str(seen[0].message)
    assert model.info.status == 2


def test_a_folder_that_is_not_there(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist.*model\.npz"):
        model.save(tmp_path / "nowhere" / "model.npz")


def test_what_is_printed_fits_on_two_lines(model, solution):
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), model)
    batch = jax.vmap(lambda nu: ocsvm_solve(jnp.asarray(K), nu))(jnp.array([0.1, 0.2, 0.3]))
    shapes = jax.eval_shape(lambda k: ocsvm_solve(k, 0.1), K)
    by_rows = ocsvm_fit(K, 0.1, precomputed())
    plain = ocsvm_fit(X, 0.1, with_gamma(0.5))
    texts = [
        (model, "12 support vectors of 2 dims, RBF(gamma=0.5), rho=0.1873, CONVERGED"),
        (model.info, "12 support vectors, gap"),
        (solution, "60 points, 12 support vectors, rho=0.1873, gap"),
        (several, "2 models of 12 support vectors of 2 dims, RBF(gamma=float64[2]), rho 0.1873 to"),
        (batch, "batch of 3, 60 points, support vectors 12 to 23, rho 0.1873 to 0.2318, gap"),
        (shapes, "alpha=float64[60], rho=float64[]"),
        (by_rows, "12 support vectors, Precomputed(num_points=60), rho=0.1873, CONVERGED"),
        (plain, "12 support vectors of 2 dims, <lambda>, rho=0.1873, CONVERGED"),
        (jax.tree.map(lambda leaf: None, model), "OCSVM("),
    ]
    for value, expected in texts:
        assert expected in repr(value)
        assert len(repr(value)) <= 160
    assert repr(batch).endswith("3 CONVERGED)")


def test_traced_leaves_are_printed_by_shape(model, solution):
    seen = []

    @jax.jit
    def look(model, solution):
        seen.extend([repr(model), repr(solution)])
        return model.rho

    look(model, solution)
    assert "RBF(gamma=float64[]), rho=float64[]" in seen[0]
    assert "status=int32[]" in seen[1]
    gone = jnp.asarray(0.5)
    gone.delete()
    assert "rho=float64[]" in repr(solution._replace(rho=gone))


def test_predict():
    """Free support vectors lie on the boundary, and no rounding puts them outside."""
    solution = ocsvm_solve(jnp.asarray(K), 0.3)
    f = K @ np.asarray(solution.alpha) - float(solution.rho)
    expected = np.where(f >= -1e-9, 1, -1)
    assert 0 < np.sum(expected < 0) < N * 0.3
    model = ocsvm_fit(X, 0.3, rbf(0.5))
    np.testing.assert_array_equal(model.predict(X), expected)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float32), model)
    np.testing.assert_array_equal(jax.jit(OCSVM.predict)(single, X.astype(np.float32)), expected)
