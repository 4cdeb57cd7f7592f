"""Turned OgAE, beyond the paper: guidance that also tells an image from itself turned around.

The score of an image under a corruption never seen moves with the corruption more than with the
digit. What the same image scores when it is turned by 180 degrees moves with it, so the difference
of the two, the contrast, hardly does (`ocsvm_jax.evaluation.contrast`). The third term of this loss
makes the one-class SVM of the batch prefer the upright images. The idea of turned images as made
anomalies is that of Golan and El-Yaniv, Deep Anomaly Detection Using Geometric Transformations,
NeurIPS 2018.

On MNIST-C the third term alone is better than together with the guidance of equation (7)
(benchmarks/RESULTS.md): set `guidance_weight` to 0 for that.

It needs images that have an upright: classes that look the same turned around (0, 8) as normal ones
leave it nothing to learn.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.arrays.distances import squared_distances
from ocsvm_jax.guidance import Halves, misfit, remembered, solve_halves
from ocsvm_jax.methods.base import Forward, Method, decoded, encoded, squared_error
from ocsvm_jax.methods.ogae import guidance_settings, guided_method
from ocsvm_jax.methods.turning import half_turn, stretch
from ocsvm_jax.networks.pair import Network, Pair

# Keeps the logarithm of a kernel sum finite: no alpha enters it as 0.
_ALPHA_FLOOR = 1e-12


def turned_ogae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises mean squared error + lambda * guidance + lambda_T * log-odds of the turned images.

    With e(z) = sum_j alpha_j k(z_sv,j, z), the one-class SVM of the batch before rho, and z_T the
    latents of the images of z_L turned by 180 degrees, the third term is

        mean_i log(1 + e(z_T,i) / e(z_L,i))

    A batch of the images of z_sv, of z_L and of z_T is encoded at once, in training with common
    batch statistics; z_T is standardised by the statistics of z_L. Only upright images are
    reconstructed. Scores as `ogae`.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: those of `ogae`, with a number as `gamma`; `turned_weight` (lambda_T); `stretch`,
        whether each image is first scaled from its own minimum and maximum to 0 and 1.

    Raises:
      ValueError: if `gamma` is no number.
    """
    if isinstance(settings.gamma, str):
        raise ValueError(
            f"method.gamma is {settings.gamma!r}; turned_ogae needs a number: the log-odds are "
            "those of an RBF kernel of one width."
        )
    if settings.stretch:
        network = Network(_stretching(network.encoder), network.decoder)

    def terms(params, stats, images, betas, train):
        half = images.shape[0] // 2
        both = jnp.concatenate([images, half_turn(images[half : 2 * half])])
        latents, encoder_stats = encoded(network, params, stats, both, train)
        z, z_turned = latents[: 2 * half], latents[2 * half :]
        x_hat, decoder_stats = decoded(network, params, stats, z, train)
        # The encoder stretches what it is given; what it is to give back is stretched here.
        target = stretch(images) if settings.stretch else images
        reconstruction = jnp.mean(squared_error(target, x_hat))
        halves = solve_halves(z, kernel=None, betas=betas, **guidance_settings(settings))
        guidance, num_outside = misfit(halves)
        turned = turned_log_odds(halves, z_turned)
        loss = reconstruction + settings.guidance_weight * guidance
        loss = loss + settings.turned_weight * turned
        parts = {
            "reconstruction": reconstruction,
            "guidance": guidance,
            "turned": turned,
            "outside": num_outside / half,
        }
        stats = {"encoder": encoder_stats, "decoder": decoder_stats}
        aux = jax.lax.stop_gradient(remembered(halves, num_outside))
        return loss, Forward(stats, parts, aux)

    return guided_method(
        network, optimizer, settings, terms, target=stretch if settings.stretch else None
    )


def _stretching(encoder: Pair) -> Pair:
    def apply(params, stats, x, train):
        return encoder.apply(params, stats, stretch(x), train)

    return Pair(encoder.init, apply)


def turned_log_odds(halves: Halves, z_turned: Float[Array, "half d"]) -> Float[Array, ""]:
    """mean_i log(1 + e(z_T,i) / e(z_L,i)), see `turned_ogae`; rho cancels.

    Args:
      halves: of the upright latents, with an RBF kernel.
      z_turned: (b/2, d) latents of the turned images of z_L, not standardised.
    """
    turned = (z_turned - halves.mean_L[None, :]) / halves.std_L[None, :]
    log_odds = _log_expansion(halves, turned) - _log_expansion(halves, halves.z_L)
    return jnp.mean(jax.nn.softplus(log_odds))


def _log_expansion(halves: Halves, z: Float[Array, "m d"]) -> Float[Array, " m"]:
    """log sum_j alpha_j exp(-gamma |z_i - z_sv,j|^2): does not underflow far away."""
    exponents: Array = -halves.gamma * squared_distances(z, halves.z_sv)
    log_alpha = jnp.log(jnp.maximum(halves.solution.alpha, _ALPHA_FLOOR))
    return jax.nn.logsumexp(exponents + log_alpha[None, :], axis=1)
