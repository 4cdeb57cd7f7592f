"""Soft-boundary Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018, equation (3)."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.arguments import Number, check_nu
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import Sphere, pretraining_epochs, sphere_method
from ocsvm_jax.networks.pair import Network


def soft_deep_svdd(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    pretrain: float = 0.5,
    nu: Number = 0.03,
) -> Method:
    """Minimises R^2 + 1/nu * mean(max(0, |z - c|^2 - R^2)); scores "distance", |z - c|^2.

    Network and radius are updated in turn: after each gradient step R^2 is set to the
    (1 - nu)-quantile of the batch's squared distances, which nearly minimises the loss in R. It
    stays 0 during the first half of the epochs after pretraining, so that the boundary is not set
    while distances still fall steeply. The radius is the same for all images and is left out of the
    score.

    Args:
      network: encoder and decoder, without biases.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      pretrain: share of the epochs, in [0, 1), that train the autoencoder first; 0 for none.
      nu: in (0, 1]; may be traced.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_nu("nu", nu)
    before = pretraining_epochs(pretrain, num_epochs)

    def loss_of(distances: Float[Array, " b"], sphere: Sphere) -> Float[Array, ""]:
        excess = jnp.maximum(distances - sphere.squared_radius, 0)
        return sphere.squared_radius + jnp.mean(excess) / nu

    warm_up = before + (num_epochs - before) // 2

    def remember(sphere: Sphere, distances: Float[Array, " b"], epoch: Array) -> Sphere:
        quantile = jnp.quantile(distances, jnp.asarray(1 - nu, distances.dtype))
        radius = jnp.where(epoch >= warm_up, quantile, sphere.squared_radius)
        return sphere._replace(squared_radius=radius)

    return sphere_method(
        network,
        optimizer,
        loss_of,
        num_epochs=num_epochs,
        pretrain=pretrain,
        remember=remember,
        warm_up=warm_up,
    )
