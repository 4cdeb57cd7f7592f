"""Centre, pretraining and distances, which the methods of the Deep SVDD family share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import (
    BATCH,
    LATENT,
    adam,
    built,
    decodings,
    encodings,
    network,
    normal_images,
    squared_errors,
    strange_images,
    total,
)

from ocsvm_jax.methods.hypersphere import off_the_origin, pretraining_epochs
from ocsvm_jax.training import epoch as training

FAMILY = ("deep_svdd", "soft_deep_svdd", "dspsvdd")
WITHOUT_DECODER = FAMILY[:2]
NU, GAMMA, RATE = 0.4, 2.5, 1e-3
BATCHES = [normal_images(seed=seed) for seed in range(3)]
EPOCHS, BEFORE = 5, 2  # of these, the first two are the pretraining


def build(name, optimizer=None, **changes):
    # That of a trained radius is in test_soft_deep_svdd.py.
    changes |= {"reconstruction_weight": GAMMA, "nu": NU, "radius": "quantile"}
    return built(name, network(name), optimizer or optax.sgd(RATE), **changes)


def mean_of(function):
    return jnp.mean(jnp.stack([function(batch) for batch in BATCHES]), axis=0)


@functools.cache
def started(name):
    """A method without pretraining, its compiled update, and its state when the centre is set."""
    method = build(name)
    state, preparing = method.prepare(
        method.init(BATCHES[0], jax.random.key(0)), mean_of, jnp.int32(0)
    )
    # That of the soft boundary goes on without a radius, see test_soft_deep_svdd.py.
    assert preparing == (name == "soft_deep_svdd")
    return method, jax.jit(method.update), state


def off(centre):
    return [c if abs(c) >= 0.1 else (-0.1 if c < 0 else 0.1) for c in centre]


@pytest.mark.parametrize("name", FAMILY)
def test_centre_is_the_mean_of_the_encodings(name):
    method = build(name)
    state = method.init(BATCHES[0], jax.random.key(0))
    weights = np.array(state.params["encoder"]["weights"])
    # One coordinate's mean lies below 0.1, on the negative side.
    weights[:, 1] = -np.abs(weights[:, 1]) / 1000
    params = {**state.params, "encoder": {"weights": jnp.asarray(weights)}}
    state, _ = method.prepare(state._replace(params=params), mean_of, jnp.int32(0))
    mean = np.mean([encodings(params["encoder"], batch) for batch in BATCHES], axis=(0, 1))
    assert -0.1 < mean[1] < 0
    assert np.max(np.abs(mean)) > 0.1
    np.testing.assert_allclose(state.memory.centre, off(mean), rtol=1e-4)
    assert state.memory.started
    assert state.memory.squared_radius == 0


def test_off_the_origin():
    """0 counts as positive; what is 0.1 away, stays."""
    centre = [0.05, -0.05, 0.0, -0.0, 1e-9, 0.1, -0.1, 0.11, -3.0]
    expected = [0.1, -0.1, 0.1, 0.1, 0.1, 0.1, -0.1, 0.11, -3.0]
    np.testing.assert_allclose(off_the_origin(jnp.asarray(centre)), expected)
    assert off_the_origin(jnp.asarray(centre, jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("share", "epochs", "expected"),
    [(0, 7, 0), (0.5, 20, 10), (0.5, 5, 3), (0.01, 5, 1), (0.99, 5, 4), (0.5, 1, 0)],
)
def test_pretraining_epochs(share, epochs, expected):
    """Rounded up, but an epoch is left for what follows."""
    assert pretraining_epochs(share, epochs) == expected


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_bad_shares(share):
    for name in FAMILY:
        with pytest.raises(ValueError, match=r"^pretrain is .*; it must be a share of the epochs"):
            build(name, pretrain=share)


def by_hand(name, params, images, sphere):
    """The loss in NumPy; of the soft boundary, equation (3) of Ruff et al. without weight decay."""
    z = encodings(params["encoder"], images)
    distances = np.sum((z - np.asarray(sphere.centre, np.float64)) ** 2, axis=1)
    radius = float(sphere.squared_radius)
    if name == "soft_deep_svdd":
        return radius + np.maximum(0, distances - radius).mean() / NU
    if name == "dspsvdd":
        error = squared_errors(images, decodings(params["decoder"], z)).mean()
        return distances.mean() + GAMMA * error
    return distances.mean()


@pytest.mark.parametrize("radius", [0.0, 0.04])
@pytest.mark.parametrize("name", FAMILY)
def test_loss_and_step(name, radius):
    """The loss is the formula's, and a step of gradient descent goes by its derivative."""
    method, update, state = started(name)
    state = state._replace(memory=state.memory._replace(squared_radius=jnp.float32(radius)))
    images = normal_images(seed=1)
    expected = by_hand(name, state.params, images, state.memory)
    new, parts = update(state, images, jnp.int32(0))
    np.testing.assert_allclose(parts["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(method.loss(state, images), expected, rtol=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), state.params)

        def along(t, direction=direction):
            moved = jax.tree.map(
                lambda leaf, d: np.asarray(leaf, np.float64) + t * d, state.params, direction
            )
            return by_hand(name, moved, images, state.memory)

        derivative = (along(1e-6) - along(-1e-6)) / 2e-6
        taken = jax.tree.map(
            lambda old, new, d: np.sum((np.float64(old) - np.float64(new)) / RATE * d),
            state.params,
            new.params,
            direction,
        )
        taken = sum(jax.tree.leaves(taken))
        np.testing.assert_allclose(taken, derivative, rtol=2e-3, atol=2e-3)
        assert abs(derivative) > 0.05


@pytest.mark.parametrize("name", FAMILY)
def test_score_is_the_squared_distance(name):
    method, _, state = started(name)
    images = jnp.concatenate([normal_images(seed=1), strange_images()])
    scores = method.score(state, images)
    assert set(scores) == {"distance"}
    z = encodings(state.params["encoder"], images)
    expected = np.sum((z - np.asarray(state.memory.centre)) ** 2, axis=1)
    np.testing.assert_allclose(total(scores["distance"]), expected, rtol=1e-4, atol=1e-6)
    # The radius, common to all images, is no part of it.
    wide = state._replace(memory=state.memory._replace(squared_radius=jnp.float32(9)))
    np.testing.assert_array_equal(
        method.score(wide, images)["distance"].values, scores["distance"].values
    )


@pytest.mark.parametrize("name", FAMILY)
def test_the_decoder_is_in_the_state_only_where_it_is_trained(name):
    shapes = {
        share: jax.eval_shape(build(name, pretrain=share).init, BATCHES[0], jax.random.key(0))
        for share in (0.0, 0.5)
    }
    assert set(shapes[0.5].params) == {"encoder", "decoder"}
    expected = {"encoder"} if name in WITHOUT_DECODER else {"encoder", "decoder"}
    assert set(shapes[0.0].params) == set(shapes[0.0].stats) == expected


def uint8(images):
    return np.asarray(np.round(255 * images), np.uint8)


IMAGES, HELD_OUT = uint8(normal_images(3 * BATCH)), uint8(normal_images(seed=1))


def epochs_of(method, number):
    """The run after each epoch, with its parts; the first is the run before all."""
    run = training.start(method, IMAGES, BATCH, 3)
    epoch = training.epoch_function(method, BATCH, 3)
    feed, trail = training.feed_of(IMAGES, HELD_OUT), [(jax.device_get(run), None)]
    for _ in range(number):
        run, parts = epoch(run, feed)
        trail.append(jax.device_get((run, parts)))
    return trail


@functools.cache
def pretrained(name):
    """All epochs, the first `BEFORE` of them the pretraining."""
    method = build(name, adam(1e-3), pretrain=BEFORE / EPOCHS, num_epochs=EPOCHS)
    return epochs_of(method, EPOCHS)


@functools.cache
def autoencoder(bias):
    """The plain one with the same encoder; its recipe would give it biases."""
    net = network("ae" if bias else "deep_svdd")
    return epochs_of(built("ae", net, adam(1e-3)), BEFORE)


@pytest.mark.parametrize("name", FAMILY)
def test_pretraining_is_the_training_of_the_autoencoder(name):
    for (run, _), (plain, _) in zip(pretrained(name), autoencoder(bias=False), strict=False):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            run.state.params,
            plain.state.params,
        )
        assert not run.state.memory.started
        np.testing.assert_array_equal(run.state.memory.centre, np.zeros(LATENT))


@pytest.mark.parametrize("name", FAMILY)
def test_pretraining_ends_in_its_epoch(name):
    trail = pretrained(name)[1:]
    for epoch, (run, parts) in enumerate(trail):
        assert bool(run.state.memory.started) == (epoch >= BEFORE)
        same = np.isclose(parts["loss"], parts["reconstruction"], rtol=1e-6)
        assert same == (epoch < BEFORE)
    # The centre is that of the encodings when the pretraining was over, and stays.
    before, centres = trail[BEFORE - 1][0].state, [run.state.memory.centre for run, _ in trail]
    z = encodings(before.params["encoder"], np.float64(IMAGES) / 255)
    np.testing.assert_allclose(centres[BEFORE], off(z.mean(axis=0)), rtol=1e-4)
    for centre in centres[BEFORE + 1 :]:
        np.testing.assert_array_equal(centre, centres[BEFORE])


@pytest.mark.parametrize("name", FAMILY)
def test_the_decoder_after_the_pretraining(name):
    """It rests, unless the reconstruction is part of the loss."""
    trail = pretrained(name)
    states = trail[BEFORE][0].state, trail[-1][0].state
    before, after = (state.params["decoder"]["weights"] for state in states)
    assert np.array_equal(before, after) == (name in WITHOUT_DECODER)
    encoders = [state.params["encoder"]["weights"] for state in states]
    assert not np.array_equal(*encoders)


@pytest.mark.parametrize("name", FAMILY)
def test_the_optimizer_starts_afresh(name):
    trail = pretrained(name)
    steps = [int(run.state.opt_state[0].count) for run, _ in trail]
    assert steps == [0, 3, 6, 3, 6, 9]
    method = build(name, adam(1e-3), pretrain=BEFORE / EPOCHS, num_epochs=EPOCHS)
    before = trail[BEFORE][0].state
    assert np.any(before.opt_state[0].nu["encoder"]["weights"] != 0)
    # The soft boundary has no radius in the first of the three epochs that are left.
    counted_from = BEFORE + (name == "soft_deep_svdd")
    after, preparing = method.prepare(before, mean_of, jnp.int32(BEFORE))
    assert preparing == (counted_from > BEFORE)
    assert not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(after.opt_state))
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    for epoch in (0, BEFORE - 1, BEFORE + 1):
        same, preparing = method.prepare(before, mean_of, jnp.int32(epoch))
        assert preparing == (epoch < counted_from)
        jax.tree.map(np.testing.assert_array_equal, same, before)


@pytest.mark.parametrize("name", FAMILY)
def test_early_stopping_ignores_the_pretraining(name):
    """While it lasts, the last state is the best; then the first epoch is, whatever its loss."""
    trail = pretrained(name)[1:]
    for epoch, (run, _) in enumerate(trail[:BEFORE]):
        assert run.best_epoch == epoch + 1
        assert np.isinf(run.best_loss)
        jax.tree.map(np.testing.assert_array_equal, run.best, run.state)
    losses = [float(parts["valid_loss"]) for _, parts in trail]
    last = trail[-1][0]
    assert last.best_loss == np.float32(min(losses[BEFORE:]))
    assert last.best_epoch == BEFORE + 1 + np.argmin(losses[BEFORE:])
    assert last.best.memory.started


@pytest.mark.parametrize("name", FAMILY)
def test_held_out_loss_belongs_to_the_phase(name):
    """The autoencoder's error first, then the method's own; by NumPy from the weights."""
    images = np.float64(HELD_OUT) / 255
    for run, parts in pretrained(name)[1:]:
        state = run.state
        if state.memory.started:
            expected = by_hand(name, state.params, images, state.memory)
        else:
            z = encodings(state.params["encoder"], images)
            expected = squared_errors(images, decodings(state.params["decoder"], z)).mean()
        np.testing.assert_allclose(parts["valid_loss"], expected, rtol=1e-4)
