"""Turned OgAE, beyond the paper: guidance that also separates images from their 180-degree turns.

Under an unseen corruption, the score of an image depends on the corruption more than on the digit.
The score of the same image turned by 180 degrees shifts with it, so their difference, the contrast,
hardly depends on the corruption (`ocsvm_jax.evaluation.contrast`). The third term of this loss
makes the one-class SVM of the batch prefer upright images. Turned images as artificial anomalies
are an idea of Golan and El-Yaniv, Deep Anomaly Detection Using Geometric Transformations, NeurIPS
2018.

On MNIST-C the third term works better alone than with the guidance of equation (7)
(benchmarks/RESULTS.md): set `guidance_weight` to 0 for that.

Images need an upright orientation: if the normal classes look the same when turned (0, 8), there is
nothing to learn.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from ocsvm_jax.guidance import misfit, remembered, solve_halves
from ocsvm_jax.methods.arguments import Gamma, Number, check_flag, check_weight
from ocsvm_jax.methods.base import Forward, Method, decoded, encoded, mean_error
from ocsvm_jax.methods.ogae import GAMMA, guidance_options, guided_method, phases_of
from ocsvm_jax.methods.separation import check_positive_kernel, log_odds_of_anomalies
from ocsvm_jax.methods.turning import half_turn, stretching
from ocsvm_jax.methods.turning import stretch as stretched
from ocsvm_jax.networks.pair import Network


def turned_ogae(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    turned_weight: Number = 0.1,
    stretch: bool = True,
    guidance_weight: Number = 1e-3,
    nu: Number = 0.03,
    kernel: str = "rbf",
    gamma: Gamma = GAMMA,
    standardize: bool = True,
    differentiate_dual: bool = True,
    schedule: str = "two_phase",
    betas: Sequence[Number] = (1.0, 0.0),
    betas_second: Sequence[Number] = (1.0, 1.0),
    last_m: int = 10,
) -> Method:
    """Minimises mean squared error + lambda * guidance + lambda_T * log-odds of the turned images.

    With e(z) = sum_j alpha_j k(z_sv,j, z), the decision function of the batch's one-class SVM plus
    rho, and z_T the latents of the images of z_L turned by 180 degrees, the third term is

        mean_i log(1 + e(z_T,i) / e(z_L,i))

    The images of z_sv, z_L and z_T are encoded as one batch, with common batch statistics in
    training; z_T is standardised by the statistics of z_L. Only upright images are reconstructed.
    Scores are the same as for `ogae`.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      turned_weight: lambda_T, finite and at least 0; may be traced.
      stretch: whether each image is first scaled from its own minimum and maximum to 0 and 1.
      guidance_weight: as in `ogae`.
      nu: as in `ogae`.
      kernel: "rbf" or "laplacian", which are positive, so that the log-odds exist.
      gamma: a positive number; may be traced.
      standardize: as in `ogae`.
      differentiate_dual: as in `ogae`.
      schedule: as in `ogae`.
      betas: as in `ogae`.
      betas_second: as in `ogae`.
      last_m: as in `ogae`.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    check_weight("turned_weight", turned_weight)
    check_weight("guidance_weight", guidance_weight)
    check_flag("stretch", stretch)
    phases = phases_of(num_epochs, schedule, betas, betas_second)
    check_positive_kernel("turned_ogae", kernel, gamma)
    options = guidance_options(nu, gamma, standardize, differentiate_dual, kernel)
    prepared = stretched if stretch else None
    if prepared:
        network = Network(stretching(network.encoder), network.decoder)

    def objective(params, stats, memory, images, epoch, train):
        del memory
        half = images.shape[0] // 2
        both = jnp.concatenate([images, half_turn(images[half : 2 * half])])
        latents, encoder_stats = encoded(network, params, stats, both, train)
        z, z_turned = latents[: 2 * half], latents[2 * half :]
        x_hat, decoder_stats = decoded(network, params, stats, z, train)
        # The encoder stretches its input; the target of the reconstruction is stretched here.
        reconstruction = mean_error(prepared(images) if prepared else images, x_hat)
        halves = solve_halves(z, betas=phases.betas(epoch), **options)
        guidance, num_outside = misfit(halves)
        turned = log_odds_of_anomalies(halves, z_turned)
        loss = reconstruction + guidance_weight * guidance
        loss = loss + turned_weight * turned
        parts = {
            "loss": loss,
            "reconstruction": reconstruction,
            "guidance": guidance,
            "turned": turned,
            "outside": num_outside / half,
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
    )
