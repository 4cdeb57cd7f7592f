"""What the patch autoencoder is trained for: OgAE, the siamese one, or plain reconstruction.

A batch is (locations, subjects, 15, 15, 1): the patches of all subjects at a few places. Subjects
come in random order, anew for each location and step, so the first half of them is a random half.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, experiment on brain MRI.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ocsvm_jax.guidance import guidance_loss
from ocsvm_jax.methods.base import Forward, Method, forward, gradient_method
from ocsvm_jax.methods.ogae import beta_schedule, guidance_settings
from ocsvm_jax.methods.sae import cosine
from ocsvm_jax.networks.pair import Network
from ocsvm_jax.networks.patch import PATCH, RADIUS


def patch_ogae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Mean squared error + lambda * the guidance of each location, mean over the locations.

    Each location has a one-class SVM of its own, on a random half of the subjects; the other half
    is held against it (equation (7)).

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: as for `ocsvm_jax.methods.ogae.ogae`, without `last_m`; and `centre_sd`, see
        `centre_weights`.
    """
    betas = beta_schedule(settings)
    options = guidance_settings(settings)
    error = _reconstruction_error(settings.centre_sd)

    def objective(params, stats, memory, patches, epoch, train):
        del memory
        pair = betas(epoch)
        z, x_hat, stats = forward(network, params, stats, patches, train)
        reconstruction = error(patches, x_hat)

        def of_location(z):
            loss, aux = guidance_loss(z, betas=pair, **options)
            return loss, aux.num_outside / (z.shape[0] // 2)

        guidance, outside = jax.vmap(of_location)(z)
        guidance = jnp.mean(guidance)
        loss = reconstruction + settings.guidance_weight * guidance
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "guidance": guidance,
            "outside": jnp.mean(outside),
            "latent_sd": _spread(z),
        }
        return loss, Forward(stats, parts, ())

    return gradient_method(network, optimizer, objective, _no_score)


def patch_sae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Mean squared errors of both - alpha * cosine, over pairs of subjects at the same location.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: with `similarity_weight` (alpha) and `centre_sd`, see `centre_weights`.
    """
    error = _reconstruction_error(settings.centre_sd)

    def objective(params, stats, memory, patches, epoch, train):
        del memory, epoch
        z, x_hat, stats = forward(network, params, stats, patches, train)
        reconstruction = error(patches, x_hat)
        half = z.shape[1] // 2
        first = z[:, :half].reshape(-1, z.shape[-1])
        second = z[:, half : 2 * half].reshape(-1, z.shape[-1])
        similarity = jnp.mean(cosine(first, second))
        loss = 2 * reconstruction - settings.similarity_weight * similarity
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "similarity": similarity,
            "latent_sd": _spread(z),
        }
        return loss, Forward(stats, parts, ())

    return gradient_method(network, optimizer, objective, _no_score)


def patch_ae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Mean squared error alone: what the other two add to."""
    error = _reconstruction_error(settings.centre_sd)

    def objective(params, stats, memory, patches, epoch, train):
        del memory, epoch
        z, x_hat, stats = forward(network, params, stats, patches, train)
        loss = error(patches, x_hat)
        parts = {"loss": loss, "reconstruction": loss, "latent_sd": _spread(z)}
        return loss, Forward(stats, parts, ())

    return gradient_method(network, optimizer, objective, _no_score)


# What the paper's rows are trained and fitted with, whatever the card says of the others.
PAPER_METHOD = {
    "centre_sd": 0.0,
    "guidance_weight": 1e-3,
    "nu": 0.03,
    "gamma": 0.01,
    "standardize": False,
    "schedule": "constant",
    "betas": (1.0, 1.0),
    "similarity_weight": 0.1,
    "order": "activation_norm",
}
PAPER_TRAIN = {"learning_rate": 1e-3}  # of Adam
PAPER_FINAL = {"nu": 0.03, "gamma": 0.01, "standardize": False, "scores": ("-f",)}

PATCH_METHODS: dict[str, Callable[..., Method]] = {
    "ogae": patch_ogae,
    "sae": patch_sae,
    "ae": patch_ae,
}


def centre_weights(sd: float) -> Float[np.ndarray, "15 15"]:
    """How much each pixel of a patch counts: a Gaussian about the centre, of mean 1.

    A map's score is that of the central voxel. Equal weights, as in the paper, spend the 16 numbers
    of the latent on the whole patch, and what differs at its centre is lost among them.

    Args:
      sd: of the Gaussian, pixels; 0 for equal weights.
    """
    if sd == 0:
        return np.ones((PATCH, PATCH), np.float32)
    squares = np.arange(-RADIUS, RADIUS + 1) ** 2
    weights = np.exp(-(squares[:, None] + squares[None, :]) / (2 * sd**2))
    return (weights / weights.mean()).astype(np.float32)


def _reconstruction_error(sd: float) -> Callable[[Array, Array], Array]:
    weights = centre_weights(sd)[..., None]

    def error(patches: Array, x_hat: Array) -> Array:
        leading = (1,) * (patches.ndim - weights.ndim)
        return jnp.mean(weights.reshape(leading + weights.shape) * (patches - x_hat) ** 2)

    return error


def _spread(z: Array) -> Array:
    """Standard deviation of the latents about the mean of their location, over all dimensions.

    What gamma is to be held against: the kernel of two subjects is exp(-2 gamma d sd^2) on average.
    """
    centred = z - jnp.mean(z, axis=1, keepdims=True)
    return jnp.sqrt(jnp.mean(centred**2))


def _no_score(state: Any, patches: Any) -> dict:
    """Maps are made from latents of whole slices, see `maps`; a patch has no score of its own."""
    del state, patches
    return {}
