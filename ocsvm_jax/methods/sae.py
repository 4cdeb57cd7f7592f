"""The siamese autoencoder: pairs of images get similar latents (after Alaverdyan et al. 2020)."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.arguments import Number, check_weight, one_of
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

_NORM_FLOOR = 1e-8


def sae(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    similarity_weight: Number = 0.1,
    similarity: str = "cosine",
) -> Method:
    """Minimises (MSE(x1) + MSE(x2)) / 2 - alpha * similarity(z1, z2); scores "reconstruction".

    Image i of the first half of a batch is paired with image i of the second half.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      similarity_weight: alpha of the paper, finite and at least 0; may be traced.
      similarity: "cosine", or "squared" for minus the mean squared difference of the latents, as in
        the authors' code.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    objective = sae_objective(network, similarity_weight=similarity_weight, similarity=similarity)
    return gradient_method(network, optimizer, objective, reconstruction_score(network))


def sae_objective(
    network: Network,
    *,
    similarity_weight: Number,
    similarity: str = "cosine",
    error: Error = mean_error,
) -> Objective:
    """The objective of `sae`; for latents (*locations, b, d), all locations weigh the same.

    Args:
      network: encoder and decoder.
      similarity_weight: as in `sae`.
      similarity: as in `sae`.
      error: of a batch and its reconstruction.
    """
    check_weight("similarity_weight", similarity_weight)
    one_of(tuple(_SIMILARITIES))("similarity", similarity)
    measure = _SIMILARITIES[similarity]

    def objective(params, stats, memory, images, epoch, train):
        del memory, epoch
        z, x_hat, stats = forward(network, params, stats, images, train)
        reconstruction = error(images, x_hat)
        half = z.shape[-2] // 2
        first = z[..., :half, :].reshape(-1, z.shape[-1])
        second = z[..., half : 2 * half, :].reshape(-1, z.shape[-1])
        alike = jnp.mean(measure(first, second))
        # The mean over the batch is half of MSE(x1) + MSE(x2), which is what alpha is weighed by.
        loss = reconstruction - similarity_weight * alike
        parts = {"loss": loss, "reconstruction": reconstruction, "similarity": alike}
        return loss, Forward(stats, parts, (), z)

    return objective


def cosine(z1: Float[Array, "n d"], z2: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Cosine similarity of each pair of latents."""
    squares = jnp.sum(z1**2, axis=1) * jnp.sum(z2**2, axis=1)
    # The floor goes under the root, which has no derivative at 0.
    return jnp.sum(z1 * z2, axis=1) / jnp.sqrt(squares + _NORM_FLOOR**2)


def minus_squared_distance(z1: Float[Array, "n d"], z2: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Minus the squared difference of each pair, averaged over dimensions."""
    return -jnp.mean((z1 - z2) ** 2, axis=1)


_SIMILARITIES = {"cosine": cosine, "squared": minus_squared_distance}
