import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.tree_util import Partial

from ocsvm_jax.export import _CENTRES, export_scoring, save_exported
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import (
    Precomputed,
    gram,
    laplacian,
    linear,
    polynomial,
    rbf,
    scaled,
    sigmoid,
)
from ocsvm_jax.model import OCSVM

DIMENSION = 3
SIZES = (1, 7, 1500)  # above 1,024 rows the model takes its queries in tiles


def points(n, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(n, DIMENSION)).astype(np.float32), dtype)


def own_kernel(a, b):
    return 1 / (1 + jnp.sum((a - b) ** 2))


KERNELS = {
    "rbf": rbf(0.5),
    "laplacian": laplacian(0.5),
    "linear": linear(),
    "polynomial": polynomial(3, 0.3, 1),
    "sigmoid": sigmoid(0.1, -0.2),
    "scaled": scaled(rbf(0.5), jnp.array([0.5, 1.0, 2.0])),
    "of one's own": Partial(own_kernel),
}


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def model_of(kernel, support_vectors, dtype=np.float64):
    """As a fit would leave it, without its time."""
    m = len(support_vectors)
    weights = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(m)), dtype)
    return OCSVM(support_vectors, weights, jnp.asarray(0.2, dtype), kernel)


def deserialized(model, **options):
    return jax.export.deserialize(export_scoring(model, **options).serialize())


def check(scoring, model, x, atol):
    """One artefact against the model, at a threshold that half of the rows fall below."""
    expected = model.decision_function(x)
    threshold = jnp.median(expected)
    out = scoring.call(x, threshold)
    assert set(out) == {"f", "flagged"}
    assert out["f"].dtype == x.dtype
    np.testing.assert_allclose(out["f"], expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(out["flagged"], out["f"] < threshold)
    return out


@pytest.mark.parametrize("name", KERNELS)
def test_is_the_decision_function(name):
    model = model_of(KERNELS[name], points(20))
    scoring = deserialized(model, platforms=("cpu",))
    check(scoring, model, points(SIZES[-1], seed=1), 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_number_of_rows_and_support_vectors(dtype):
    """More support vectors than one tile holds, the last tile a short one."""
    model = model_of(rbf(0.5), points(2 * _CENTRES + 5, dtype=dtype), dtype)
    scoring = deserialized(model, platforms=("cpu",))
    for size in SIZES:
        check(scoring, model, points(size, 1, dtype), 1e-12 if dtype == np.float64 else 1e-6)


def test_precomputed():
    K = gram(rbf(0.5), points(SIZES[-1], seed=1), points(50))
    model = model_of(Precomputed(50), jnp.arange(50, step=3)[:, None])
    scoring = deserialized(model, platforms=("cpu",))
    for size in SIZES:
        check(scoring, model, K[:size], 1e-12)


@pytest.fixture(scope="module")
def fitted():
    return ocsvm_fit(points(50), 0.3, rbf(0.5))


def test_the_threshold_is_an_input(fitted):
    scoring, x = deserialized(fitted), points(7, seed=1)
    f = np.asarray(scoring.call(x, jnp.asarray(0.0))["f"])
    for threshold in (-np.inf, *np.sort(f), np.inf):
        out = scoring.call(x, jnp.asarray(threshold))
        np.testing.assert_array_equal(out["flagged"], f < threshold)


def test_what_can_not_be_scored_is_flagged(fitted):
    x = points(7, seed=1).at[2, 1].set(np.nan)
    out = deserialized(fitted).call(x, jnp.asarray(-np.inf))
    assert np.flatnonzero(np.isnan(out["f"])).tolist() == [2]
    assert np.flatnonzero(out["flagged"]).tolist() == [2]


def test_platforms_and_shapes_are_recorded(fitted):
    assert deserialized(fitted).platforms == ("cpu", "cuda", "tpu")
    scoring = deserialized(fitted, platforms=["cuda", "rocm"])
    assert scoring.platforms == ("cuda", "rocm")
    x, threshold = scoring.in_avals
    assert jax.export.is_symbolic_dim(x.shape[0])
    assert (x.shape[1], threshold.shape, x.dtype) == (DIMENSION, (), np.float64)
    with pytest.raises(ValueError, match="cpu"):
        scoring.call(points(2), jnp.asarray(0.0))


READER = """
import sys
import numpy as np
import jax
from jax import export

with open("scoring.jax", "rb") as file:
    scoring = export.deserialize(file.read())
inputs, outputs = np.load("inputs.npz"), {}
for name in inputs:
    out = jax.jit(scoring.call)(inputs[name], np.zeros((), inputs[name].dtype))
    outputs |= {f"f{name}": out["f"], f"flagged{name}": out["flagged"]}
np.savez("outputs.npz", **outputs)
assert "ocsvm_jax" not in sys.modules
"""


def test_read_without_this_package(fitted, tmp_path):
    save_exported(export_scoring(fitted), tmp_path / "scoring.jax")
    inputs = {str(size): points(size, seed=1) for size in SIZES}
    np.savez(tmp_path / "inputs.npz", **inputs)
    reader = f"import jax; jax.config.update('jax_enable_x64', True)\n{READER}"
    subprocess.run([sys.executable, "-I", "-c", reader], cwd=tmp_path, check=True)
    with np.load(tmp_path / "outputs.npz") as outputs:
        for name, x in inputs.items():
            expected = fitted.decision_function(x)
            np.testing.assert_allclose(outputs[f"f{name}"], expected, rtol=0, atol=1e-12)
            np.testing.assert_array_equal(outputs[f"flagged{name}"], expected < 0)


WITHOUT_FLATBUFFERS = """
import sys
sys.modules["flatbuffers"] = None  # as if it were not installed
import jax, jax.numpy as jnp
import jax.export
from ocsvm_jax.export import save_exported
exported = jax.export.export(jax.jit(jnp.sin))(jnp.ones(2))
try:
    save_exported(exported, sys.argv[1])
except ImportError as error:
    print(error)
"""


def test_without_flatbuffers(tmp_path):
    path = tmp_path / "scoring.jax"
    path.write_text("an older file")
    command = [sys.executable, "-c", WITHOUT_FLATBUFFERS, str(path)]
    message = subprocess.check_output(command, text=True)
    assert "pip install 'ocsvm_jax[export]'" in message
    assert path.read_text() == "an older file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("platforms", ["cpu", (), ("cpu", "gpu")])
@pytest.mark.usefixtures("as_a_user_calls")
def test_unknown_platforms(fitted, platforms):
    with pytest.raises(ValueError, match=r"platforms is .*'cuda', 'rocm'"):
        export_scoring(fitted, platforms=platforms)


def test_a_stack_of_models(fitted):
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fitted)
    with pytest.raises(ValueError, match=r"rho has shape \(2,\): this is a stack of models"):
        export_scoring(stack)
