import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import (
    LATENT,
    built,
    decodings,
    encodings,
    network,
    normal_images,
    squared_errors,
    strange_images,
    total,
)

from ocsvm_jax.methods.dvaesvdd import Memory, _remember

ALPHA, KL_WEIGHT = 0.5, 0.3


@functools.cache
def build(rate=0.0):
    """A method, its compiled update and a first state; without learning by default."""
    net = network("dvaesvdd")
    method = built("dvaesvdd", net, optax.sgd(rate), vae_weight=ALPHA, kl_weight=KL_WEIGHT)
    return method, jax.jit(method.update), method.init(normal_images(), jax.random.key(0))


def heads(state, images):
    out = encodings(state.params["encoder"], images)
    return out[:, :LATENT], out[:, LATENT:]


def test_held_out_loss():
    """alpha (MSE + beta KL) + |z - c|^2 / d with z the means and c their mean, by NumPy."""
    method, _, state = build()
    images = normal_images(seed=1)
    mean, log_var = heads(state, images)
    error = squared_errors(images, decodings(state.params["decoder"], mean)).mean()
    kl = np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1).mean() / 2
    distance = np.mean((mean - mean.mean(axis=0)) ** 2)
    expected = ALPHA * (error + KL_WEIGHT * kl) + distance
    np.testing.assert_allclose(method.loss(state, images), expected, rtol=1e-5)


def test_loss_of_a_step():
    """The distance of drawn latents: its expectation has a closed form.

    Of n independent z_i of means mu_i and variances v_i, mean |z_i - mean z|^2 / d has the
    expectation mean |mu_i - mean mu|^2 / d + (1 - 1/n) mean v_i.
    """
    _, update, state = build()
    images = normal_images(seed=1)
    mean, log_var = heads(state, images)
    expected = np.mean((mean - mean.mean(axis=0)) ** 2)
    expected += (1 - 1 / len(mean)) * np.mean(np.exp(log_var))
    distances = []
    for key in range(200):
        noise = jax.random.key_data(jax.random.key(key))
        memory = state.memory._replace(noise=noise)
        _, parts = update(state._replace(memory=memory), images, jnp.int32(0))
        variational = parts["reconstruction"] + KL_WEIGHT * parts["kl"]
        np.testing.assert_allclose(
            parts["loss"], ALPHA * variational + parts["distance"], rtol=1e-5
        )
        distances.append(float(parts["distance"]))
    error = np.std(distances) / len(distances) ** 0.5
    np.testing.assert_allclose(np.mean(distances), expected, atol=4 * error)
    assert 4 * error < 0.1 * expected


def test_centre_of_the_score_is_a_moving_average():
    """The plain mean of the first hundred centres; then a hundredth of each new one enters."""
    centres = np.random.default_rng(0).standard_normal((150, LATENT))
    noise = jax.random.key_data(jax.random.key(0))
    memory = Memory(noise, jnp.zeros(LATENT, jnp.float64), jnp.int32(0))
    remember = jax.jit(_remember)
    for step, centre in enumerate(centres):
        memory = remember(memory, jnp.asarray(centre))
        if step < 100:
            expected = centres[: step + 1].mean(axis=0)
        else:
            expected = 0.99 * expected + 0.01 * centre
        np.testing.assert_allclose(memory.centre, expected, atol=1e-12)
    assert memory.steps == 150


def test_centre_is_that_of_the_drawn_latents():
    """Over a hundred steps without learning, it is the mean of the means but for the noise."""
    _, update, state = build()
    images = normal_images(seed=1)
    mean, log_var = heads(state, images)
    error = np.sqrt(np.exp(log_var).mean(axis=0) / len(mean))
    moved, singles = state, []
    for key in range(100):
        moved, _ = update(moved, images, jnp.int32(0))
        memory = state.memory._replace(noise=jax.random.key_data(jax.random.key(key)))
        single, _ = update(state._replace(memory=memory), images, jnp.int32(0))
        singles.append((np.asarray(single.memory.centre) - mean.mean(axis=0)) / error)
    assert np.all(np.abs(np.asarray(moved.memory.centre) - mean.mean(axis=0)) < 0.5 * error)
    # Of a single step it is off by what the noise of its latents amounts to.
    np.testing.assert_allclose(np.std(singles, axis=0), np.ones(LATENT), atol=0.25)


@pytest.mark.parametrize("images", [normal_images(seed=1), strange_images()])
def test_scores(images):
    """|mu - c|^2 / d, and the error of the decoded mean: nothing is drawn."""
    method, update, state = build(rate=0.01)
    for _ in range(3):
        state, _ = update(state, normal_images(), jnp.int32(0))
    scores = method.score(state, images)
    assert set(scores) == {"distance", "reconstruction"}
    mean, _ = heads(state, images)
    distance = np.mean((mean - np.asarray(state.memory.centre, np.float64)) ** 2, axis=1)
    np.testing.assert_allclose(total(scores["distance"]), distance, rtol=1e-4)
    error = squared_errors(images, decodings(state.params["decoder"], mean))
    np.testing.assert_allclose(total(scores["reconstruction"]), error, rtol=1e-5)
    np.testing.assert_allclose(method.encode(state, images), mean, atol=1e-5)


def test_noise_differs_between_steps():
    _, update, state = build()
    found = set()
    for _ in range(5):
        state, parts = update(state, normal_images(), jnp.int32(0))
        found.add(float(parts["distance"]))
    assert len(found) == 5
