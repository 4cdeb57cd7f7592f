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

import optax

from ocsvm_jax.methods.arguments import Gamma, Number
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.ogae import GAMMA, guidance_options, phases_of
from ocsvm_jax.methods.separation import check_positive_kernel, separating_method
from ocsvm_jax.methods.turning import half_turn
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
    check_positive_kernel("turned_ogae", kernel, gamma)

    def artificial(images, memory, train):
        del memory, train
        return images, [half_turn(images[images.shape[0] // 2 :])]

    return separating_method(
        network,
        optimizer,
        artificial,
        phases_of(num_epochs, schedule, betas, betas_second),
        guidance_options(nu, gamma, standardize, differentiate_dual, kernel),
        name="turned",
        weight=turned_weight,
        guidance_weight=guidance_weight,
        stretch=stretch,
        last_m=last_m,
    )
