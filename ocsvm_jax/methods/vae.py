"""The variational autoencoder (Kingma and Welling 2014), with a weight on its KL term."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.arguments import Number, check_weight
from ocsvm_jax.methods.base import (
    Batch,
    Forward,
    Method,
    decoded,
    encoded,
    gradient_method,
    mean_error,
    plain_score,
    squared_error,
)
from ocsvm_jax.methods.noise import key_of_step, next_noise
from ocsvm_jax.networks.pair import Network


def vae(
    network: Network, optimizer: optax.GradientTransformation, *, kl_weight: Number = 0.1
) -> Method:
    """Minimises mean squared error + beta_KL * KL; scores "reconstruction", from the mean.

    The KL divergence of a latent is the sum over its dimensions, as in the paper, while the squared
    error is the mean over pixels.

    Args:
      network: an encoder with twice as many outputs as the decoder has inputs (mean, log-variance).
      optimizer: an Optax transformation.
      kl_weight: beta_KL of the paper, finite and at least 0; may be traced.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_weight("kl_weight", kl_weight)

    def objective(params, stats, memory, images, epoch, train):
        del epoch
        loss, parts, z, stats = variational_loss(
            network, params, stats, memory, images, kl_weight, train
        )
        return loss, Forward(stats, {"loss": loss, **parts}, (), z)

    return gradient_method(
        network,
        optimizer,
        objective,
        mean_reconstruction_score(network),
        encode=mean_head,
        init_memory=lambda params, stats, images, key: jax.random.key_data(key),
        remember=lambda memory, record: next_noise(memory),
    )


def mean_head(heads: Float[Array, "*b d2"]) -> Float[Array, "*b d"]:
    """The means: the first half of the encoder's outputs."""
    return heads[..., : heads.shape[-1] // 2]


def mean_reconstruction_score(network: Network):
    """The score "reconstruction" of the decoded mean, which is deterministic."""

    def score(state, images):
        heads, _ = encoded(network, state.params, state.stats, images, False)
        mean = mean_head(heads)
        x_hat, _ = decoded(network, state.params, state.stats, mean, False)
        return {"reconstruction": plain_score(squared_error(images, x_hat, mean.ndim - 1))}

    return score


def variational_loss(
    network: Network,
    params: Any,
    stats: Any,
    noise: Array,
    images: Batch,
    kl_weight: Number,
    train: bool,
) -> tuple[Float[Array, ""], dict[str, Array], Float[Array, "*b d"], Any]:
    """MSE + kl_weight * KL, its parts, the sampled latents, and the new statistics.

    MSE is the mean over images and pixels; KL, of N(mean, exp(log_var)) from N(0, 1), is the mean
    over images of the sum over latent dimensions. Latents of held-out images are not sampled: they
    are the means.
    """
    heads, encoder_stats = encoded(network, params, stats, images, train)
    mean, log_var = jnp.split(heads, 2, axis=-1)
    z = mean
    if train:
        draw = jax.random.normal(key_of_step(noise), mean.shape, mean.dtype)
        z = mean + jnp.exp(log_var / 2) * draw
    x_hat, decoder_stats = decoded(network, params, stats, z, train)
    reconstruction = mean_error(images, x_hat)
    kl = jnp.mean(jnp.sum(mean**2 + jnp.exp(log_var) - log_var - 1, axis=-1)) / 2
    parts = {"reconstruction": reconstruction, "kl": kl}
    stats = {"encoder": encoder_stats, "decoder": decoder_stats}
    return reconstruction + kl_weight * kl, parts, z, stats
