"""Objectives of the patch autoencoder: OgAE, siamese, or plain reconstruction.

A batch has shape (locations, subjects, 15, 15, 1): the patches of all subjects at a few locations.
Subjects are shuffled for each location and step, so the first half of them is a random half.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, brain MRI experiment.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ocsvm_jax.methods.ae import ae_objective
from ocsvm_jax.methods.arguments import number
from ocsvm_jax.methods.base import Error, Method, Objective, gradient_method
from ocsvm_jax.methods.ogae import guidance_options, guided_objective, phases_of
from ocsvm_jax.methods.sae import sae_objective
from ocsvm_jax.networks.pair import Network
from ocsvm_jax.networks.patch import PATCH, RADIUS


def _ogae(network: Network, error: Error, settings: Mapping[str, Any]) -> Objective:
    """Mean squared error + lambda * guidance, the mean of the guidance losses of all locations.

    Each location has its own one-class SVM, fitted on a random half of the subjects; it judges the
    other half (equation (7)).
    """
    schedule = ("num_epochs", "schedule", "betas", "betas_second")
    options = ("nu", "gamma", "standardize", "differentiate_dual")
    return guided_objective(
        network,
        phases_of(*(settings[name] for name in schedule)),
        guidance_options(*(settings[name] for name in options)),
        settings["guidance_weight"],
        error,
    )


def _sae(network: Network, error: Error, settings: Mapping[str, Any]) -> Objective:
    """Mean error of both subjects - alpha * cosine, over pairs at the same location."""
    return sae_objective(network, similarity_weight=settings["similarity_weight"], error=error)


def _ae(network: Network, error: Error, settings: Mapping[str, Any]) -> Objective:
    """Mean squared error alone, to which the other two add a term."""
    del settings
    return ae_objective(network, error=error)


PATCH_METHODS = {"ogae": _ogae, "sae": _sae, "ae": _ae}


def patch_method(
    name: str,
    network: Network,
    optimizer: optax.GradientTransformation,
    settings: Mapping[str, Any],
) -> Method:
    """A method on patches; its loss parts include the spread of the latents.

    Args:
      name: one of `PATCH_METHODS`.
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: the fields of the card's `method`, and `num_epochs`.

    Raises:
      ArgumentError: a ValueError, if a value is invalid.
    """
    objective = PATCH_METHODS[name](network, centred_error(settings["centre_sd"]), settings)

    def watched(*arguments):
        loss, out = objective(*arguments)
        return loss, out._replace(parts=out.parts | {"latent_sd": _spread(out.latents)}, record=())

    return gradient_method(network, optimizer, watched, _no_score)


# Settings of the paper's rows, which replace those of the card.
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
PAPER_TRAIN = {"learning_rate": 1e-3}  # for Adam
PAPER_FINAL = {"nu": 0.03, "gamma": 0.01, "standardize": False, "scores": ("-f",)}

check_centre_sd = number(
    lambda value: 0 <= value < float("inf"), "it is a number of pixels, at least 0"
)


def centre_weights(sd: float) -> Float[np.ndarray, "15 15"]:
    """Weights of the pixels of a patch: a Gaussian around the centre, with mean 1.

    A map scores the central voxel. With equal weights, as in the paper, the 16 dimensions of the
    latent describe the whole patch, and differences at its centre are lost.

    Args:
      sd: standard deviation of the Gaussian in pixels; 0 for equal weights.

    Raises:
      ArgumentError: a ValueError, if `sd` is negative or not finite.
    """
    check_centre_sd("centre_sd", sd)
    if sd == 0:
        return np.ones((PATCH, PATCH), np.float32)
    squares = np.arange(-RADIUS, RADIUS + 1) ** 2
    weights = np.exp(-(squares[:, None] + squares[None, :]) / (2 * sd**2))
    return (weights / weights.mean()).astype(np.float32)


def centred_error(sd: float) -> Error:
    """Mean squared error with pixels weighted by `centre_weights`."""
    weights = centre_weights(sd)[..., None]

    def error(patches: Array, x_hat: Array) -> Array:
        leading = (1,) * (patches.ndim - weights.ndim)
        return jnp.mean(weights.reshape(leading + weights.shape) * (patches - x_hat) ** 2)

    return error


def _spread(z: Array) -> Array:
    """Standard deviation of the latents around the mean of their location, over all dimensions.

    Useful for choosing gamma: the kernel of two subjects is about exp(-2 gamma d sd^2).
    """
    centred = z - jnp.mean(z, axis=1, keepdims=True)
    return jnp.sqrt(jnp.mean(centred**2))


def _no_score(state: Any, patches: Any) -> dict:
    """No scores: maps are made from latents of whole slices, see `maps`."""
    del state, patches
    return {}
