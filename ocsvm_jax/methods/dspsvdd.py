"""DSPSVDD: a pretrained autoencoder whose latents are drawn to a centre while it goes on.

Deep structure preservation: Zhang and Deng, Anomaly detection using improved deep SVDD model with
data structure preservation, Pattern Recognition Letters 2021.
"""

from typing import Any

import jax.numpy as jnp
import optax

from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import sphere_method
from ocsvm_jax.networks.pair import Network


def dspsvdd(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises mean |z - c|^2 + gamma * mean squared error; scores "distance", |z - c|^2.

    Args:
      network: encoder and decoder; without biases in the encoder.
      optimizer: an Optax transformation.
      settings: with `reconstruction_weight` (gamma of the paper), `pretrain` and `num_epochs`.
    """
    return sphere_method(
        network,
        optimizer,
        settings,
        lambda distances, sphere: jnp.mean(distances),
        reconstruction_weight=settings.reconstruction_weight,
    )
