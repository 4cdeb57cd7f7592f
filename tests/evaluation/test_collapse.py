"""The collapse guard, on made-up scores and on models that are trained until they collapse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import built

from ocsvm_jax.evaluation import collapse, scores
from ocsvm_jax.networks.pair import Network, stateless
from ocsvm_jax.training import epoch as training

N, LATENT, BATCH, EPOCHS = 1000, 4, 20, 300


def rng():
    return np.random.default_rng(0)


def healthy_scores():
    return rng().chisquare(LATENT, N)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_scale_does_not_matter(scale):
    scores, sizes = scale * healthy_scores(), scale * np.full(N, 5.0)
    assert not collapse.collapsed(scores)
    assert not collapse.collapsed(scores, sizes)
    assert collapse.collapsed(scale * (1 + 1e-6 * healthy_scores()))
    assert collapse.collapsed(scale * 1e-14 * healthy_scores(), sizes)
    np.testing.assert_allclose(collapse.spread(scores), collapse.spread(healthy_scores()))


@pytest.mark.parametrize("constant", [0.0, 1.0, -3.0, 1e-20])
def test_constant_scores(constant):
    assert collapse.collapsed(np.full(N, constant))
    assert collapse.collapsed(np.full(N, constant), np.ones(N))
    assert collapse.spread(np.full(N, constant)) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite(broken):
    scores = healthy_scores()
    scores[7] = broken
    assert collapse.collapsed(scores)


def test_rounding_of_float32_around_the_centre():
    """Relative to one another the distances differ a lot: their spread alone would look healthy."""
    centre = np.array([0.3, -0.2, 1.7, 0.1])
    z = np.float32(centre * (1 + 3e-8 * rng().standard_normal((N, LATENT))))
    scores = np.sum((z - np.float32(centre)) ** 2, axis=1, dtype=np.float32)
    sizes = np.sum(z.astype(np.float64) ** 2, axis=1)
    assert np.any(scores > 0)
    assert collapse.collapsed(scores, sizes)
    # The sum of a network's last layer is rounded many times.
    z = np.float64(centre) * (1 + 2e-6 * rng().standard_normal((N, LATENT)))
    scores = np.sum((z - centre) ** 2, axis=1)
    assert collapse.spread(scores) > 0.1
    assert collapse.collapsed(scores, sizes)
    assert not collapse.collapsed(1e4 * scores, sizes)


def test_a_few_strange_scores_do_not_hide_a_collapse():
    scores = np.ones(N)
    scores[: N // 10] = 100 * healthy_scores()[: N // 10]
    assert collapse.collapsed(scores)


@pytest.mark.parametrize("normal", [0.4, 0.6])
def test_a_perfect_detector_has_not_collapsed(normal):
    """Normal images at the centre up to rounding, the others far from it."""
    scores, sizes = healthy_scores(), np.ones(N)
    scores[: int(normal * N)] *= 1e-14
    assert not collapse.collapsed(scores, sizes)


def test_spread_is_that_of_the_definition():
    scores = rng().normal(5, 1, N)
    # Quartiles of a normal distribution lie 0.6745 deviations from the mean.
    assert collapse.spread(scores) == pytest.approx(2 * 0.6745 / 5, rel=0.1)
    assert collapse.spread(-scores) == pytest.approx(collapse.spread(scores))


def brightness_network(bias):
    """An encoder that sees an image's mean alone: with a bias, all images can share a latent."""

    def init(key, x):
        weights = jax.random.normal(key, (LATENT,), jnp.float32)
        return {"weights": weights} | ({"bias": jnp.zeros(LATENT, jnp.float32)} if bias else {})

    def encode(params, x):
        z = jnp.mean(x, axis=(1, 2, 3))[:, None] * params["weights"][None, :]
        return z + params["bias"][None, :] if bias else z

    def decode(params, z):
        return jnp.zeros((z.shape[0], 28, 28, 1), z.dtype) + params["grey"]

    decoder = stateless(lambda key, z: {"grey": jnp.zeros((1, 1, 1, 1), jnp.float32)}, decode)
    return Network(stateless(init, encode), decoder)


def images(low, high, seed):
    """Uniformly grey images, from dark to bright."""
    levels = np.random.default_rng(seed).uniform(low, high, (3 * BATCH, 1, 1, 1))
    return np.broadcast_to(levels, (3 * BATCH, 28, 28, 1)).astype(np.uint8)


NORMAL, ANOMALOUS = images(0, 200, 0), images(230, 255, 1)


@functools.cache
def trained(name, bias, epochs=EPOCHS):
    """A method trained on normal images, and its scores of images of both kinds with |z|^2."""
    changes = {"nu": 0.8, "pretrain": 0.0, "num_epochs": epochs, "reconstruction_weight": 1.0}
    method = built(name, brightness_network(bias), optax.sgd(0.5), **changes)
    run = training.start(method, NORMAL, BATCH, 0)
    epoch = training.epoch_function(method, BATCH, 0)
    feed = training.feed_of(NORMAL, NORMAL)
    for _ in range(epochs):
        run, parts = epoch(run, feed)
    assert np.isfinite(parts["loss"])
    both = np.concatenate([NORMAL, ANOMALOUS])
    seen = scores.see(scores.model_of(method, run.state), both)
    z = seen.z.astype(np.float64)
    return seen.own["distance"], np.sum(z**2, axis=1), z


@pytest.mark.parametrize("name", ["deep_svdd", "soft_deep_svdd", "dspsvdd"])
def test_an_encoder_with_biases_collapses(name):
    """Training ends where every image, seen or not, normal or not, is at the centre."""
    scores, sizes, z = trained(name, bias=True)
    assert np.max(np.ptp(z, axis=0)) < 1e-3 * np.sqrt(np.mean(sizes))
    assert collapse.collapsed(scores, sizes)


@pytest.mark.parametrize("name", ["deep_svdd", "soft_deep_svdd", "dspsvdd"])
def test_without_biases_it_does_not(name):
    """The same network, training and images: this is why the methods' encoders have none."""
    scores, sizes, _ = trained(name, bias=False)
    assert not collapse.collapsed(scores, sizes)
    assert np.median(scores[len(NORMAL) :]) > 2 * np.median(scores[: len(NORMAL)])


def test_with_biases_it_is_a_matter_of_time():
    """After one epoch, the run that will collapse has not."""
    scores, sizes, _ = trained("deep_svdd", bias=True, epochs=1)
    assert not collapse.collapsed(scores, sizes)


def test_weights_of_zero_beside_a_bias():
    """Nothing trained: all latents are the bias, wherever the centre is."""
    z = np.zeros((N, LATENT)) + np.array([0.5, 0.0, 1.0, 0.2])
    for centre in (z[0], z[0] + 0.3):
        scores = np.sum((z - centre) ** 2, axis=1)
        assert collapse.collapsed(scores, np.sum(z**2, axis=1))
