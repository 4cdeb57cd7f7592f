"""Edited OgAE, beyond the paper: the one-class SVM of a batch tells its images from edited ones.

The guidance of equation (7) draws normal latents together, and can do so by losing dimensions
(docs/guidance.md); nothing tells it what an anomaly is. Here every batch comes with artificial
anomalies, its own images under `edits.EDITS`, and the exact one-class SVM on the latents z_sv must
prefer the images of z_L to them. Half of the images pass through a random convolution first, so
that the encoder cannot rely on the textures of the domains that it is trained on. Both are made for
no class of images in particular.

The anomaly score is that of the paper: the final one-class SVM on the latents.
"""

from collections.abc import Sequence

import jax
import optax

from ocsvm_jax.methods.arguments import Gamma, Number, check_share, some_of
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.edits import EDITS, edited
from ocsvm_jax.methods.noise import key_of_step
from ocsvm_jax.methods.ogae import GAMMA, guidance_options, phases_of
from ocsvm_jax.methods.random_convolutions import randomly_convolved
from ocsvm_jax.methods.separation import check_positive_kernel, separating_method
from ocsvm_jax.networks.pair import Network


def edited_ogae(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    edited_weight: Number = 1.0,
    edits: Sequence[str] = tuple(EDITS),
    convolved: float = 0.5,
    stretch: bool = True,
    guidance_weight: Number = 1e-3,
    nu: Number = 0.03,
    kernel: str = "rbf",
    gamma: Gamma = GAMMA,
    standardize: bool = True,
    differentiate_dual: bool = True,
    last_m: int = 10,
) -> Method:
    """Minimises mean squared error + lambda * guidance + lambda_E * mean log-odds of edited images.

    With e(z) = sum_j alpha_j k(z_sv,j, z), the decision function of the batch's one-class SVM plus
    rho, and z_E the latents of the images of z_L under an edit, the third term is the mean over
    the edits of

        mean_i log(1 + e(z_E,i) / e(z_L,i))

    All images, edited or not, are encoded as one batch, with common batch statistics in training;
    z_E is standardised by the statistics of z_L. The decoder reconstructs the images as they were
    before edits and convolutions. On held-out images edits and convolutions are drawn by one fixed
    key. Scores are the same as for `ogae`.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      edited_weight: lambda_E, finite and at least 0; may be traced.
      edits: one or more different names in `edits.EDITS`.
      convolved: share in [0, 1] of the images that are convolved, see `random_convolutions`.
      stretch: whether each image is first scaled from its own minimum and maximum to 0 and 1.
      guidance_weight: as in `ogae`.
      nu: as in `ogae`.
      kernel: "rbf" or "laplacian", which are positive, so that the log-odds exist.
      gamma: a positive number; may be traced.
      standardize: as in `ogae`.
      differentiate_dual: as in `ogae`.
      last_m: as in `ogae`.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    some_of(tuple(EDITS))("edits", edits)
    check_share("convolved", convolved)
    check_positive_kernel("edited_ogae", kernel, gamma)
    names, both = tuple(edits), (1.0, 1.0)

    def artificial(images, memory, train):
        key = key_of_step(memory.noise) if train else jax.random.key(0)
        convolution_key, edit_key = jax.random.split(key)
        shown = randomly_convolved(images, convolution_key, convolved)
        return shown, edited(shown[images.shape[0] // 2 :], edit_key, names)

    return separating_method(
        network,
        optimizer,
        artificial,
        phases_of(num_epochs, "constant", both, both),
        guidance_options(nu, gamma, standardize, differentiate_dual, kernel),
        name="edited",
        weight=edited_weight,
        guidance_weight=guidance_weight,
        stretch=stretch,
        last_m=last_m,
        draws=True,
    )
