import json
import pickle
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from sklearn.svm import OneClassSVM

from ocsvm_jax import kernel_sums, kernels, model_file
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import Scaled, gram, laplacian, linear, polynomial, rbf, scaled, sigmoid
from ocsvm_jax.model import OCSVM
from ocsvm_jax.solver import Status

DENSE, LARGE = 100, 1100  # one size on each side of the limit: every size is a compilation
DIMENSION = 3
BLOCK = 2 * kernel_sums._POINTS  # up to here, all queries at once


def points(n, seed=0, dtype=np.float64):
    """A crescent, so that the boundary is no ellipse."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    x = np.stack([np.cos(angle), np.sin(angle), 0.3 * angle], 1) + 0.1 * rng.normal(size=(n, 3))
    # Numbers that float32 holds exactly: the two dtypes see the same problem.
    return jnp.asarray(x.astype(np.float32), dtype)


QUERIES = 2 * points(100, seed=1) - 0.3


@pytest.fixture
def without_type_checks(monkeypatch):
    """Outside of this suite nobody checks annotations, and the code's own messages are shown."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def libsvm_decision(x, queries, nu, gamma, sample_weight=None, tol=1e-10):
    w = np.ones(len(x)) if sample_weight is None else sample_weight
    # LIBSVM counts points of weight 0 wrongly: it never sees them.
    used = w > 0
    reference = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu, tol=tol)
    reference.fit(x[used], sample_weight=w[used])
    return reference.decision_function(queries) / (nu * np.sum(w))


@pytest.mark.parametrize("n", [DENSE, LARGE])
@pytest.mark.parametrize("nu", [0.5, 0.03])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_decision_values_are_those_of_libsvm(n, nu, weighted):
    x = points(n)
    w = jnp.asarray(np.random.default_rng(2).integers(0, 3, n) * 1.0) if weighted else None
    fitted = ocsvm_fit(x, nu, rbf(1.5), sample_weight=w, tol=1e-10)
    assert fitted.info.status == Status.CONVERGED
    assert fitted.info.gap <= 1e-10
    assert np.all(fitted.coefficients > 0)
    assert np.sum(fitted.coefficients) == pytest.approx(1, abs=1e-13)
    # LIBSVM keeps K in float32: its own error is some 1e-8.
    expected = libsvm_decision(x, QUERIES, nu, 1.5, w)
    np.testing.assert_allclose(fitted.decision_function(QUERIES), expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [DENSE, LARGE])
def test_default_tolerance(n, dtype):
    nu, x = 0.1, points(n, dtype=dtype)
    fitted = ocsvm_fit(x, nu, rbf(1.5))
    assert fitted.info.status == Status.CONVERGED
    assert fitted.info.gap <= 1e-3 / (nu * n)
    assert fitted.support_vectors.dtype == fitted.rho.dtype == fitted.coefficients.dtype == dtype
    expected = libsvm_decision(x.astype(float), QUERIES, nu, 1.5)
    f = fitted.decision_function(QUERIES.astype(dtype))
    assert f.dtype == dtype
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-3 / (nu * n))


def test_default_kernel_is_scikit_learns():
    x = points(DENSE)
    fitted = ocsvm_fit(x, 0.1, tol=1e-10)
    expected = libsvm_decision(x, QUERIES, 0.1, "scale")
    np.testing.assert_allclose(fitted.decision_function(QUERIES), expected, rtol=0, atol=2e-7)


def test_scaled_is_the_kernel_of_scaled_points():
    x, scale = points(DENSE), np.array([2.0, 0.5, 7.0])
    fitted = ocsvm_fit(x, 0.1, scaled(rbf(1.5), jnp.asarray(scale)), tol=1e-10)
    expected = libsvm_decision(np.asarray(x) / scale, np.asarray(QUERIES) / scale, 0.1, 1.5)
    np.testing.assert_allclose(fitted.decision_function(QUERIES), expected, rtol=0, atol=2e-7)


def gaussian(a, b):
    return jnp.exp(-1.5 * jnp.sum((a - b) ** 2))


@pytest.mark.parametrize("n", [DENSE, LARGE])
def test_any_callable_is_a_kernel(n, tmp_path):
    x = points(n)
    plain = ocsvm_fit(x, 0.1, gaussian, tol=1e-10)
    known = ocsvm_fit(x, 0.1, rbf(1.5), tol=1e-10)
    f = plain.decision_function(QUERIES)
    np.testing.assert_allclose(f, known.decision_function(QUERIES), rtol=0, atol=1e-9)
    # The model is a pytree all the same: the function is a static part of it.
    jitted = jax.jit(OCSVM.decision_function)(plain, QUERIES)
    np.testing.assert_allclose(jitted, f, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match=r"the kernel is gaussian; only .* can be saved"):
        plain.save(tmp_path / "model.npz")


def test_a_callable_inside_of_a_kernel():
    x = points(DENSE)
    fitted = ocsvm_fit(x, 0.1, Scaled(gaussian, jnp.full(3, 2.0)), tol=1e-10)
    known = ocsvm_fit(x, 0.1, rbf(1.5 / 4), tol=1e-10)
    expected = known.decision_function(QUERIES)
    np.testing.assert_allclose(fitted.decision_function(QUERIES), expected, rtol=0, atol=1e-9)


def test_weights_are_repetitions():
    x = points(DENSE)
    w = np.tile([0.0, 1.0, 3.0, 0.0], DENSE // 4)
    weighted = ocsvm_fit(x, 0.3, rbf(1.5), sample_weight=jnp.asarray(w), tol=1e-11)
    repeated = ocsvm_fit(jnp.repeat(x, w.astype(int), axis=0), 0.3, rbf(1.5), tol=1e-11)
    expected = repeated.decision_function(QUERIES)
    np.testing.assert_allclose(weighted.decision_function(QUERIES), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n", [DENSE, LARGE])
@pytest.mark.parametrize(
    "case",
    [
        "nu = 1",
        "nu below 1 / n",
        "all points identical",
        "every point twice",
        "three points of positive weight",
    ],
)
def test_corner_cases(n, case):
    x, w, nu = np.array(points(n)), np.ones(n), 0.1
    match case:
        case "nu = 1":
            nu = 1.0
        case "nu below 1 / n":
            nu = 1e-6
        case "all points identical":
            x[:] = x[0]
        case "every point twice":
            x[n // 2 :] = x[: n // 2]
        case "three points of positive weight":
            w[3:] = 0
    fitted = ocsvm_fit(jnp.asarray(x), nu, rbf(1.5), sample_weight=jnp.asarray(w))
    assert fitted.info.status == Status.CONVERGED
    assert np.all(np.isfinite(fitted.decision_function(QUERIES)))
    assert np.sum(fitted.coefficients) == pytest.approx(1, abs=1e-13)
    outside = np.asarray(fitted.decision_function(jnp.asarray(x))) < -fitted.info.gap - 1e-12
    assert np.sum(w[outside]) <= nu * np.sum(w) * (1 + 1e-12)
    assert not np.any(w[np.asarray(fitted.info.support)] == 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.zeros(3)}, r"x has shape \(3,\).*\(n, d\) with n >= 1"),
        ({"x": np.zeros((0, 3))}, r"x has shape \(0, 3\)"),
        ({"x": [[0.0], [np.nan]]}, "NaN or infinite values; remove or impute"),
        ({"nu": 0}, r"nu is 0.0; it must lie in \(0, 1\]"),
        ({"nu": 1.5}, r"nu is 1.5; it must lie in \(0, 1\]"),
        ({"nu": np.nan}, "nu is nan"),
        ({"nu": [0.1, 0.2]}, r"nu has shape \(2,\); it is one number"),
        ({"sample_weight": np.ones(3)}, r"sample_weight has shape \(3,\); x has 4 points"),
        ({"sample_weight": np.zeros(4)}, "sample_weight is all zero"),
        ({"sample_weight": np.array([1, -1, 1, 1.0])}, "1 negative values"),
        ({"sample_weight": np.array([1, np.inf, 1, 1.0])}, "NaN or infinite"),
        ({"gamma": "skale"}, "gamma is 'skale'"),
        ({"gamma": -1.0}, "gamma is -1.0; it must be a positive number"),
        ({"tol": 0.0}, "tol is 0.0; it must be positive"),
        ({"tol": np.nan}, "tol is nan; it must be positive"),
        ({"max_steps": 0}, "max_steps is 0; it must be at least 1"),
        ({"kernel": lambda a, b: jnp.sum(a) / 0.0}, "the kernel gives NaN or infinite values"),
        ({"kernel": polynomial(99, 1e30)}, "the kernel gives NaN or infinite values"),
    ],
)
@pytest.mark.usefixtures("without_type_checks")
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ocsvm_fit(**{"x": np.ones((4, 2)), "nu": 0.5} | arguments)


@pytest.mark.usefixtures("without_type_checks")
def test_numpy_lists_half_precision_and_integers():
    x = np.round(10 * points(DENSE)).astype(int)
    fitted = ocsvm_fit(x, 0.1, rbf(0.01))
    assert fitted.rho.dtype == np.float64
    np.testing.assert_array_equal(fitted.rho, ocsvm_fit(x.tolist(), 0.1, rbf(0.01)).rho)
    fitted = ocsvm_fit(x.astype(np.float16), 0.1, rbf(0.01))
    assert fitted.rho.dtype == np.float32


@pytest.fixture(scope="module")
def fitted():
    return ocsvm_fit(points(DENSE), 0.1, tol=1e-10)


def test_decision_function_in_blocks(fitted):
    """A value depends neither on the other rows nor on the padding of the last block."""
    x = 2 * points(BLOCK + 7, seed=3)
    whole = fitted.decision_function(x)
    parts = [fitted.decision_function(x[:7]), fitted.decision_function(x[7:])]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=0, atol=1e-15)
    assert fitted.decision_function(x[:0]).shape == (0,)


def test_decision_function_far_from_the_origin():
    """In float32, expanding the distances without a good centre would cost all digits here."""
    x = points(DENSE, dtype=np.float32)
    near = ocsvm_fit(x, 0.1, rbf(1.5))
    far = ocsvm_fit(x + 1024, 0.1, rbf(1.5))
    queries = jnp.tile(x, (6, 1))[: BLOCK + 3]
    rounded = (queries + 1024) - np.float32(1024)
    f = far.decision_function(queries + 1024)
    np.testing.assert_allclose(f, near.decision_function(rounded), rtol=0, atol=3e-4)


@pytest.mark.parametrize("shape", [(3,), (5, 4), (2, 5, 3)])
@pytest.mark.usefixtures("without_type_checks")
def test_decision_function_refuses_other_shapes(fitted, shape):
    with pytest.raises(ValueError, match=r"fitted on points \(n, 3\)"):
        fitted.decision_function(jnp.zeros(shape))


def test_decision_function_takes_the_dtype_of_the_model():
    fitted = ocsvm_fit(points(DENSE, dtype=np.float32), 0.1, rbf(1.5))
    f = fitted.decision_function(QUERIES)
    assert f.dtype == np.float32
    np.testing.assert_array_equal(f, fitted.decision_function(QUERIES.astype(np.float32)))


def test_model_is_a_pytree(fitted):
    f = fitted.decision_function(QUERIES)
    jitted = jax.jit(OCSVM.decision_function)(fitted, QUERIES)
    np.testing.assert_allclose(jitted, f, rtol=0, atol=1e-14)

    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), fitted)
    both = jax.vmap(OCSVM.decision_function, in_axes=(0, None))(several, QUERIES)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, fitted).decision_function(QUERIES)
    np.testing.assert_allclose(both, [f, doubled], rtol=0, atol=1e-14)

    def total(fitted, x):
        return jnp.sum(fitted.decision_function(x))

    by_model, by_points = jax.grad(total, argnums=(0, 1))(fitted, QUERIES)
    K = gram(fitted.kernel, QUERIES, fitted.support_vectors)
    np.testing.assert_allclose(by_model.rho, -len(QUERIES))
    np.testing.assert_allclose(by_model.coefficients, np.sum(K, axis=0), rtol=1e-12)
    difference = QUERIES[:, None, :] - fitted.support_vectors[None, :, :]
    pull = -2 * fitted.kernel.gamma * np.einsum("qm,m,qmd->qd", K, fitted.coefficients, difference)
    np.testing.assert_allclose(by_points, pull, rtol=0, atol=1e-12)
    squared = np.sum(difference**2, axis=-1)
    by_gamma = -np.einsum("qm,m,qm->", K, fitted.coefficients, squared)
    np.testing.assert_allclose(by_model.kernel.gamma, by_gamma, rtol=1e-10)


KERNELS = {
    "rbf": rbf(0.1),
    "rbf, float32 gamma": rbf(jnp.float32(0.1)),
    "laplacian": laplacian(0.7),
    "linear": linear(),
    "polynomial": polynomial(3, 0.3, 1),
    "sigmoid": sigmoid(0.1, -0.2),
    "scaled": scaled(rbf(1 / 3), jnp.array([0.1, 1 / 3, 7.0])),
    "scaled twice": scaled(scaled(polynomial(2, 1 / 3), jnp.ones(3) / 3), jnp.array([0.1, 2, 3])),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", KERNELS)
def test_round_trip(tmp_path, name, dtype):
    x = points(40, dtype=dtype)
    fitted = OCSVM(x, jnp.full(40, 1 / 40, dtype), jnp.asarray(0.3, dtype), KERNELS[name])
    fitted.save(tmp_path / "model.npz")
    loaded = OCSVM.load(str(tmp_path / "model.npz"))
    assert jax.tree.structure(loaded) == jax.tree.structure(fitted)
    assert type(loaded.kernel) is type(fitted.kernel)
    assert loaded.rho.dtype == dtype
    queries = QUERIES.astype(dtype)
    expected = fitted.decision_function(queries)
    np.testing.assert_array_equal(loaded.decision_function(queries), expected)
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_saved_twice(fitted, tmp_path):
    path = tmp_path / "model.npz"
    path.write_text("an older file")
    fitted.save(path)
    np.testing.assert_array_equal(OCSVM.load(path).coefficients, fitted.coefficients)


def _unknown(a, b):
    return jnp.vdot(a, b)


@pytest.mark.parametrize("kernel", [_unknown, Scaled(_unknown, jnp.ones(3)), partial(_unknown)])
def test_an_unknown_kernel_is_not_saved(fitted, tmp_path, kernel):
    path = tmp_path / "model.npz"
    custom = OCSVM(fitted.support_vectors, fitted.coefficients, fitted.rho, kernel)
    with pytest.raises(ValueError, match=r"only .*'linear'.* can be saved"):
        custom.save(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_nothing_behind(fitted, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    fitted.save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def _arrays(fitted, path):
    fitted.save(path)
    with np.load(path) as file:
        return dict(file)


def _header(**changes):
    header = {"format": "ocsvm_jax.OCSVM/1", "kernel": {"name": "linear", "parameters": {}}}
    return np.frombuffer(json.dumps(header | changes).encode(), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": None}, "header"),
        ({"rho": None}, "rho"),
        ({"header": np.zeros(3)}, "not a model saved by OCSVM.save"),
        ({"header": _header(format="ocsvm_jax.OCSVM/9")}, "format is 'ocsvm_jax.OCSVM/9'"),
        ({"header": _header(kernel={"name": "rbff", "parameters": {}})}, "rbff"),
        ({"header": _header(kernel={"name": "rbf", "parameters": {}})}, "gamma"),
        ({"header": _header(kernel={"name": "rbf", "parameters": {"gamma": "1"}})}, "gamma"),
        ({"header": _header(kernel={"name": "rbf", "parameters": {"gamma": [1, 2]}})}, "gamma"),
        ({"coefficients": np.ones(3)}, "do not fit together"),
        ({"rho": np.ones(1)}, "do not fit together"),
        ({"support_vectors": np.ones(4)}, "do not fit together"),
        ({"rho": np.array("1.0")}, "hold"),
        ({"rho": np.array(1.0, np.float32)}, "hold"),
    ],
)
def test_damaged_content(fitted, tmp_path, changes, message):
    path = tmp_path / "model.npz"
    arrays = _arrays(fitted, path) | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message) as caught:
        OCSVM.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_file(fitted, tmp_path, share):
    path = tmp_path / "model.npz"
    fitted.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"not a model saved by OCSVM\.save"):
        OCSVM.load(path)


def test_flipped_bit(fitted, tmp_path):
    path = tmp_path / "model.npz"
    fitted.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(np.asarray(fitted.coefficients).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a model saved by OCSVM\.save"):
        OCSVM.load(path)


def test_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        OCSVM.load(tmp_path / "model.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.save(tmp_path / "other.npy", np.ones(3))
    (tmp_path / "other.txt").write_text("no model")
    for name in ("other.npz", "other.npy", "other.txt"):
        with pytest.raises(ValueError, match=r"not a model saved by OCSVM\.save"):
            OCSVM.load(tmp_path / name)


class _Evil:
    """Unpickling one creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["header", "support_vectors", "coefficients", "rho"])
def test_a_pickled_object_is_never_executed(fitted, tmp_path, name):
    trap = tmp_path / "executed"
    path = tmp_path / "model.npz"
    evil = np.array(_Evil(trap), dtype=object)
    np.savez(path, **_arrays(fitted, path) | {name: evil})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        OCSVM.load(path)
    path.write_bytes(pickle.dumps(_Evil(trap)))
    with pytest.raises(ValueError, match="not a model"):
        OCSVM.load(path)
    assert not trap.exists()
    # The trap works: with pickle allowed it goes off.
    pickle.loads(pickle.dumps(_Evil(trap)))
    assert trap.exists()


def test_every_kernel_of_the_package_can_be_saved():
    classes = {type(kernel) for kernel in KERNELS.values()}
    assert classes | {kernels.Precomputed} == set(model_file._SAVED_KERNELS.values())
    assert classes == {
        value
        for value in vars(kernels).values()
        if isinstance(value, type)
        and issubclass(value, kernels._OnPairs)
        and value.__name__[0] != "_"
    }


def test_no_kernel_is_taken_for_another():
    """`jit` looks programs up by the structure of their arguments.

    With `jax.tree_util.register_dataclass`, the structures of two classes compare equal under
    jax 0.10, and a model now and then ran the program of another kernel.
    """
    several = [*KERNELS.values(), kernels.precomputed(), sigmoid(0.7, 0.1), polynomial(2, 0.3, 1)]
    for a in several:
        for b in several:
            alike = type(a) is type(b) and jax.tree.structure(a) == jax.tree.structure(b)
            assert (jax.tree.structure(a) == jax.tree.structure(b)) == alike
    assert jax.tree.structure(rbf(0.1)) == jax.tree.structure(rbf(0.2))
    assert jax.tree.structure(polynomial(2)) != jax.tree.structure(polynomial(3))
