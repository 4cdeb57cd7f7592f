"""Training of the patch autoencoder: what a step sees, what it minimises, and how it goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf
from tiny_brains import cohort, method, network, settings

from ocsvm_jax.brain import training
from ocsvm_jax.brain.methods import PATCH_METHODS, centre_weights
from ocsvm_jax.guidance import guidance_loss
from ocsvm_jax.training import kept_state

TRAIN, HELD_OUT = cohort("train", 5), cohort("valid", 3)
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
def whole(feed, tmp_path_factory, compiled_once):
    """Four epochs of OgAE in one go: run and history."""
    return train(feed, "ogae", tmp_path_factory.mktemp("whole"))


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
        assert patches.shape == (len(locations), 4, 15, 15, 1)  # of 5 subjects, an even number
        pairs = zip(patches, np.asarray(locations), strict=True)
        orders.append([subjects_of(p, TRAIN.images, at) for p, at in pairs])
        assert all(len(set(order)) == 4 for order in orders[-1])
    first, second = (np.array(o) for o in orders)
    # Other halves at other locations and in other steps: of 120 orders, one place in 120 is alike.
    assert len(np.unique(first, axis=0)) > 40
    assert (first == second).all(axis=1).mean() < 0.1
    # And everybody is as often in the half of the one-class SVM as anybody else: p = 2/5.
    count = np.bincount(np.concatenate([first[:, :2], second[:, :2]]).ravel(), minlength=5)
    n = 2 * len(first)
    assert np.abs(count - 0.4 * n).max() < 4 * np.sqrt(0.24 * n)


def test_the_steps_of_training_differ_and_stay_in_the_masks(feed, monkeypatch, tmp_path):
    """Every batch of two epochs, as the method is handed it."""
    seen, losses = [], []

    def update(state, patches, epoch):
        jax.debug.callback(lambda p: seen.append(np.asarray(p)), patches, ordered=True)
        return state, {"loss": jnp.float32(0)}

    def loss(state, patches):
        jax.debug.callback(lambda p: losses.append(np.asarray(p)), patches, ordered=True)
        return jnp.float32(0)

    spy = method("ae")._replace(init=lambda x, key: jnp.zeros(()), update=update, loss=loss)
    monkeypatch.setattr(training, "_HELD_OUT_LOCATIONS", 3 * PER_STEP)
    arguments = {"seed": 0, "epochs": 2, "locations": PER_STEP, "patience": 0}
    training.train(spy, feed, steps=5, checkpoint_every=2, workdir=tmp_path, **arguments)
    jax.effects_barrier()
    assert len({batch.tobytes() for batch in seen}) == len(seen) == 2 * 5
    known = {
        patch.tobytes() for at in feed.locations for patch in patches_by_numpy(TRAIN.images, at)
    }
    assert {p.tobytes() for batch in seen for p in batch.reshape(-1, 15, 15)} <= known
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
    with pytest.raises(ValueError, match="5 subjects to train on and 1 held out are too few"):
        training.feed_of(images, masks, HELD_OUT.images[:1], HELD_OUT.masks[:1])
    elsewhere = masks & (np.arange(5) == 0)[:, None, None, None]
    with pytest.raises(ValueError, match="no voxel lies in the mask of every subject"):
        training.feed_of(images, elsewhere, HELD_OUT.images, HELD_OUT.masks)


# What it minimises


@pytest.fixture(scope="module")
def example(feed, whole):
    """A trained state, patches, and what encoder and decoder make of them."""
    state = whole[0].state
    patches = training.batch(feed.slices, feed.locations[jnp.arange(0, 90, 30)], jax.random.key(5))
    pair = network()
    z, _ = pair.encoder.apply(state.params["encoder"], state.stats["encoder"], patches, False)
    x_hat, _ = pair.decoder.apply(state.params["decoder"], state.stats["decoder"], z, False)
    return state, patches, z, np.asarray(x_hat, np.float64)


def weighted_error(patches, x_hat, sd):
    squares = (np.asarray(patches, np.float64) - x_hat) ** 2
    gaussian = np.exp(-0.5 * (np.arange(-7, 8) / sd) ** 2)
    weights = np.outer(gaussian, gaussian)
    return np.average(squares[..., 0].reshape(-1, 225).mean(axis=0), weights=weights.ravel())


def test_ogae_adds_the_mean_guidance_of_its_locations(example):
    state, patches, z, x_hat = example
    options = {"nu": 0.5, "gamma": 0.1, "standardize": False}
    guidance = [float(guidance_loss(one, **options)[0]) for one in z]
    assert min(guidance) != max(guidance) > 0
    error = weighted_error(patches, x_hat, 2.0)
    for weight in (0.1, 10.0):
        value = method("ogae", guidance_weight=weight).loss(state, patches)
        assert float(value) == pytest.approx(error + weight * np.mean(guidance), rel=1e-5)


def test_sae_compares_the_halves_of_a_location(example):
    state, patches, z, x_hat = example
    z = np.asarray(z, np.float64)
    first, second = z[:, :2], z[:, 2:]
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    similarity = np.mean((first * second).sum(axis=-1) / norms)
    value = method("sae", similarity_weight=0.7).loss(state, patches)
    expected = 2 * weighted_error(patches, x_hat, 2.0) - 0.7 * similarity
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_ae_is_the_error_alone_and_its_weights_a_gaussian(example):
    state, patches, _, x_hat = example
    assert float(method("ae").loss(state, patches)) == pytest.approx(
        weighted_error(patches, x_hat, 2.0), rel=1e-5
    )
    plain = np.mean((np.asarray(patches, np.float64) - x_hat) ** 2)
    assert float(method("ae", centre_sd=0).loss(state, patches)) == pytest.approx(plain, rel=1e-5)
    weights = centre_weights(2.0)
    assert weights.mean() == pytest.approx(1, rel=1e-6) and weights.argmax() == 7 * 15 + 7
    assert weights[7, 5] / weights[7, 7] == pytest.approx(np.exp(-0.5), rel=1e-5)


def test_the_losses_fall(feed, whole, tmp_path, compiled_once):
    histories = {"ogae": whole[1]}
    for name in ("sae", "ae"):
        _, histories[name] = train(feed, name, tmp_path / name)
    assert set(histories) == set(PATCH_METHODS)
    for name, history in histories.items():
        assert [entry["epoch"] for entry in history] == [1, 2, 3, 4], name
        assert all(entry["seconds"] > 0 and entry["patches_per_s"] > 0 for entry in history)
        for loss in ("loss", "reconstruction", "valid_loss"):
            assert history[-1][loss] < history[0][loss], (name, loss)
    assert all(0 <= entry["outside"] <= 1 for entry in histories["ogae"])
    assert settings().guidance_weight * histories["ogae"][0]["guidance"] == pytest.approx(
        histories["ogae"][0]["loss"] - histories["ogae"][0]["reconstruction"], rel=1e-3
    )


# How it goes on


def test_stopped_and_gone_on_with_it_ends_in_the_same_bits(feed, whole, tmp_path):
    run, history = whole
    short, _ = train(feed, "ogae", tmp_path / "run", epochs=2, checkpoint_every=2)
    assert not same_bits(short.state.params, run.state.params)
    resumed, entries = train(feed, "ogae", tmp_path / "run")
    assert same_bits(resumed, run)
    assert without_timings(entries) == without_timings(history)


def test_the_seed_decides(feed, tmp_path, compiled_once):
    one, same, other = (
        train(feed, "ae", tmp_path / str(i), epochs=1, seed=seed)[0]
        for i, seed in enumerate((3, 3, 4))
    )
    assert same_bits(one, same)
    differs = jax.tree.map(lambda a, b: bool(np.any(a != b)), one.state.params, other.state.params)
    kernels = [v for path, v in jax.tree_util.tree_leaves_with_path(differs) if "kernel" in str(path)]
    assert len(kernels) == 8 and all(kernels)


def test_with_patience_the_best_state_is_kept(feed, tmp_path, monkeypatch):
    table = jnp.asarray([9.0, 3.0, 1.0, 2.0, 4.0, 0.0], jnp.float32)

    def update(state, patches, epoch):
        return state + 1, {"loss": jnp.float32(0)}

    spy = method("ae")._replace(
        init=lambda x, key: jnp.int32(0),
        update=update,
        loss=lambda state, patches: table[state // 2],
    )
    arguments = {"seed": 0, "epochs": 5, "steps": 2, "locations": 1, "checkpoint_every": 1}
    run, history = training.train(spy, feed, patience=2, workdir=tmp_path, **arguments)
    assert len(history) == 4  # 3, 1, 2, 4: two epochs without a better one
    assert int(kept_state(run, 2)) == 2 * 2 and int(run.state) == 4 * 2


# After training


def first_layer(patches, params):
    """GELU of the first convolution, by NumPy."""
    x = np.asarray(patches, np.float64).reshape(-1, 15, 15)
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(1, 2))
    kernel = np.asarray(params["kernel"], np.float64)[:, :, 0]
    y = np.einsum("bhwij,ijo->bhwo", windows, kernel) + np.asarray(params["bias"], np.float64)
    return y * 0.5 * (1 + erf(y / np.sqrt(2)))


def test_calibrated_statistics_are_those_of_all_batches_at_once(feed, whole, monkeypatch):
    state = whole[0].state
    seen, original = [], training._random_batch

    def spied(*arguments):
        patches = original(*arguments)
        jax.debug.callback(lambda p: seen.append(np.asarray(p)), patches, ordered=True)
        return patches

    monkeypatch.setattr(training, "_random_batch", spied)
    monkeypatch.setattr(training, "_CALIBRATION", 16)
    found = training.calibrated(network(momentum=0.0), state, feed, seed=3, locations=PER_STEP)
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
    assert not same_bits(found.stats, state.stats)
