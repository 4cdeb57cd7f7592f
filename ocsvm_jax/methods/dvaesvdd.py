"""DVAESVDD: a variational autoencoder whose latents are drawn together.

Source: Zhou et al., VAE-based Deep SVDD for anomaly detection, Neurocomputing 2021.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ocsvm_jax.methods.arguments import Number, check_weight
from ocsvm_jax.methods.base import Forward, Method, encoded, gradient_method, plain_score
from ocsvm_jax.methods.noise import next_noise
from ocsvm_jax.methods.vae import (
    mean_head,
    mean_reconstruction_score,
    variational_loss,
)
from ocsvm_jax.networks.pair import Network

_MEMORY_OF_CENTRES = 100


class Memory(NamedTuple):
    """State kept between steps.

    Attributes:
      noise: key data of the next step's random key.
      centre: (d,) moving average of the batch centres.
      steps: () number of steps taken.
    """

    noise: Array
    centre: Float[Array, " d"]
    steps: Int[Array, ""]


def dvaesvdd(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    vae_weight: Number = 1.0,
    kl_weight: Number = 0.1,
) -> Method:
    """Minimises alpha * (MSE + beta_KL * KL) + |z - c|^2; scores "distance", |mu - c|^2.

    Both squared distances are the mean over the latent dimensions, as in the authors' code; KL is
    the sum over them, as in `vae`. The centre c of a step is the mean of the batch's sampled
    latents z; the score uses its average over about the last hundred steps. The score
    "reconstruction" is that of the variational autoencoder.

    Args:
      network: an encoder with twice as many outputs as the decoder has inputs (mean, log-variance);
        neither with biases.
      optimizer: an Optax transformation.
      vae_weight: alpha of the paper, finite and at least 0; may be traced.
      kl_weight: beta_KL of the paper, finite and at least 0; may be traced.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_weight("vae_weight", vae_weight)
    check_weight("kl_weight", kl_weight)

    def objective(params, stats, memory, images, epoch, train):
        del epoch
        variational, parts, z, stats = variational_loss(
            network, params, stats, memory.noise, images, kl_weight, train
        )
        centre = jnp.mean(z, axis=0)
        distance = jnp.mean(_distance(z, centre))
        loss = vae_weight * variational + distance
        parts = {"loss": loss, **parts, "distance": distance}
        return loss, Forward(stats, parts, jax.lax.stop_gradient(centre), z)

    reconstruction = mean_reconstruction_score(network)

    def score(state, images):
        heads, _ = encoded(network, state.params, state.stats, images, False)
        distance = _distance(mean_head(heads), state.memory.centre)
        return {"distance": plain_score(distance), **reconstruction(state, images)}

    def init_memory(params, stats, images, key):
        heads = jax.eval_shape(lambda: encoded(network, params, stats, images, False)[0])
        centre = jnp.zeros(heads.shape[1] // 2, heads.dtype)
        return Memory(jax.random.key_data(key), centre, jnp.int32(0))

    return gradient_method(
        network,
        optimizer,
        objective,
        score,
        encode=mean_head,
        init_memory=init_memory,
        remember=_remember,
    )


def _distance(z: Float[Array, "b d"], centre: Float[Array, " d"]) -> Float[Array, " b"]:
    """|z - c|^2 / d for each latent."""
    return jnp.mean((z - centre[None, :]) ** 2, axis=1)


def _remember(memory: Memory, centre: Float[Array, " d"]) -> Memory:
    # A plain mean of all centres until there are _MEMORY_OF_CENTRES of them.
    steps = memory.steps + 1
    share = 1 / jnp.minimum(steps, _MEMORY_OF_CENTRES).astype(centre.dtype)
    moved = memory.centre + share * (centre - memory.centre)
    return Memory(next_noise(memory.noise), moved, steps)
