"""The siamese autoencoder: pairs of images with similar latents (after Alaverdyan et al. 2020)."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.base import (
    Forward,
    Method,
    forward,
    gradient_method,
    reconstruction_score,
    squared_error,
)
from ocsvm_jax.networks.pair import Network

SIMILARITIES = ("cosine", "squared")
_NORM_FLOOR = 1e-8


def sae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises MSE(x1) + MSE(x2) - alpha * similarity(z1, z2); scores "reconstruction".

    Image i of the first half of a batch is paired with image i of the second half.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: with `similarity_weight` (alpha of the paper) and `similarity`: "cosine", or
        "squared" for minus the mean squared difference of the latents, as in the authors' code.

    Raises:
      ValueError: if `similarity` is neither.
    """
    if settings.similarity not in SIMILARITIES:
        raise ValueError(
            f"method.similarity is {settings.similarity!r}; it must be one of {SIMILARITIES}."
        )
    measure = cosine if settings.similarity == "cosine" else minus_squared_distance

    def objective(params, stats, memory, images, epoch, train):
        del memory, epoch
        z, x_hat, stats = forward(network, params, stats, images, train)
        reconstruction = jnp.mean(squared_error(images, x_hat))
        half = z.shape[0] // 2
        similarity = jnp.mean(measure(z[:half], z[half : 2 * half]))
        loss = 2 * reconstruction - settings.similarity_weight * similarity
        parts = {"loss": loss, "reconstruction": reconstruction, "similarity": similarity}
        return loss, Forward(stats, parts, ())

    return gradient_method(network, optimizer, objective, reconstruction_score(network))


def cosine(z1: Float[Array, "n d"], z2: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Cosine of the angle between the latents of each pair."""
    squares = jnp.sum(z1**2, axis=1) * jnp.sum(z2**2, axis=1)
    # The floor stands under the root, which has no derivative at 0.
    return jnp.sum(z1 * z2, axis=1) / jnp.sqrt(squares + _NORM_FLOOR**2)


def minus_squared_distance(z1: Float[Array, "n d"], z2: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Minus the mean over dimensions of the squared difference of each pair."""
    return -jnp.mean((z1 - z2) ** 2, axis=1)
