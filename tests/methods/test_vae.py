import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from support.small import (
    BATCH,
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

from ocsvm_jax.methods.vae import mean_head, next_noise, variational_loss

RATE, KL_WEIGHT = 0.1, 0.1


@functools.cache
def trained(steps=3):
    """A method, its compiled update, and its states and parts after each of some steps."""
    method = built("vae", network("vae"), optax.sgd(RATE), kl_weight=KL_WEIGHT)
    update = jax.jit(method.update)
    state = method.init(normal_images(), jax.random.key(0))
    trail = [(state, None)]
    for _ in range(steps):
        trail.append(update(trail[-1][0], normal_images(), jnp.int32(0)))
    return method, update, trail


def heads(state, images):
    out = encodings(state.params["encoder"], images)
    return out[:, :LATENT], out[:, LATENT:]


def closed_form(mean, log_var):
    """KL of N(mean, exp(log_var)) from N(0, 1) of each image: the sum over its dimensions."""
    return np.sum(mean**2 + np.exp(log_var) - 1 - log_var, axis=1) / 2


def test_held_out_loss_is_the_formula_without_noise():
    method, _, trail = trained()
    state, images = trail[-1][0], normal_images(seed=1)
    mean, log_var = heads(state, images)
    error = squared_errors(images, decodings(state.params["decoder"], mean)).mean()
    expected = error + KL_WEIGHT * closed_form(mean, log_var).mean()
    values = [
        float(method.loss(s, images)) for s in (state, state._replace(memory=state.memory + 1))
    ]
    np.testing.assert_allclose(values[0], expected, rtol=1e-5)
    # Whatever the key: of held-out images nothing is drawn.
    assert values[0] == values[1]


def test_kl_against_an_average_of_log_ratios():
    """KL is the mean of log q(z) - log p(z) over z from q, by SciPy's densities."""
    _, update, trail = trained()
    state, images = trail[-1][0], normal_images(seed=1)
    mean, log_var = heads(state, images)
    kl = float(update(state, images, jnp.int32(0))[1]["kl"])
    std = np.exp(log_var / 2)
    z = mean + std * np.random.default_rng(0).standard_normal((20_000, *mean.shape))
    ratios = stats.norm.logpdf(z, mean, std) - stats.norm.logpdf(z)
    # Of all dimensions together: the densities of a latent are products.
    ratios = ratios.sum(axis=2).mean(axis=1)
    error = ratios.std() / len(z) ** 0.5
    np.testing.assert_allclose(kl, ratios.mean(), atol=5 * error)
    assert 5 * error < 0.05 * kl
    np.testing.assert_allclose(kl, closed_form(mean, log_var).mean(), rtol=1e-5)


def test_loss_of_a_step_is_that_of_a_draw():
    """The decoder sees mean + std * a standard normal draw: the step's error is one of many."""
    _, update, trail = trained()
    state, images = trail[-1][0], normal_images(seed=1)
    mean, log_var = heads(state, images)
    noise = np.random.default_rng(0).standard_normal((500, *mean.shape))
    draws = [
        squared_errors(images, decodings(state.params["decoder"], z)).mean()
        for z in mean + np.exp(log_var / 2) * noise
    ]
    found = []
    for key in range(40):
        memory = jax.random.key_data(jax.random.key(key))
        _, parts = update(state._replace(memory=memory), images, jnp.int32(0))
        found.append(float(parts["reconstruction"]))
        np.testing.assert_allclose(
            parts["loss"], parts["reconstruction"] + KL_WEIGHT * parts["kl"], rtol=1e-6
        )
    assert stats.ks_2samp(found, draws).pvalue > 1e-3
    without = squared_errors(images, decodings(state.params["decoder"], mean)).mean()
    assert np.mean(found) > without + 3 * np.std(found) / len(found) ** 0.5


def test_noise_differs_between_steps():
    _, update, trail = trained()
    memories = [tuple(np.asarray(state.memory)) for state, _ in trail]
    assert len(set(memories)) == len(memories)
    state = trail[0][0]
    errors = set()
    for memory in memories:
        moved = state._replace(memory=jnp.asarray(memory, jnp.uint32))
        errors.add(float(update(moved, normal_images(), jnp.int32(0))[1]["reconstruction"]))
    assert len(errors) == len(memories)


def test_noise_is_not_that_of_the_initial_weights():
    """The draw of the first step, recovered from a decoder that is the identity."""
    net = network("vae")
    drawn = []
    identity = net.decoder._replace(
        apply=lambda p, s, z, train: (drawn.append(z) or jnp.zeros((BATCH, 28, 28, 1), z.dtype), s)
    )
    method = built("vae", net._replace(decoder=identity), optax.sgd(0.0))
    state = method.init(normal_images(), jax.random.key(0))
    variational_loss(
        net._replace(decoder=identity),
        state.params,
        state.stats,
        state.memory,
        normal_images(),
        0.0,
        True,
    )
    mean, log_var = heads(state, normal_images())
    noise = (np.asarray(drawn[-1]) - mean) / np.exp(log_var / 2)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    for part in ("encoder", "decoder"):
        weights = np.asarray(state.params[part]["weights"], np.float64).ravel()
        weights = weights[: noise.size] / weights.std()
        assert abs(np.corrcoef(weights, noise.ravel())[0, 1]) < 0.6, part


def test_keys_do_not_repeat():
    memory, seen = jax.random.key_data(jax.random.key(0)), set()
    for _ in range(100):
        seen.add(tuple(np.asarray(memory)))
        memory = next_noise(memory)
    assert len(seen) == 100


def test_gradient_is_that_of_central_differences():
    """Of the loss of a fixed draw, in float64, through the reparametrised sample."""
    net = network("vae")
    images = normal_images().astype(jnp.float64)
    state = trained()[2][1][0]
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), state.params)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), params)

    @jax.jit
    def along(t):
        moved = jax.tree.map(lambda leaf, d: leaf + t * d, params, direction)
        loss = variational_loss(net, moved, state.stats, state.memory, images, KL_WEIGHT, True)[0]
        return loss

    step = 1e-5
    difference = (along(step) - along(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(along)(0.0), difference, rtol=1e-6)
    assert abs(difference) > 1e-3


@pytest.mark.parametrize("images", [normal_images(seed=1), strange_images()])
def test_score_and_latents_are_of_the_mean(images):
    method, _, trail = trained()
    state = trail[-1][0]
    mean, _ = heads(state, images)
    np.testing.assert_allclose(method.encode(state, images), mean, atol=1e-5)
    scores = method.score(state, images)
    assert set(scores) == {"reconstruction"}
    expected = squared_errors(images, decodings(state.params["decoder"], mean))
    np.testing.assert_allclose(total(scores["reconstruction"]), expected, rtol=1e-5)


def test_mean_head():
    np.testing.assert_array_equal(mean_head(jnp.arange(8.0).reshape(2, 4)), [[0, 1], [4, 5]])
