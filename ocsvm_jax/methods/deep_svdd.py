"""Hard-boundary (one-class) Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018."""

import optax

from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import mean_distance, sphere_method
from ocsvm_jax.networks.pair import Network


def deep_svdd(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    pretrain: float = 0.5,
) -> Method:
    """Minimises mean |z - c|^2; scores "distance", |z - c|^2.

    Args:
      network: encoder and decoder, without biases.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      pretrain: share of the epochs, in [0, 1), that train the autoencoder first; 0 for none.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    return sphere_method(
        network,
        optimizer,
        mean_distance,
        num_epochs=num_epochs,
        pretrain=pretrain,
    )
