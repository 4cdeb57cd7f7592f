"""Principal components of the pixels: what a linear autoencoder would learn, without training.

    pca = PCA.fit(train_images, 32)
    pca.scores(images)["reconstruction"]

`model` gives the function that `evaluation.scores` takes, so that its latents go through the same
final one-class SVMs, contrasts and densities as those of a network.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.evaluation.scores import Images, Model, own_scores, see_both_ways
from ocsvm_jax.methods.base import Score

COMPONENTS = 32


class PCA(NamedTuple):
    """Principal components of training images with grey values in [0, 1].

    Attributes:
      mean: (p,) the mean image, p pixels.
      components: (k, p) orthonormal directions, the one of largest variance first.
      sd: (k,) standard deviation of the training images along each.
    """

    mean: Float[Array, " p"]
    components: Float[Array, "k p"]
    sd: Float[Array, " k"]

    @classmethod
    def fit(cls, images: Images, k: int = COMPONENTS) -> "PCA":
        """The eigenvectors of the covariance of all pixels, in float64, kept in float32.

        Args:
          images: (n, ...) uint8, such as (n, 28, 28, 1).
          k: number of components, at least 1 and at most the number of images less one and the
            number of pixels.

        Raises:
          ValueError: `k` is out of range.
        """
        x = images.reshape(len(images), -1) / 255.0
        most = min(len(x) - 1, x.shape[1])
        if not 1 <= k <= most:
            raise ValueError(
                f"k is {k}; {len(x)} images of {x.shape[1]} pixels have 1 to {most} components."
            )
        mean = x.mean(0)
        x -= mean
        variances, vectors = np.linalg.eigh(x.T @ x / len(x))
        largest = slice(-1, -k - 1, -1)  # eigenvalues come in ascending order
        arrays = mean, vectors[:, largest].T, np.sqrt(np.maximum(variances[largest], 0.0))
        return cls(*(jnp.asarray(array, jnp.float32) for array in arrays))

    def model(self) -> Model:
        """The function of a block of uint8 images for `evaluation.scores.see`.

        Latents are coordinates divided by their standard deviation in training; the reconstruction
        error is the mean squared difference of grey values in [0, 1].
        """
        return partial(_seen, self)

    def scores(self, images: Images) -> dict[str, Float[np.ndarray, " n"]]:
        """Scores of uint8 images, larger for more anomalous.

        Returns:
          "reconstruction"; for images (n, h, w, c) also "error-contrast", the log error less that
          of the image turned by 180 degrees.
        """
        return own_scores(see_both_ways(self.model(), images))


@jax.jit
def _seen(pca: PCA, images: Array) -> tuple[Array, dict[str, Score]]:
    x = images.reshape(len(images), -1).astype(jnp.float32) / 255 - pca.mean[None, :]
    z = jnp.matmul(x, pca.components.T, precision="highest")
    residual = x - jnp.matmul(z, pca.components, precision="highest")
    tiny = jnp.finfo(jnp.float32).tiny  # a direction in which the training images do not vary
    error = Score(jnp.mean(residual**2, axis=1), jnp.zeros((), jnp.float32))
    return z / jnp.maximum(pca.sd, tiny)[None, :], {"reconstruction": error}
