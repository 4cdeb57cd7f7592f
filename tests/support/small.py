"""A network, images and settings that are small enough to compile and train in a test."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.methods.base import Score
from ocsvm_jax.networks.pair import Network, Pair, stateless

BATCH, LATENT = 12, 3


def total(score: Score) -> np.ndarray:
    """A score from its two parts, as the host adds them."""
    return np.asarray(score.values, np.float64) + np.asarray(score.offset, np.float64)


def dense(
    output_shape: tuple[int, ...], activation: Callable[[jax.Array], jax.Array], bias: bool = True
) -> Pair:
    """One dense layer, written as two plain functions."""
    features = int(np.prod(output_shape))

    def init(key, x):
        size = int(np.prod(x.shape[1:]))
        weights = jax.random.normal(key, (size, features), jnp.float32) / size**0.5
        return {"weights": weights} | ({"bias": jnp.zeros(features, jnp.float32)} if bias else {})

    def apply(params, x):
        y = x.reshape(x.shape[0], -1) @ params["weights"]
        if bias:
            y = y + params["bias"][None, :]
        return activation(y).reshape(-1, *output_shape)

    return stateless(init, apply)


def network(name: str) -> Network:
    """A linear encoder as the recipe of this method asks for, and a decoder.

    The decoder always has biases, unlike that of some recipes: from three latents alone it could
    not make most pixels dark.
    """
    recipe = METHODS[name]
    encoder = dense((recipe.heads * LATENT,), lambda y: y, recipe.bias)
    return Network(encoder, DECODER)


DECODER = dense((28, 28, 1), jax.nn.sigmoid)
NETWORK = network("ae")


def adam(learning_rate: float) -> optax.GradientTransformation:
    """Optax's Adam raises a float to an integer power, which strict dtype promotion forbids."""
    plain = optax.adam(learning_rate)

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return plain.update(updates, state, params)

    return optax.GradientTransformation(plain.init, update)


# Of every method, those of the experiments but for a short memory and a large nu.
SETTINGS = {
    "guidance_weight": 0.01,
    "nu": 0.4,
    "gamma": 0.1,
    "kernel": "rbf",
    "standardize": True,
    "differentiate_dual": True,
    "schedule": "two_phase",
    "betas": (1.0, 0.0),
    "betas_second": (1.0, 1.0),
    "last_m": 4,
    "num_epochs": 10,
    "turned_weight": 0.01,
    "edited_weight": 0.01,
    "edits": ("turned",),
    "convolved": 0.5,
    "stretch": True,
    "kl_weight": 0.01,
    "similarity": "cosine",
    "similarity_weight": 0.1,
    "pretrain": 0.0,
    "radius": "trained",
    "reconstruction_weight": 1.0,
    "vae_weight": 1.0,
}


def built(
    name: str, net: Network, optimizer: optax.GradientTransformation, **changes: Any
) -> Method:
    """A registered method with those of `SETTINGS`, and of the changes, that are its arguments."""
    assert changes.keys() <= SETTINGS.keys()
    build = METHODS[name].build
    taken = inspect.signature(build).parameters
    return build(net, optimizer, **{k: v for k, v in (SETTINGS | changes).items() if k in taken})


def normal_images(n: int = BATCH, seed: int = 0) -> jax.Array:
    """(n, 28, 28, 1) two bright bars of varying strength."""
    strength = np.random.default_rng(seed).uniform(0.2, 0.9, (n, 2))
    images = np.zeros((n, 28, 28, 1))
    images[:, 4:10] += strength[:, 0, None, None, None]
    images[:, 18:24] += strength[:, 1, None, None, None]
    return jnp.asarray(images, jnp.float32)


def encodings(params, images) -> np.ndarray:
    """What the linear encoder makes of images, by NumPy in float64."""
    x = np.asarray(images, np.float64).reshape(len(images), -1)
    return x @ np.asarray(params["weights"], np.float64) + np.asarray(params.get("bias", 0.0))


def decodings(params, z) -> np.ndarray:
    """What the decoder makes of latents, by NumPy in float64."""
    y = z @ np.asarray(params["weights"], np.float64) + np.asarray(params["bias"], np.float64)
    return (1 / (1 + np.exp(-y))).reshape(-1, 28, 28, 1)


def squared_errors(images, x_hat) -> np.ndarray:
    """Mean squared error of each image, by NumPy in float64."""
    return np.mean((np.asarray(images, np.float64) - x_hat) ** 2, axis=(1, 2, 3))


def strange_images(n: int = BATCH) -> jax.Array:
    """The bars where no normal image has them, and as bright as can be."""
    return jnp.zeros((n, 28, 28, 1), jnp.float32).at[:, :, 10:18].set(1)
