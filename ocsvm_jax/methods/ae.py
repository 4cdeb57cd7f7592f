"""The plain autoencoder: reconstruction error, and a one-class SVM fitted to its latents after."""

from typing import Any

import jax.numpy as jnp
import optax

from ocsvm_jax.methods.base import (
    Forward,
    Method,
    forward,
    gradient_method,
    reconstruction_score,
    squared_error,
)
from ocsvm_jax.networks.pair import Network


def ae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises the mean squared error; scores "reconstruction".

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: not used; other methods read theirs from it.
    """
    del settings

    def objective(params, stats, memory, images, epoch, train):
        del memory, epoch
        _, x_hat, stats = forward(network, params, stats, images, train)
        loss = jnp.mean(squared_error(images, x_hat))
        return loss, Forward(stats, {"loss": loss, "reconstruction": loss}, ())

    return gradient_method(network, optimizer, objective, reconstruction_score(network))
