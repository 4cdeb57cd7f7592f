"""Hard-boundary (one-class) Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018."""

from typing import Any

import jax.numpy as jnp
import optax

from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import sphere_method
from ocsvm_jax.networks.pair import Network


def deep_svdd(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises mean |z - c|^2; scores "distance", |z - c|^2.

    Args:
      network: encoder and decoder; without biases in the encoder.
      optimizer: an Optax transformation.
      settings: with `pretrain` (share of the epochs that train the autoencoder first, 0 for none)
        and `num_epochs`.
    """
    return sphere_method(
        network, optimizer, settings, lambda distances, sphere: jnp.mean(distances)
    )
