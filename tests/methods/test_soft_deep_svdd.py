"""The radius; what this method shares with its family is in test_hypersphere.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import BATCH, built, encodings, network, normal_images


def method_of(nu, pretrain):
    changes = {"nu": nu, "pretrain": pretrain, "num_epochs": 10}
    return built("soft_deep_svdd", network("soft_deep_svdd"), optax.sgd(1e-3), **changes)


@functools.cache
def started(nu, pretrain=0.0):
    """A method of ten epochs, its compiled update and its state when the centre is set."""
    method = method_of(nu, pretrain)
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
