"""The derivation of docs/guidance.md: the guidance rewards fewer dimensions of the latents."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ocsvm_jax.guidance import guidance_loss

B, D, NU = 100, 32, 0.03


def eigenvalues(correlation):
    """Of the (d, d) matrix with ones on its diagonal and the correlation elsewhere."""
    return np.array([1 + (D - 1) * correlation] + [1 - correlation] * (D - 1))


def expected_kernel(gamma, values):
    return np.prod((1 + 4 * gamma * values) ** -0.5)


def latents(correlation, count=20):
    own, common = jax.random.split(jax.random.key(0))
    z = np.sqrt(1 - correlation) * jax.random.normal(own, (count, B, D))
    return z + np.sqrt(correlation) * jax.random.normal(common, (count, B, 1))


@jax.jit
def mean_guidance(z, gamma):
    return jnp.mean(jax.vmap(lambda z: guidance_loss(z, nu=NU, gamma=gamma)[0])(z))


@pytest.mark.parametrize("correlation", [0.0, 0.6])
@pytest.mark.parametrize("gamma", [0.1, 0.01])
def test_the_mean_kernel_of_gaussian_points(gamma, correlation):
    """The product over the eigenvalues against a mean over a million pairs."""
    rng = np.random.default_rng(0)
    R = np.full((D, D), correlation) + (1 - correlation) * np.eye(D)
    x, y = (rng.multivariate_normal(np.zeros(D), R, size=1000) for _ in range(2))
    distances = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * x @ y.T
    found = expected_kernel(gamma, eigenvalues(correlation))
    np.testing.assert_allclose(found, np.mean(np.exp(-gamma * distances)), rtol=0.05)


@pytest.mark.parametrize("gamma", [0.1, 1 / 64, 0.01])
def test_the_guidance_falls_with_the_dimensions(gamma):
    """And stays below n_sv (1 - E k); with independent dimensions and gamma .1 it is near it."""
    correlations = (0.0, 0.6, 0.9, 0.99)
    found = [float(mean_guidance(latents(c), gamma)) for c in correlations]
    assert np.all(np.diff(found) < -0.1 * found[0])
    estimates = [B / 2 * (1 - expected_kernel(gamma, eigenvalues(c))) for c in correlations]
    assert np.all(np.array(found) < estimates)
    if gamma == 0.1:
        np.testing.assert_allclose(found[0], estimates[0], rtol=0.05)


def test_a_small_gamma_has_no_guidance():
    values = [float(mean_guidance(latents(c), 0.001)) for c in (0.0, 0.6, 0.99)]
    assert max(values) < 0.06 * B / 2


def test_an_encoder_that_descends_the_guidance_loses_its_dimensions():
    """A linear one of independent Gaussian inputs, new in each step."""
    adam = optax.adam(0.05)

    def step(carry, key):
        W, state = carry
        x = jax.random.normal(key, (B, D))
        gradient = jax.grad(lambda W: guidance_loss(x @ W, nu=NU, gamma=0.1)[0])(W)
        updates, state = adam.update(gradient, state, W)
        return (optax.apply_updates(W, updates), state), None

    W = jnp.eye(D)
    keys = jax.random.split(jax.random.key(1), 100)
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        (W, _), _ = jax.jit(partial(jax.lax.scan, step))((W, adam.init(W)), keys)
    correlations = np.corrcoef(np.asarray(jax.random.normal(keys[0], (5000, D)) @ W).T)
    assert D**2 / np.sum(correlations**2) < 4
