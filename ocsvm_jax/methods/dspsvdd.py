"""DSPSVDD: a pretrained autoencoder, trained further while its latents are drawn to a centre.

Source: Zhang and Deng, Anomaly detection using improved deep SVDD model with
data structure preservation, Pattern Recognition Letters 2021.
"""

import optax

from ocsvm_jax.methods.arguments import Number, check_weight
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import mean_distance, sphere_method
from ocsvm_jax.networks.pair import Network


def dspsvdd(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    pretrain: float = 0.5,
    reconstruction_weight: Number = 1.0,
) -> Method:
    """Minimises mean |z - c|^2 + gamma * mean squared error; scores "distance", |z - c|^2.

    Args:
      network: encoder and decoder, without biases.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      pretrain: share of the epochs, in [0, 1), that train the autoencoder first; 0 for none.
      reconstruction_weight: gamma of the paper, finite and at least 0; may be traced.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_weight("reconstruction_weight", reconstruction_weight)
    return sphere_method(
        network,
        optimizer,
        mean_distance,
        num_epochs=num_epochs,
        pretrain=pretrain,
        reconstruction_weight=reconstruction_weight,
    )
