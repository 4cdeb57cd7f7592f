"""What the patch autoencoder is trained for: OgAE, the siamese one, or plain reconstruction.

A batch is (locations, subjects, 15, 15, 1): the patches of all subjects at a few places. Subjects
come in a new random order for each location and step, so the first half of them is a random half.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, experiment on brain MRI.
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
    """Mean squared error + lambda * the guidance of each location, mean over the locations.

    Each location has a one-class SVM of its own, on a random half of the subjects; the other half
    is judged by it (equation (7)).
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
    """Errors of both - alpha * cosine, over pairs of subjects at the same location."""
    return sae_objective(network, similarity_weight=settings["similarity_weight"], error=error)


def _ae(network: Network, error: Error, settings: Mapping[str, Any]) -> Objective:
    """Mean squared error alone: what the other two add to."""
    del settings
    return ae_objective(network, error=error)


PATCH_METHODS = {"ogae": _ogae, "sae": _sae, "ae": _ae}


def patch_method(
    name: str,
    network: Network,
    optimizer: optax.GradientTransformation,
    settings: Mapping[str, Any],
) -> Method:
    """A method on patches; among its parts is the spread of the latents.

    Args:
      name: one of `PATCH_METHODS`.
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: the fields of the card's `method`, and `num_epochs`.

    Raises:
      ArgumentError: a ValueError, on a value that cannot work.
    """
    objective = PATCH_METHODS[name](network, centred_error(settings["centre_sd"]), settings)

    def watched(*arguments):
        loss, out = objective(*arguments)
        return loss, out._replace(parts=out.parts | {"latent_sd": _spread(out.latents)}, record=())

    return gradient_method(network, optimizer, watched, _no_score)


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

check_centre_sd = number(
    lambda value: 0 <= value < float("inf"), "it is a number of pixels, at least 0"
)


def centre_weights(sd: float) -> Float[np.ndarray, "15 15"]:
    """How much each pixel of a patch counts: a Gaussian about the centre, of mean 1.

    A map's score is that of the central voxel. Equal weights, as in the paper, spend the 16 numbers
    of the latent on the whole patch, and what differs at its centre is lost among them.

    Args:
      sd: of the Gaussian, pixels; 0 for equal weights.

    Raises:
      ArgumentError: a ValueError, if it is not finite or below 0.
    """
    check_centre_sd("centre_sd", sd)
    if sd == 0:
        return np.ones((PATCH, PATCH), np.float32)
    squares = np.arange(-RADIUS, RADIUS + 1) ** 2
    weights = np.exp(-(squares[:, None] + squares[None, :]) / (2 * sd**2))
    return (weights / weights.mean()).astype(np.float32)


def centred_error(sd: float) -> Error:
    """Mean squared error whose pixels are weighed by `centre_weights`."""
    weights = centre_weights(sd)[..., None]

    def error(patches: Array, x_hat: Array) -> Array:
        leading = (1,) * (patches.ndim - weights.ndim)
        return jnp.mean(weights.reshape(leading + weights.shape) * (patches - x_hat) ** 2)

    return error


def _spread(z: Array) -> Array:
    """Standard deviation of the latents about the mean of their location, over all dimensions.

    Compare gamma with it: the kernel of two subjects is exp(-2 gamma d sd^2) on average.
    """
    centred = z - jnp.mean(z, axis=1, keepdims=True)
    return jnp.sqrt(jnp.mean(centred**2))


def _no_score(state: Any, patches: Any) -> dict:
    """Maps are made from latents of whole slices, see `maps`; a patch has no score of its own."""
    del state, patches
    return {}
