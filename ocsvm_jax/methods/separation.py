"""Methods in which the one-class SVM of a batch tells its images from artificial anomalies."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.guidance import Halves, misfit, remembered, solve_halves
from ocsvm_jax.kernels import log_gram
from ocsvm_jax.methods.arguments import (
    ArgumentError,
    Gamma,
    Number,
    check_flag,
    check_weight,
)
from ocsvm_jax.methods.base import Batch, Forward, Method, decoded, encoded, mean_error
from ocsvm_jax.methods.ogae import Phases, guided_method
from ocsvm_jax.methods.turning import stretch as stretched
from ocsvm_jax.methods.turning import stretching
from ocsvm_jax.networks.pair import Network

# artificial(images, memory, train) -> what the encoder is shown in place of the images, and
# artificial anomalies: batches made of the second half of what is shown, in its order.
Artificial = Callable[[Batch, Any, bool], tuple[Batch, list[Batch]]]

# Lower bound on alpha that keeps the logarithm of a kernel sum finite.
_ALPHA_FLOOR = 1e-12


def check_positive_kernel(method: str, kernel: str, gamma: Gamma) -> None:
    """Raises ArgumentError unless kernel and gamma give sums of which there are log-odds."""
    if kernel == "linear":
        raise ArgumentError(
            f"kernel is 'linear'; {method} needs 'rbf' or 'laplacian': its log-odds are those of "
            "sums of a positive kernel."
        )
    if isinstance(gamma, str):
        raise ArgumentError(
            f"gamma is {gamma!r}; {method} needs a number: the log-odds are those of a "
            "kernel of one width."
        )


def separating_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    artificial: Artificial,
    phases: Phases,
    options: dict[str, Any],
    *,
    name: str,
    weight: Number,
    guidance_weight: Number,
    stretch: bool,
    last_m: int,
    draws: bool = False,
) -> Method:
    """Minimises mean squared error + lambda * guidance + weight * mean log-odds of the anomalies.

    Images and anomalies are encoded as one batch, with common batch statistics in training. Only
    the images are reconstructed, as they were before `artificial`.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      artificial: see `Artificial`.
      phases: see `ogae.phases_of`.
      options: see `ogae.guidance_options`.
      name: of the last term, in the history and, with "_weight", in messages.
      weight: of the last term, see `log_odds_of_anomalies`.
      guidance_weight: lambda, as in `ogae`.
      stretch: whether each image is first scaled from its own minimum and maximum to 0 and 1.
      last_m: as in `ogae`.
      draws: whether `artificial` draws, see `ogae.guided_method`.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_weight(f"{name}_weight", weight)
    check_weight("guidance_weight", guidance_weight)
    check_flag("stretch", stretch)
    prepared = stretched if stretch else None
    if prepared:
        network = Network(stretching(network.encoder), network.decoder)

    def objective(params, stats, memory, images, epoch, train):
        shown, anomalies = artificial(images, memory, train)
        both = jnp.concatenate([shown, *anomalies])
        latents, encoder_stats = encoded(network, params, stats, both, train)
        z, z_anomalous = latents[: len(images)], latents[len(images) :]
        x_hat, decoder_stats = decoded(network, params, stats, z, train)
        # The encoder stretches its input; the target of the reconstruction is stretched here.
        reconstruction = mean_error(prepared(images) if prepared else images, x_hat)
        halves = solve_halves(z, betas=phases.betas(epoch), **options)
        guidance, num_outside = misfit(halves)
        kinds = jnp.split(z_anomalous, len(anomalies))
        odds = sum(log_odds_of_anomalies(halves, kind) for kind in kinds) / len(kinds)
        loss = reconstruction + guidance_weight * guidance
        loss = loss + weight * odds
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "guidance": guidance,
            name: odds,
            "outside": num_outside / (images.shape[0] // 2),
        }
        stats = {"encoder": encoder_stats, "decoder": decoder_stats}
        aux = jax.lax.stop_gradient(remembered(halves, num_outside))
        return loss, Forward(stats, parts, aux, z)

    return guided_method(
        network,
        optimizer,
        objective,
        phases,
        last_m=last_m,
        target=prepared,
        kernel=options["kernel"],
        draws=draws,
    )


def log_odds_of_anomalies(halves: Halves, z_anomalous: Float[Array, "half d"]) -> Float[Array, ""]:
    """mean_i log(1 + e(z_A,i) / e(z_L,i)); near 0 where the anomalies z_A lie outside.

    e(z) = sum_j alpha_j k(z_sv,j, z) is the decision function of the batch's one-class SVM plus
    rho, so rho cancels. z_A is standardised by the statistics of z_L.

    Args:
      halves: solved halves of the latents, with an RBF or a Laplacian kernel.
      z_anomalous: (b/2, d) latents of the artificial anomalies that were made from the images of
        z_L, in their order; not standardised.
    """
    anomalous = (z_anomalous - halves.mean_L[None, :]) / halves.std_L[None, :]
    log_odds = _log_expansion(halves, anomalous) - _log_expansion(halves, halves.z_L)
    return jnp.mean(jax.nn.softplus(log_odds))


def _log_expansion(halves: Halves, z: Float[Array, "m d"]) -> Float[Array, " m"]:
    """log sum_j alpha_j k(z_i, z_sv,j), without underflow far from all z_sv."""
    log_alpha = jnp.log(jnp.maximum(halves.solution.alpha, _ALPHA_FLOOR))
    return jax.nn.logsumexp(log_gram(halves.kernel, z, halves.z_sv) + log_alpha[None, :], axis=1)
