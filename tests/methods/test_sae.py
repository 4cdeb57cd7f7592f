import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics.pairwise import paired_cosine_distances
from support.small import (
    BATCH,
    NETWORK,
    built,
    decodings,
    encodings,
    normal_images,
    squared_errors,
)

from ocsvm_jax.methods.sae import cosine, minus_squared_distance

WEIGHT = 0.7


@functools.cache
def build(similarity):
    changes = {"similarity": similarity, "similarity_weight": WEIGHT}
    method = built("sae", NETWORK, optax.sgd(0.1), **changes)
    return method, jax.jit(method.update), method.init(normal_images(), jax.random.key(0))


def similarities(z1, z2, kind):
    if kind == "cosine":
        return 1 - paired_cosine_distances(z1, z2)
    return -np.mean((z1 - z2) ** 2, axis=1)


@pytest.mark.parametrize("kind", ["cosine", "squared"])
def test_loss(kind):
    """Image i is paired with image i + half of the batch."""
    method, update, state = build(kind)
    images = normal_images(seed=1)
    z, half = encodings(state.params["encoder"], images), BATCH // 2
    error = squared_errors(images, decodings(state.params["decoder"], z))
    similarity = similarities(z[:half], z[half:], kind).mean()
    expected = (error[:half].mean() + error[half:].mean()) / 2 - WEIGHT * similarity
    _, parts = update(state, images, jnp.int32(0))
    np.testing.assert_allclose(parts["similarity"], similarity, rtol=1e-5)
    np.testing.assert_allclose(parts["reconstruction"], error.mean(), rtol=1e-5)
    np.testing.assert_allclose(parts["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(method.loss(state, images), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "squared"])
def test_pairs(kind):
    """Exchanging two partners changes the loss; exchanging two whole pairs does not."""
    method, _, state = build(kind)
    loss = jax.jit(method.loss)
    images, half = normal_images(seed=1), BATCH // 2
    order = np.arange(BATCH)
    order[[0, 1, half, half + 1]] = [1, 0, half + 1, half]
    np.testing.assert_allclose(loss(state, images[order]), loss(state, images), rtol=1e-6)
    order[[0, 1]] = [0, 1]
    assert abs(loss(state, images[order]) - loss(state, images)) > 1e-5


MEASURES = {"cosine": cosine, "squared": minus_squared_distance}


@pytest.mark.parametrize("kind", MEASURES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_measures(kind, size):
    z1, z2 = size * np.random.default_rng(0).standard_normal((2, 20, 4))
    np.testing.assert_allclose(
        MEASURES[kind](jnp.asarray(z1), jnp.asarray(z2)), similarities(z1, z2, kind), rtol=1e-3
    )


@pytest.mark.parametrize("kind", MEASURES)
def test_derivative_of_the_measures(kind):
    z1, z2 = np.random.default_rng(0).standard_normal((2, 3, 4))
    value = lambda a: jnp.sum(MEASURES[kind](a, jnp.asarray(z2)))  # noqa: E731
    gradient, step = jax.grad(value)(jnp.asarray(z1)), 1e-6
    for i, j in np.ndindex(z1.shape):
        moved = np.zeros_like(z1)
        moved[i, j] = step
        difference = similarities(z1 + moved, z2, kind) - similarities(z1 - moved, z2, kind)
        np.testing.assert_allclose(gradient[i, j], difference.sum() / (2 * step), atol=1e-8)


@pytest.mark.parametrize("kind", MEASURES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("other", [0.0, 1.0])
def test_at_zero_latents(kind, dtype, other):
    """All latents 0, or those of one half: the cosine has no value there, and no NaN either."""
    z1, z2 = jnp.zeros((3, 4), dtype), jnp.full((3, 4), other, dtype)
    total = lambda a, b: jnp.sum(MEASURES[kind](a, b))  # noqa: E731
    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(z1, z2)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradients)
    assert kind == "squared" or value == 0


def test_black_images_do_not_break_the_training():
    """A linear encoder without trained biases maps them to 0."""
    _, update, state = build("cosine")
    new, parts = update(state, jnp.zeros_like(normal_images()), jnp.int32(0))
    assert np.isfinite(parts["loss"])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(new.params))


def test_without_similarity_it_is_the_autoencoder():
    images, states = normal_images(), []
    for name in ("ae", "sae"):
        method = built(name, NETWORK, optax.sgd(0.1), similarity_weight=0.0)
        state, _ = jax.jit(method.update)(
            method.init(images, jax.random.key(0)), images, jnp.int32(0)
        )
        states.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), *states)


def test_unknown_similarity():
    with pytest.raises(ValueError, match=r"similarity is 'l2'; it is one of \('cosine', "):
        built("sae", NETWORK, optax.sgd(0.1), similarity="l2")
