"""The radius by both rules; what this method shares with its family is in test_hypersphere.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import BATCH, adam, built, encodings, network, normal_images

RATE = 1e-3


def method_of(nu, pretrain, radius="quantile", optimizer=None):
    changes = {"nu": nu, "pretrain": pretrain, "num_epochs": 10, "radius": radius}
    net = network("soft_deep_svdd")
    return built("soft_deep_svdd", net, optimizer or optax.sgd(RATE), **changes)


@functools.cache
def started(nu, pretrain=0.0, radius="quantile"):
    """A method of ten epochs, its compiled update and its state when the centre is set."""
    method = method_of(nu, pretrain, radius)
    images = normal_images()
    state, _ = method.prepare(
        method.init(images, jax.random.key(0)), lambda f: f(images), jnp.int32(10 * pretrain)
    )
    assert state.memory.started
    return jax.jit(method.update), state


def distances(state, images):
    z = encodings(state.params["encoder"], images)
    return np.sum((z - np.asarray(state.memory.centre, np.float64)) ** 2, axis=1)


@pytest.mark.parametrize("nu", [0.01, 0.25, 0.4, 1.0])
def test_radius_is_the_quantile_of_the_batch(nu):
    update, state = started(nu)
    images = normal_images(seed=1)
    d = np.sort(distances(state, images))
    squared_radius = update(state, images, jnp.int32(9))[0].memory.squared_radius
    np.testing.assert_allclose(squared_radius, np.quantile(d, 1 - nu), rtol=1e-4)
    outside = np.mean(d > float(squared_radius) * (1 + 1e-4))
    assert abs(outside - nu) <= 1 / BATCH + 1e-9


@pytest.mark.parametrize("nu", [0.1, 0.4, 0.8])
def test_radius_all_but_minimises_the_loss(nu):
    """The loss is piecewise linear with its corners at the distances: the smallest is at one.

    A quantile between two of them lies at most a piece beside it, whose slope is below 1/(nu n).
    """
    update, state = started(nu)
    images = normal_images(seed=1)
    d = np.sort(distances(state, images))
    found = float(update(state, images, jnp.int32(9))[0].memory.squared_radius)

    def loss(squared_radius):
        return squared_radius + np.mean(np.maximum(0, d - squared_radius)) / nu

    smallest = min(loss(corner) for corner in (0, *d))
    assert loss(found) - smallest <= np.max(np.diff(d)) / (nu * BATCH) + 1e-6
    assert loss(found) < 0.9 * max(loss(0), loss(2 * d[-1]))


@pytest.mark.parametrize(("pretrain", "warm_up"), [(0.0, 5), (0.4, 7)])
def test_warm_up(pretrain, warm_up):
    """The radius is 0 in the first half of the epochs that a pretraining has left."""
    update, state = started(0.4, pretrain)
    for epoch in range(round(10 * pretrain), 10):
        new, parts = update(state, normal_images(seed=1), jnp.int32(epoch))
        assert parts["radius2"] == 0
        assert (new.memory.squared_radius > 0) == (epoch >= warm_up), epoch
    # The step after is taken with it.
    new, parts = update(new, normal_images(seed=2), jnp.int32(9))
    assert parts["radius2"] > 0


@pytest.mark.parametrize(("pretrain", "warm_up"), [(0.0, 5), (0.4, 7)])
def test_early_stopping_counts_from_the_first_epoch_with_a_radius(pretrain, warm_up):
    """Until then the loss is another one: its lowest values are no reason to stop or to keep."""
    method = method_of(0.4, pretrain)
    images = normal_images()
    state = method.init(images, jax.random.key(0))
    preparing = [
        bool(method.prepare(state, lambda f: f(images), jnp.int32(e))[1]) for e in range(10)
    ]
    assert preparing == [epoch < warm_up for epoch in range(10)]


def test_images_inside_do_not_move_the_weights():
    update, state = started(0.4)
    wide = state._replace(memory=state.memory._replace(squared_radius=jnp.float32(100)))
    new, parts = update(wide, normal_images(seed=1), jnp.int32(0))
    jax.tree.map(np.testing.assert_array_equal, new.params, wide.params)
    assert parts["loss"] == 100


def test_a_trained_radius_starts_small():
    """At 0, where the derivative in R is 0, it would stay; most images are outside at first."""
    _, state = started(0.4, radius="trained")
    np.testing.assert_allclose(state.memory.squared_radius, 0.01, rtol=1e-6)
    assert np.mean(distances(state, normal_images()) > 0.01) > 0.8


@pytest.mark.parametrize("nu", [0.1, 0.4])
def test_turns(nu):
    """The first step after pretraining is the network's, the second the radius's, and so on."""
    update, state = started(nu, radius="trained")
    images = normal_images(seed=1)
    for step in range(6):
        new, parts = update(state, images, jnp.int32(0))
        weights = [np.asarray(s.params["encoder"]["weights"]) for s in (state, new)]
        squares = [float(s.memory.squared_radius) for s in (state, new)]
        assert np.array_equal(*weights) == (step % 2 == 1), step
        assert (squares[0] == squares[1]) == (step % 2 == 0), step
        d, before = distances(state, images), squares[0]
        loss = before + np.mean(np.maximum(0, d - before)) / nu
        np.testing.assert_allclose(parts["loss"], loss, rtol=1e-5)
        if step % 2:
            # Gradient descent by the derivative in R: 2R (1 - share outside / nu).
            radius = before**0.5
            radius -= RATE * 2 * radius * (1 - np.mean(d > before) / nu)
            np.testing.assert_allclose(squares[1], radius**2, rtol=1e-5)
        state = new


@pytest.mark.parametrize("nu", [0.1, 0.25, 0.5, 0.8])
def test_a_trained_radius_goes_to_the_quantile_of_a_network_at_rest(nu):
    """The loss is smallest in R at the (1 - nu)-quantile of the distances, NumPy's."""
    method = method_of(nu, 0.0, "trained", adam(2e-3))
    images = normal_images(200, seed=1)
    state, _ = method.prepare(
        method.init(images, jax.random.key(0)), lambda f: f(images), jnp.int32(0)
    )
    d = distances(state, images)
    expected = np.quantile(d, 1 - nu)

    @jax.jit
    def settled(state):
        def step(state, _):
            new, _ = method.update(state, images, jnp.int32(0))
            return state._replace(memory=new.memory), None  # the network of before

        return jax.lax.scan(step, state, length=3000)[0]

    found = np.sqrt(settled(state).memory.squared_radius)
    # Within the two steps of the optimizer that it moves back and forth, or between two distances.
    near = np.quantile(d, [max(0, 1 - nu - 0.01), min(1, 1 - nu + 0.01)]) ** 0.5
    assert near[0] - 0.004 <= found <= near[1] + 0.004
    assert abs(np.sqrt(expected) - np.sqrt(state.memory.squared_radius)) > 0.02


def test_no_turn_in_pretraining():
    """There is no radius yet, and every step is the network's."""
    method = method_of(0.4, 0.4, "trained")
    images = normal_images()
    update, state = jax.jit(method.update), method.init(images, jax.random.key(0))
    for _ in range(3):
        new, _ = update(state, images, jnp.int32(0))
        assert not np.array_equal(
            new.params["encoder"]["weights"], state.params["encoder"]["weights"]
        )
        assert new.memory.squared_radius == 0
        assert new.memory.moving.steps == 0
        state = new
    counted = [bool(method.prepare(state, lambda f: f(images), jnp.int32(e))[1]) for e in range(6)]
    assert counted == [True] * 4 + [False] * 2


def test_the_optimizer_of_the_network_rests_too():
    """Else its momentum would carry the network on in the steps of the radius."""
    method = method_of(0.4, 0.0, "trained", adam(1e-3))
    images = normal_images()
    state, _ = method.prepare(
        method.init(images, jax.random.key(0)), lambda f: f(images), jnp.int32(0)
    )
    update = jax.jit(method.update)
    counts = []
    for _ in range(5):
        state, _ = update(state, images, jnp.int32(0))
        own = state.memory.moving.opt_state
        counts.append((int(state.opt_state[0].count), int(own[0].count)))
    assert counts == [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)]


def test_unknown_radius():
    with pytest.raises(
        ValueError, match=r"^radius is 'learnt'; it is one of \('trained', 'quantile'"
    ):
        method_of(0.4, 0.0, "learnt")


@pytest.mark.parametrize("pretrain", [0.0, 0.3])
def test_both_rules_end_at_the_same_loss(pretrain):
    """They minimise the same function; the trained radius takes every second step."""
    images, found = normal_images(), {}
    steps = 300
    for radius in ("quantile", "trained"):
        method = method_of(0.4, pretrain, radius, adam(2e-3))
        update, state = jax.jit(method.update), method.init(images, jax.random.key(0))
        for step in range(steps):
            epoch = jnp.int32(10 * step // steps)
            if 10 * step % steps == 0:
                state, _ = method.prepare(state, lambda f: f(images), epoch)
            state, _ = update(state, images, epoch)
        found[radius] = float(method.loss(state, images))
    np.testing.assert_allclose(found["trained"], found["quantile"], rtol=0.02)
