"""Training of the patch autoencoder: what a step sees, what it minimises, and how it goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles import guidance
from scipy.special import erf
from support.tiny_brains import SETTINGS, cohort, dense_by_numpy, method

from ocsvm_jax.experiments.brain import training
from ocsvm_jax.experiments.brain.methods import PATCH_METHODS, centre_weights, patch_method
from ocsvm_jax.networks.pair import Network, from_flax
from ocsvm_jax.networks.patch import PatchDecoder, PatchEncoder
from ocsvm_jax.training.epoch import kept_state

TRAIN, HELD_OUT = cohort("train", 9), cohort("valid", 3)
PER_STEP, STEPS = 4, 12


@pytest.fixture(scope="module")
def feed():
    return training.feed_of(TRAIN.images, TRAIN.masks, HELD_OUT.images, HELD_OUT.masks)


def train(feed, name, workdir, **changes):
    workdir.mkdir(exist_ok=True)
    arguments = {
        "seed": 3,
        "epochs": 4,
        "steps": STEPS,
        "locations": PER_STEP,
        "patience": 0,
        "checkpoint_every": 1,
    }
    return training.train(method(name), feed, workdir=workdir, **arguments | changes)


@pytest.fixture(scope="module")
def runs(feed, tmp_path_factory):
    """Four epochs of each method in one go: run and history."""
    workdir = tmp_path_factory.mktemp("runs")
    return {name: train(feed, name, workdir / name) for name in PATCH_METHODS}


def without_timings(history):
    return [{k: v for k, v in e.items() if k not in ("seconds", "patches_per_s")} for e in history]


def same_bits(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# What a step sees


def patches_by_numpy(images, location):
    z, x, y = location
    return np.pad(images, ((0, 0), (0, 0), (7, 7), (7, 7)))[:, z, x : x + 15, y : y + 15]


def subjects_of(patches, images, location):
    """Whose patches these are, by their values."""
    known = {patch.tobytes(): i for i, patch in enumerate(patches_by_numpy(images, location))}
    return [known[np.asarray(patch).tobytes()] for patch in patches[..., 0]]


def test_locations_are_those_that_everybody_has(feed):
    expected = np.argwhere(np.concatenate([TRAIN.masks, HELD_OUT.masks]).all(axis=0))
    np.testing.assert_array_equal(feed.locations, expected)
    assert len(expected) < TRAIN.masks.any(axis=0).sum()


def test_a_batch_holds_the_patches_at_its_locations_in_an_order_of_its_own(feed):
    # Corners and edges of the mask, where a patch reaches out of the image, among them.
    locations = feed.locations[jnp.arange(0, len(feed.locations), 3)]
    cut = jax.jit(training.batch)
    orders = []
    for seed in (0, 1):
        patches = np.asarray(cut(feed.slices, locations, jax.random.key(seed)))
        assert patches.shape == (len(locations), 8, 15, 15, 1)  # of 9 subjects, an even number
        pairs = zip(patches, np.asarray(locations), strict=True)
        orders.append([subjects_of(p, TRAIN.images, at) for p, at in pairs])
        assert all(len(set(order)) == 8 for order in orders[-1])
    first, second = (np.array(o) for o in orders)
    # Other halves at other locations and in other steps: of 9! orders hardly one occurs twice.
    n = len(first)
    assert len({*map(tuple, first), *map(tuple, second)}) > 2 * n - 3
    # And everybody is as often in the half of the one-class SVM as anybody else: p = 4/9.
    count = np.bincount(np.concatenate([first[:, :4], second[:, :4]]).ravel(), minlength=9)
    assert np.abs(count - 4 / 9 * 2 * n).max() < 4 * np.sqrt(20 / 81 * 2 * n)


def pixels(state, patches):
    """Two pixels of each patch in place of latents."""
    return patches[..., 6:8, 7, 0]


def test_the_steps_of_training_differ_and_stay_in_the_masks(feed, monkeypatch, tmp_path):
    """Every batch of two epochs, as the method is handed it."""
    seen, losses = [], []

    def update(state, patches, epoch):
        jax.debug.callback(lambda p: seen.append(np.asarray(p)), patches, ordered=True)
        return state, {"loss": jnp.float32(0)}

    def loss(state, patches):
        jax.debug.callback(lambda p: losses.append(np.asarray(p)), patches, ordered=True)
        return jnp.float32(0)

    spy = method("ae")._replace(
        init=lambda x, key: jnp.zeros(()), update=update, loss=loss, encode=pixels
    )
    monkeypatch.setattr(training, "_HELD_OUT_LOCATIONS", 3 * PER_STEP)
    arguments = {"seed": 0, "epochs": 2, "locations": PER_STEP, "patience": 0}
    _, history = training.train(
        spy, feed, steps=5, checkpoint_every=2, workdir=tmp_path, **arguments
    )
    jax.effects_barrier()
    assert len({batch.tobytes() for batch in seen}) == len(seen) == 2 * 5
    known = {
        patch.tobytes() for at in feed.locations for patch in patches_by_numpy(TRAIN.images, at)
    }
    assert {p.tobytes() for batch in seen for p in batch.reshape(-1, 15, 15)} <= known
    # The dimensions of the held-out latents around the mean of their location, by NumPy.
    z = np.concatenate([pixels(None, batch) for batch in losses[:3]])
    values = np.linalg.eigvalsh(np.cov((z - z.mean(axis=1, keepdims=True)).reshape(-1, 2).T))
    for entry in history:
        expected = values.sum() ** 2 / (values**2).sum()
        assert entry["dimensions"] == pytest.approx(expected, rel=1e-4)
    # The held-out loss is of the held-out subjects, and of the same places in every epoch.
    assert len(losses) == 2 * 3
    assert all(b.shape == (PER_STEP, 2, 15, 15, 1) for b in losses)
    assert [b.tobytes() for b in losses[:3]] == [b.tobytes() for b in losses[3:]]
    known = {
        patch.tobytes() for at in feed.locations for patch in patches_by_numpy(HELD_OUT.images, at)
    }
    assert {p.tobytes() for batch in losses for p in batch.reshape(-1, 15, 15)} <= known


def test_what_can_not_be_trained_on(feed):
    images, masks = TRAIN.images, TRAIN.masks
    message = "1 subjects to train on and 3 held out are too few"
    with pytest.raises(ValueError, match=message):
        training.feed_of(images[:1], masks[:1], HELD_OUT.images, HELD_OUT.masks)
    with pytest.raises(ValueError, match="9 subjects to train on and 1 held out are too few"):
        training.feed_of(images, masks, HELD_OUT.images[:1], HELD_OUT.masks[:1])
    elsewhere = masks & (np.arange(9) == 0)[:, None, None, None]
    with pytest.raises(ValueError, match="no voxel lies in the mask of every subject"):
        training.feed_of(images, elsewhere, HELD_OUT.images, HELD_OUT.masks)


# What it minimises


@pytest.fixture(scope="module")
def example(feed):
    """A state, patches of 8 subjects at 3 places, and what the network makes of them by NumPy."""
    patches = training.batch(feed.slices, feed.locations[jnp.arange(0, 90, 30)], jax.random.key(5))
    state = method("ae").init(patches, jax.random.key(2))
    return state, patches, *dense_by_numpy(state.params, patches)


def error(patches, x_hat, sd):
    """The mean squared error, weighted by a Gaussian about the centre."""
    squares = (np.asarray(patches, np.float64).reshape(x_hat.shape) - x_hat) ** 2
    if not sd:
        return squares.mean()
    gaussian = np.exp(-0.5 * (np.arange(-7, 8) / sd) ** 2)
    return np.average(squares.mean(axis=(0, 1)), weights=np.outer(gaussian, gaussian).ravel())


def test_ogae_adds_the_mean_guidance_of_its_locations(example):
    """Equation (7) of each location by LIBSVM, on its own first half."""
    state, patches, z, x_hat = example
    found = [guidance.loss(one, 0.5, 0.1, True) for one in z]
    losses, outside = zip(*found, strict=True)
    assert len({*losses}) == 3 and min(losses) > 0
    one = method("ogae", guidance_weight=2.0, standardize=True)
    _, parts = jax.jit(one.update)(state, patches, jnp.int32(0))
    expected = error(patches, x_hat, 2) + 2 * np.mean(losses)
    assert float(parts["loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(parts["guidance"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(parts["reconstruction"]) == pytest.approx(error(patches, x_hat, 2), rel=1e-5)
    assert float(parts["outside"]) == pytest.approx(np.mean(outside) / 4)
    assert float(parts["latent_sd"]) == pytest.approx(np.sqrt(z.var(axis=1).mean()), rel=1e-5)


def test_sae_compares_the_halves_of_a_location(example):
    state, patches, z, x_hat = example
    first, second = z[:, :4], z[:, 4:]
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    similarity = np.mean((first * second).sum(axis=-1) / norms)
    value = method("sae", similarity_weight=0.7).loss(state, patches)
    assert float(value) == pytest.approx(error(patches, x_hat, 2) - 0.7 * similarity, rel=1e-5)


@pytest.mark.parametrize("sd", [0, 2.0])
def test_ae_is_the_error_alone(example, sd):
    state, patches, _, x_hat = example
    value = method("ae", centre_sd=sd).loss(state, patches)
    assert float(value) == pytest.approx(error(patches, x_hat, sd), rel=1e-5)
    assert centre_weights(sd).mean() == pytest.approx(1, rel=1e-6)


def test_a_patch_has_no_score_of_its_own(example):
    assert method("ogae").score(*example[:2]) == {}


def test_the_losses_fall(runs):
    assert set(runs) == set(PATCH_METHODS)
    for name, (_, history) in runs.items():
        assert [entry["epoch"] for entry in history] == [1, 2, 3, 4], name
        assert all(entry["seconds"] > 0 and entry["patches_per_s"] > 0 for entry in history)
        assert all(1 <= entry["dimensions"] <= 16 for entry in history)
        for loss in ("loss", "reconstruction", "valid_loss"):
            assert history[-1][loss] < history[0][loss], (name, loss)


# How it goes on


def test_stopped_and_gone_on_with_it_ends_in_the_same_bits(feed, runs, tmp_path):
    run, history = runs["ogae"]
    short, _ = train(feed, "ogae", tmp_path / "run", epochs=2, checkpoint_every=2)
    assert not same_bits(short.state.params, run.state.params)
    resumed, entries = train(feed, "ogae", tmp_path / "run")
    assert same_bits(resumed, run)
    assert without_timings(entries) == without_timings(history)


def test_the_seed_decides(feed, tmp_path):
    """Of a method whose state is a fingerprint of its key and of all patches it was handed."""

    def update(state, patches, epoch):
        weights = jnp.linspace(0, 1, patches.size, dtype=jnp.float32).reshape(patches.shape)
        return jnp.sin(state + jnp.sum(weights * patches)), {"loss": jnp.float32(0)}

    spy = method("ae")._replace(
        init=lambda x, key: jax.random.uniform(key, (), jnp.float32),
        update=update,
        loss=lambda state, patches: jnp.mean(patches),
        encode=pixels,
    )
    arguments = {"epochs": 2, "steps": 3, "locations": 2, "patience": 0, "checkpoint_every": 2}
    one, same, other = (
        training.train(spy, feed, seed=seed, workdir=tmp_path / str(i), **arguments)[0]
        for i, seed in enumerate((3, 3, 4))
    )
    assert same_bits(one, same)
    assert one.state != other.state
    assert one.best_loss != other.best_loss  # other places held out, too


def test_with_patience_the_best_state_is_kept(feed, tmp_path, monkeypatch):
    table = jnp.asarray([9.0, 3.0, 1.0, 2.0, 4.0, 0.0], jnp.float32)

    def update(state, patches, epoch):
        return state + 1, {"loss": jnp.float32(0)}

    spy = method("ae")._replace(
        init=lambda x, key: jnp.int32(0),
        update=update,
        loss=lambda state, patches: table[state // 2],
        encode=pixels,
    )
    arguments = {"seed": 0, "epochs": 5, "steps": 2, "locations": 1, "checkpoint_every": 1}
    run, history = training.train(spy, feed, patience=2, workdir=tmp_path, **arguments)
    assert len(history) == 4  # 3, 1, 2, 4: two epochs without a better one
    assert int(kept_state(run, 2)) == 2 * 2 and int(run.state) == 4 * 2


# After training


@pytest.fixture(scope="module")
def network():
    """The patch autoencoder whose statistics are those of the last batch."""
    return Network(from_flax(PatchEncoder(momentum=0.0)), from_flax(PatchDecoder(momentum=0.0)))


def first_layer(patches, params):
    """GELU of the first convolution, by NumPy."""
    x = np.asarray(patches, np.float64).reshape(-1, 15, 15)
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    kernel = np.asarray(params["kernel"], np.float64)[:, :, 0]
    y = np.einsum("bhwij,ijo->bhwo", windows, kernel) + np.asarray(params["bias"], np.float64)
    return y * 0.5 * (1 + erf(y / np.sqrt(2)))


def test_calibrated_statistics_are_those_of_all_batches_at_once(feed, network, monkeypatch):
    build = patch_method("ae", network, optax.sgd(0.1), SETTINGS)
    example = jnp.zeros((PER_STEP, 8, 15, 15, 1), jnp.float32)
    state = jax.jit(build.init)(example, jax.random.key(1))
    seen, original = [], training._random_batch

    def spied(*arguments):
        patches = original(*arguments)
        jax.debug.callback(lambda p: seen.append(np.asarray(p)), patches, ordered=True)
        return patches

    monkeypatch.setattr(training, "_random_batch", spied)
    monkeypatch.setattr(training, "_CALIBRATION", 16)
    found = training.calibrated(network, state, feed, seed=3, locations=PER_STEP)
    jax.effects_barrier()
    assert len({batch.tobytes() for batch in seen}) == 16
    y = first_layer(np.concatenate(seen), state.params["encoder"]["layers_0"])
    stats = found.stats["encoder"]["batch_stats"]["layers_0"]["norm"]
    np.testing.assert_allclose(stats["mean"], y.mean(axis=(0, 1, 2)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(stats["var"], y.var(axis=(0, 1, 2)), rtol=1e-4)
    # The rest is as it was; so is the shape of all statistics.
    assert same_bits(found.params, state.params)
    shapes = [jax.tree.map(lambda a: (a.shape, a.dtype), s) for s in (found.stats, state.stats)]
    assert shapes[0] == shapes[1]
