"""Soft-boundary Deep SVDD: Ruff et al., Deep One-Class Classification, ICML 2018, equation (3)."""

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.hypersphere import Sphere, pretraining_epochs, sphere_method
from ocsvm_jax.networks.pair import Network


def soft_deep_svdd(
    network: Network, optimizer: optax.GradientTransformation, settings: Any
) -> Method:
    """Minimises R^2 + 1/nu * mean(max(0, |z - c|^2 - R^2)); scores "distance", |z - c|^2.

    Network and radius take turns: after each gradient step R^2 becomes the (1 - nu)-quantile of the
    batch's squared distances, near which the loss is smallest in R. It stays 0 during the first
    half of the epochs after the pretraining, so that the boundary is not set on distances that
    still fall steeply. The radius is the same for all images, so it does not enter the score.

    Args:
      network: encoder and decoder; without biases in the encoder.
      optimizer: an Optax transformation.
      settings: with `nu` in (0, 1], `pretrain` and `num_epochs`.
    """
    before = pretraining_epochs(settings)
    warm_up = before + (settings.num_epochs - before) // 2

    def loss_of(distances: Float[Array, " b"], sphere: Sphere) -> Float[Array, ""]:
        excess = jnp.maximum(distances - sphere.squared_radius, 0)
        return sphere.squared_radius + jnp.mean(excess) / settings.nu

    def remember(sphere: Sphere, distances: Float[Array, " b"], epoch: Array) -> Sphere:
        quantile = jnp.quantile(distances, jnp.asarray(1 - settings.nu, distances.dtype))
        radius = jnp.where(epoch >= warm_up, quantile, sphere.squared_radius)
        return sphere._replace(squared_radius=radius)

    return sphere_method(network, optimizer, settings, loss_of, remember=remember, warm_up=warm_up)
