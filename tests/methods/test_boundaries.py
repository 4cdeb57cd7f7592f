"""What a train step hands on has the type of what it was handed; one program trains all epochs."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.small import BATCH, NETWORK, adam, normal_images

from ocsvm_jax.methods.base import Forward, forward, gradient_method, squared_error
from ocsvm_jax.training import loop as training

EPOCH = jnp.int32(0)


def a_method(parts=lambda loss: {"loss": loss}, remember=lambda memory, record: memory, **more):
    """An autoencoder whose memory is one number."""

    def objective(params, stats, memory, images, epoch, train):
        z, x_hat, stats = forward(NETWORK, params, stats, images, train)
        loss = jnp.mean(squared_error(images, x_hat))
        return loss, Forward(stats, parts(loss), (), z)

    return gradient_method(
        NETWORK,
        adam(1e-3),
        objective,
        lambda state, images: {},
        init_memory=lambda params, stats, images, key: jnp.float32(0),
        remember=remember,
        **more,
    )


def start(method):
    return jax.eval_shape(method.init, normal_images(), jax.random.key(0))


@pytest.mark.parametrize(
    "remember",
    [lambda memory, record: memory > 0, lambda memory, record: memory[None]],
    ids=["another dtype", "another shape"],
)
def test_a_step_that_changes_the_type_of_the_state(remember):
    method = a_method(remember=remember)
    with pytest.raises(AssertionError, match="memory"):
        jax.eval_shape(method.update, start(method), normal_images(), EPOCH)


def test_parts_that_are_no_scalars():
    method = a_method(parts=lambda loss: {"loss": loss, "each": loss[None]})
    with pytest.raises(AssertionError, match="rank"):
        jax.eval_shape(method.update, start(method), normal_images(), EPOCH)


def feed():
    images = np.asarray(np.round(255 * normal_images(3 * BATCH)), np.uint8)
    return training.feed_of(images, images[:4])


def test_a_preparation_that_changes_the_type_of_the_state():
    def prepare(state, mean_of, epoch):
        return state._replace(memory=state.memory.astype(jnp.int32)), jnp.bool(False)

    method = a_method(prepare=prepare)
    run = jax.eval_shape(partial(training.begin, method), normal_images(), jax.random.key(0))
    with pytest.raises(AssertionError, match="memory"):
        jax.eval_shape(training.epoch_function(method, BATCH, 0), run, feed())


def test_the_step_is_traced_once_for_all_epochs():
    chex.clear_trace_counter()
    plain = a_method()

    @chex.assert_max_traces(n=1)
    def update(state, images, epoch):
        return plain.update(state, images, epoch)

    method = plain._replace(update=update)
    epoch = training.epoch_function(method, BATCH, 0)
    images = feed()
    run = training.start(method, np.asarray(images.images), BATCH, 0)
    for _ in range(3):
        run, parts = epoch(run, images)
        chex.assert_tree_all_finite(parts)
    assert run.epoch == 3
