"""How the score of every voxel is computed: features of whole slices, then a model per voxel.

A `Mapper` knows neither files nor cohorts. The learned methods differ in their features alone; the
trivial baselines are mappers like any other, and every table of results carries them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.experiments.brain.methods import centre_weights
from ocsvm_jax.experiments.brain.training import PatchFeed, batch
from ocsvm_jax.localized import fit_locations, log_score_locations, score_locations
from ocsvm_jax.networks.patch import (
    LATENT_DIM,
    PATCH,
    PatchEncoder,
    encode_slices,
    pad_slices,
)

Slices = Float[Array, "n h w"]

# Of a learned method: minus the decision function, as in the paper, and unbounded.
SCORES = {"-f": score_locations, "log": log_score_locations}

_PCA_PATCHES = 20_000
# Shrinks a covariance of 16 dimensions and some 60 subjects towards a multiple of the identity.
_SHRINKAGE = 0.05
_SD_FLOOR = 0.01  # of a full scale of 1, where all subjects have nearly the same grey value


class Mapper(NamedTuple):
    """A way to make anomaly maps.

    Attributes:
      features: `features(slices) -> (n, h, w, d)`, of n slices in [0, 1].
      score: `score(train, present, test) -> {name: (v, m)}`, larger for more anomalous, for v
        locations: features (v, n, d) of the training subjects, which of them have brain there
        (v, n), and features (v, m, d) of the subjects to judge.
    """

    features: Callable[[Slices], Array]
    score: Callable[[Array, Array, Array], dict[str, Array]]


def localized_ocsvm(encoder: PatchEncoder, params: Any, stats: Any, settings: Any) -> Mapper:
    """Latents of a trained encoder and a one-class SVM per voxel: the paper's method.

    Args:
      encoder: the network.
      params: its parameters.
      stats: its batch-norm statistics.
      settings: with `nu`, `gamma`, `standardize` of `ocsvm_jax.localized.fit_locations`, and
        `scores`, names among `SCORES`.
    """
    return Mapper(partial(encode_slices, encoder, params, stats), _ocsvm_scores(settings))


def _ocsvm_scores(settings: Any) -> Callable[[Array, Array, Array], dict[str, Array]]:
    def score(train: Array, present: Array, test: Array) -> dict[str, Array]:
        model = fit_locations(
            train,
            present,
            nu=settings.nu,
            gamma=settings.gamma,
            standardize=settings.standardize,
        )
        return {name: SCORES[name](model, test) for name in settings.scores}

    return score


def _moments(values: Array, present: Array) -> tuple[Array, Array]:
    """Mean and biased variance over the subjects that are present, (v, 1) each."""
    count = jnp.maximum(jnp.sum(present, axis=1, keepdims=True, dtype=values.dtype), 1)
    mean = jnp.sum(jnp.where(present, values, 0), axis=1, keepdims=True) / count
    squares = jnp.where(present, values - mean, 0) ** 2
    return mean, jnp.sum(squares, axis=1, keepdims=True) / count


def darkness() -> Mapper:
    """1 - grey value: what is dark is anomalous. Needs no training subject."""
    return Mapper(lambda slices: slices[..., None], lambda a, b, test: {"score": 1 - test[..., 0]})


def minus_z() -> Mapper:
    """Minus the grey value's z-score over the training subjects at this voxel."""

    def score(train: Array, present: Array, test: Array) -> dict[str, Array]:
        mean, variance = _moments(train[..., 0], present)
        return {"score": (mean - test[..., 0]) / jnp.maximum(jnp.sqrt(variance), _SD_FLOOR)}

    return Mapper(lambda slices: slices[..., None], score)


def mahalanobis(feed: PatchFeed, seed: int) -> Mapper:
    """Mahalanobis distance of a patch's 16 principal components, over the subjects at this voxel.

    Args:
      feed: the training subjects, of whose patches the components are computed.
      seed: of the choice of patches.
    """
    return Mapper(_principal(feed, seed, centre_weights(0)), _mahalanobis)


def pca_ocsvm(feed: PatchFeed, seed: int, settings: Any, centre_sd: float) -> Mapper:
    """A one-class SVM per voxel on principal components: what a trained encoder has to beat.

    Args:
      feed: as in `mahalanobis`.
      seed: as in `mahalanobis`.
      settings: as in `localized_ocsvm`.
      centre_sd: the components are those of the patches as the learned methods' reconstruction
        error weighs them, see `methods.centre_weights`.
    """
    weights = centre_weights(centre_sd)
    return Mapper(_principal(feed, seed, weights), _ocsvm_scores(settings))


def _principal(feed: PatchFeed, seed: int, weights: np.ndarray) -> Callable[[Slices], Array]:
    """The 16 principal components of weighted patches, as features of slices."""
    from sklearn.decomposition import PCA

    count = feed.slices.shape[0] // 2 * 2
    key = jax.random.key(seed)
    chosen = jax.random.randint(key, (-(-_PCA_PATCHES // count),), 0, feed.locations.shape[0])
    patches = np.asarray(jax.jit(batch)(feed.slices, feed.locations[chosen], key))
    root = np.sqrt(weights).reshape(-1)
    pca = PCA(LATENT_DIM, random_state=0).fit(patches.reshape(-1, PATCH**2) * root)
    kernel = (pca.components_ * root).T.reshape(PATCH, PATCH, 1, LATENT_DIM).astype(np.float32)
    offset = (pca.components_ @ pca.mean_).astype(np.float32)

    def features(slices: Slices) -> Array:
        projected = jax.lax.conv_general_dilated(
            pad_slices(slices)[..., None],
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        return projected - offset.reshape(1, 1, 1, -1)

    return features


def _mahalanobis(train: Array, present: Array, test: Array) -> dict[str, Array]:
    def one(train: Array, present: Array, test: Array) -> Array:
        weight = present.astype(train.dtype)
        weight = weight / jnp.maximum(jnp.sum(weight), 1)
        mean = jnp.matmul(weight, train, precision=jax.lax.Precision.HIGHEST)
        centred = (train - mean[None, :]) * jnp.sqrt(weight)[:, None]
        covariance = jnp.matmul(centred.T, centred, precision=jax.lax.Precision.HIGHEST)
        scale = jnp.trace(covariance) / LATENT_DIM + jnp.finfo(train.dtype).eps
        eye = jnp.eye(LATENT_DIM, dtype=train.dtype)
        shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * scale * eye
        factor = jnp.linalg.cholesky(shrunk)
        white = jax.scipy.linalg.solve_triangular(factor, (test - mean[None, :]).T, lower=True)
        return jnp.sqrt(jnp.sum(white**2, axis=0))

    return {"score": jax.vmap(one)(train, present, test)}
