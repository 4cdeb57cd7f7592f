"""Files of detectors, and detectors on networks of one's own."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from ocsvm_jax import rbf
from ocsvm_jax.detectors import AE, VAE, OgAE, TurnedOgAE
from ocsvm_jax.fit import ocsvm_fit

ROOT = Path(__file__).resolve().parents[2]
TINY = {"epochs": 2, "batch_size": 8}


class Half(nn.Module):
    """One layer, from any shape to any shape."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, x, train):
        size = int(np.prod(self.shape))
        x = nn.Dense(size, param_dtype=jnp.float32)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, param_dtype=jnp.float32)(x)
        return x.reshape(len(x), *self.shape)


class HalfOfNNX(nnx.Module):
    def __init__(self, size, features, rngs):
        self.dense = nnx.Linear(size, features, rngs=rngs, param_dtype=jnp.float32)

    def __call__(self, x):
        return nnx.gelu(self.dense(x))


def init(key, x):
    return jax.random.normal(key, (x.shape[1], 5 if x.shape[1] == 2 else 2), jnp.float32)


def product(weights, x):
    return x @ weights


OWN = {
    "linen": lambda: (Half((2,)), Half((5,))),
    "nnx": lambda: (HalfOfNNX(5, 2, nnx.Rngs(0)), HalfOfNNX(2, 5, nnx.Rngs(1))),
    "functions": lambda: ((init, product), (init, product)),
}


@pytest.mark.parametrize("cls", [AE, OgAE])
@pytest.mark.parametrize("form", OWN)
def test_own_networks(cls, form, vectors, tmp_path):
    x, q = vectors
    detector = cls(**TINY, network=OWN[form](), latent_dim=2).fit(x)
    scores = detector.score_samples(q)
    assert detector.latents(q).shape == (1, 6, 2)
    np.testing.assert_array_equal(cls(**detector.get_params()).fit(x).score_samples(q), scores)
    path = tmp_path / "detector.npz"
    detector.save(path)
    loaded = cls.load(path, network=OWN[form]())
    np.testing.assert_array_equal(loaded.score_samples(q), scores)
    if form != "nnx":  # training left the modules alone, but they have no order to compare by
        copy = pickle.loads(pickle.dumps(detector))
        np.testing.assert_array_equal(copy.score_samples(q), scores)
    with pytest.raises(ValueError, match=r"a network of your own, but not its code: .*network=\("):
        cls.load(path)


def test_an_own_network_of_images(images):
    detector = AE(**TINY, network=(Half((3,)), Half((9, 7, 1))), latent_dim=3).fit(images)
    assert detector.score_samples(images).shape == (24,)


def test_an_own_network_of_other_weights(vectors, tmp_path):
    x, _ = vectors
    AE(**TINY, network=(Half((2,)), Half((5,)))).fit(x).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"weights float32 \(2, 5\) where the network has .*3, 5"):
        AE.load(tmp_path / "a.npz", network=(Half((3,)), Half((5,))))
    with pytest.raises(ValueError, match="arrays of weights, and the network has"):
        AE.load(tmp_path / "a.npz", network=OWN["functions"]())


def test_a_calibrated_detector_of_several_models(vectors, tmp_path):
    x, q = vectors
    detector = OgAE(**TINY, n_models=2, betas=(0.5, 0.5), seed=3).fit(x[:40]).calibrate(x[40:], 0.1)
    detector.save(tmp_path / "a.npz")
    loaded = OgAE.load(tmp_path / "a.npz")
    for name in ("score_samples", "predict", "p_values", "latents"):
        np.testing.assert_array_equal(getattr(loaded, name)(q), getattr(detector, name)(q))
    for name in ("offset_", "offset_fit_", "history_", "n_features_in_", "latent_dim_"):
        assert getattr(loaded, name) == getattr(detector, name)
    assert loaded.get_params() == detector.get_params()


def test_names_of_columns(vectors, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(vectors[0], columns=list("abcde"))
    AE(**TINY).fit(frame).save(tmp_path / "a.npz")
    loaded = AE.load(tmp_path / "a.npz")
    assert list(loaded.feature_names_in_) == list("abcde")
    loaded.predict(frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(frame[list("bacde")])


OTHER_PROCESS = """
import sys, numpy as np
from ocsvm_jax.detectors import OgAE
detector, q = OgAE.load(sys.argv[1]), np.load(sys.argv[2])
np.save(sys.argv[3], detector.score_samples(q))
"""


def test_the_same_bits_in_another_process(vectors, tmp_path):
    x, q = vectors
    detector = OgAE(**TINY).fit(x)
    paths = [str(tmp_path / name) for name in ("a.npz", "q.npy", "scores.npy")]
    detector.save(paths[0])
    np.save(paths[1], q)
    command = [sys.executable, "-c", OTHER_PROCESS, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = detector.score_samples(q)
    # The other process compiles with XLA's optimisations and without float64.
    np.testing.assert_allclose(np.load(paths[2]), expected, rtol=0, atol=1e-5)


@pytest.fixture
def saved(vectors, tmp_path):
    AE(**TINY).fit(vectors[0]).save(tmp_path / "a.npz")
    return tmp_path / "a.npz"


def test_other_classes(saved):
    with pytest.raises(ValueError, match=r"of the method 'ae'; VAE.load reads 'vae'"):
        VAE.load(saved)
    with pytest.raises(ValueError, match="has a default network; leave network out"):
        AE.load(saved, network=OWN["functions"]())


def test_foreign_and_damaged_files(saved, tmp_path, vectors):
    content = saved.read_bytes()
    for damaged in (b"", b"text", content[:200], content[: len(content) // 2]):
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.npz is not a detector saved by AE\.save: \w+"):
            AE.load(saved)
    np.savez(saved, x=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz is not a detector saved by AE\.save: KeyError"):
        AE.load(saved)
    ocsvm_fit(vectors[0], 0.1, rbf(1.0)).save(saved)
    with pytest.raises(ValueError, match=r"has the format 'ocsvm_jax.OCSVM/\d'; .*OCSVM.load"):
        AE.load(saved)
    with pytest.raises(FileNotFoundError):
        AE.load(tmp_path / "none.npz")


def test_another_format_or_missing_arrays(saved):
    arrays = dict(np.load(saved))
    header = json.loads(arrays["header"].tobytes())
    older = json.dumps(header | {"format": "ocsvm_jax.Detector/0"}).encode()
    np.savez(saved, **arrays | {"header": np.frombuffer(older, np.uint8)})
    with pytest.raises(ValueError, match=r"has the format 'ocsvm_jax.Detector/0'; .*: fit again"):
        AE.load(saved)
    del arrays["0/state/0"]
    np.savez(saved, **arrays)
    with pytest.raises(ValueError, match="does not fit together"):
        AE.load(saved)


def test_a_folder_that_does_not_exist(vectors, tmp_path):
    with pytest.raises(FileNotFoundError, match="make it first"):
        AE(**TINY).fit(vectors[0]).save(tmp_path / "none" / "a.npz")


def test_scores_of_turned_images(images, tmp_path):
    detector = TurnedOgAE(**TINY).fit(images)
    found = detector.scores(images)
    assert {"contrast", "contrast+error", "ocsvm", "last_m", "reconstruction"} <= found.keys()
    detector.save(tmp_path / "a.npz")
    loaded = TurnedOgAE.load(tmp_path / "a.npz").scores(images)
    assert loaded.keys() == found.keys()
    for name, scores in found.items():
        np.testing.assert_array_equal(loaded[name], scores)
