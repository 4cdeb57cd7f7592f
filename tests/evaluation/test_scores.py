import zipfile
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.evaluation import scores as scoring
from ocsvm_jax.experiments.images import results
from ocsvm_jax.methods import Method
from ocsvm_jax.methods.base import Score
from ocsvm_jax.solver import Status
from ocsvm_jax.training.loop import to_unit

BLOCK = scoring._BLOCK
FAR = jnp.float32(2**25)


def brightness_method(nan=False):
    """Latents and scores that NumPy can compute: mean brightness of the upper and lower half."""

    def encode(state, images):
        halves = jnp.stack(
            [jnp.mean(images[:, :14], (1, 2, 3)), jnp.mean(images[:, 14:], (1, 2, 3))], 1
        )
        return halves * jnp.nan if nan else halves * state

    def score(state, images):
        z = encode(state, images)
        return {"sum": Score(jnp.sum(z, axis=1), jnp.float32(0)), "far": Score(z[:, 0], FAR)}

    return Method(None, None, score, encode, None, None)


METHOD, STATE = brightness_method(), jnp.float32(2)


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28, 1)).astype(np.uint8)


def latents(some):
    halves = np.stack([some[:, :14].mean((1, 2, 3)), some[:, 14:].mean((1, 2, 3))], 1)
    return 2 * halves / 255


def settings(**changes):
    return SimpleNamespace(**{"nu": 0.1, "gamma": 0.5, "standardize": True} | changes)


@pytest.fixture(scope="module")
def fitted():
    return scoring.fit_final(METHOD, STATE, images(120), settings())


def test_far_images_are_still_ranked(fitted):
    """In float32, rho minus a kernel sum of 1e-9 is rho: the ranking would be lost."""
    narrow = scoring.fit_final(METHOD, STATE, images(120), settings(gamma=30.0, standardize=False))
    levels = np.arange(180, 230, dtype=np.uint8)
    far = np.broadcast_to(levels[:, None, None, None], (50, 28, 28, 1)).copy()
    scores = scoring.score_images(METHOD, STATE, narrow, far)["ocsvm"]
    assert len(set(scores.astype(np.float32))) < 50
    assert np.all(np.diff(scores) >= 0) and len(set(scores)) > len(set(scores.astype(np.float32)))
    assert fitted.rho > 0


@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 3])
def test_blocks(fitted, n):
    some = images(n, seed=1)
    z = scoring.encode_images(METHOD, STATE, some)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, latents(some), rtol=1e-5)
    scores = scoring.score_images(METHOD, STATE, fitted, some)
    assert set(scores) == {"sum", "far", "ocsvm"}
    np.testing.assert_allclose(scores["sum"], latents(some).sum(1), rtol=1e-5)
    assert scores["ocsvm"].shape == (n,)


def test_the_parts_of_a_score_are_added_in_float64():
    """In float32 the offset would leave one value for all."""
    some = images(20, seed=1)
    scores = scoring.own_scores(lambda x: METHOD.score(STATE, to_unit(x)), some)
    assert set(scores) == {"sum", "far"}
    assert all(values.dtype == np.float64 for values in scores.values())
    np.testing.assert_allclose(scores["far"] - 2**25, latents(some)[:, 0], rtol=1e-5)
    assert len(set((latents(some)[:, 0] + 2**25).astype(np.float32))) == 1


def test_ocsvm_score_is_minus_the_decision_function(fitted):
    """By NumPy from the stored numbers; padding to a round number of vectors changes nothing."""
    z = scoring.encode_images(METHOD, STATE, images(60, seed=1))
    scale = np.asarray(fitted.kernel.scale, np.float64)
    gaps = z[:, None] / scale - np.asarray(fitted.support_vectors, np.float64)[None] / scale
    K = np.exp(-0.5 * np.sum(gaps**2, axis=2))
    expected = float(fitted.rho) - K @ np.asarray(fitted.coefficients, np.float64)
    scores = scoring.ocsvm_score(fitted, z)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    padded = scoring._rounded_up(fitted)
    assert len(padded.coefficients) % scoring._ROUND == 0
    np.testing.assert_array_equal(
        padded.coefficients[: len(fitted.coefficients)], fitted.coefficients
    )


def test_a_score_does_not_depend_on_the_other_images(fitted):
    some = images(BLOCK + 20, seed=1)
    whole = scoring.score_images(METHOD, STATE, fitted, some)
    alone = scoring.score_images(METHOD, STATE, fitted, some[BLOCK : BLOCK + 3])
    for name, values in alone.items():
        np.testing.assert_array_equal(values, whole[name][BLOCK : BLOCK + 3])


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("gamma", ["scale", 0.5])
def test_final_one_class_svm(standardize, gamma):
    some = images(120)
    model = scoring.fit_final(METHOD, STATE, some, settings(standardize=standardize, gamma=gamma))
    z = scoring.encode_images(METHOD, STATE, some)
    scale = z.std(axis=0) + 1e-6 if standardize else np.ones(2)
    number = 1 / (2 * np.var(z / scale)) if gamma == "scale" else gamma
    kernel = model.kernel.kernel if standardize else model.kernel
    np.testing.assert_allclose(kernel.gamma, number, rtol=1e-4)
    assert model.info.status in (Status.CONVERGED, Status.STALLED)
    share_outside = np.mean(np.asarray(model.decision_function(jnp.asarray(z))) < -1e-5)
    assert share_outside <= 0.1
    words = results.describe_fit(model, 120)
    assert words.startswith(f"{len(model.coefficients)} support vectors of 120 latents, ")


def test_latents_that_are_not_finite():
    with pytest.raises(ValueError, match="training has diverged"):
        scoring.fit_final(brightness_method(nan=True), STATE, images(120), settings())
    for broken in (np.nan, np.inf):
        z = latents(images(20)).astype(np.float32)
        z[3, 1] = broken
        with pytest.raises(ValueError, match="training has diverged"):
            scoring.fit_latents(z, settings())


def read(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    return scoring.read_images(tmp_path / "x.npy")


def test_read_images(tmp_path):
    some = images(5)
    np.testing.assert_array_equal(read(tmp_path, some), some)
    np.testing.assert_array_equal(read(tmp_path, some[..., 0]), some)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(read(tmp_path, (some / 255).astype(dtype)), some)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((3, 28, 27), np.uint8),
            r"holds shape \(3, 28, 27, 1\); images are \(n, 28, 28\)",
        ),
        (np.zeros((28, 28), np.uint8), r"holds shape \(28, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), "with n >= 1"),
        (np.zeros((), np.uint8), r"holds shape \(\)"),
        (np.zeros((2, 28, 28, 3)), r"holds shape \(2, 28, 28, 3\)"),
        (np.zeros((2, 28, 28), np.int64), r"holds int64; images are uint8 0..255 or float in"),
        (np.full((2, 28, 28), np.nan), "holds floats from nan to nan"),
        (np.full((2, 28, 28), 200.0), "from 200.0 to 200.0; .* Divide by 255"),
        (np.full((2, 28, 28), -0.1), "they must lie in"),
        (np.full((2, 28, 28), "x"), "holds <U1"),
        (np.array([{}], dtype=object), "allow_pickle=False"),
    ],
)
def test_read_images_refuses(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, array)


def test_read_images_from_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        scoring.read_images(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", images(2))
    with pytest.raises(ValueError, match="archive of several arrays"):
        scoring.read_images(tmp_path / "x.npz")
    content = (tmp_path / "x.npz").read_bytes()
    for name, damaged in (("half", content[:300]), ("empty", b""), ("text", b"hello")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"no \.npy array that can be read"):
            scoring.read_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"no \.npy array that can be read"):
        scoring.read_images(tmp_path)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match="archive of several arrays"):
        scoring.read_images(tmp_path / "zip")
