"""The plain autoencoder: reconstruction error, and a one-class SVM fitted to its latents after."""

from typing import Any

import jax.numpy as jnp
import optax

from ocsvm_jax.methods.base import Forward, Method, autoencoder_method, forward, squared_error
from ocsvm_jax.networks.pair import Network


def ae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises the mean squared error; scores "reconstruction" and "ocsvm" (AE + OCSVM).

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: not used; other methods read theirs from it.
    """
    del settings

    def objective(params, stats, images, epoch, train):
        del epoch
        _, x_hat, stats = forward(network, params, stats, images, train)
        loss = jnp.mean(squared_error(images, x_hat))
        return loss, Forward(stats, {"loss": loss, "reconstruction": loss}, ())

    return autoencoder_method(network, optimizer, objective)
