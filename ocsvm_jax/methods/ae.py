"""The plain autoencoder: its score is the reconstruction error."""

import optax

from ocsvm_jax.methods.base import (
    Error,
    Forward,
    Method,
    Objective,
    forward,
    gradient_method,
    mean_error,
    reconstruction_score,
)
from ocsvm_jax.networks.pair import Network


def ae(network: Network, optimizer: optax.GradientTransformation) -> Method:
    """Minimises the mean squared error; scores "reconstruction".

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
    """
    return gradient_method(network, optimizer, ae_objective(network), reconstruction_score(network))


def ae_objective(network: Network, *, error: Error = mean_error) -> Objective:
    """The objective: reconstruction error alone.

    Args:
      network: encoder and decoder.
      error: `error(images, x_hat) -> ()`.
    """

    def objective(params, stats, memory, images, epoch, train):
        del memory, epoch
        z, x_hat, stats = forward(network, params, stats, images, train)
        loss = error(images, x_hat)
        return loss, Forward(stats, {"loss": loss, "reconstruction": loss}, (), z)

    return objective
