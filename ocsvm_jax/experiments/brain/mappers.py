"""Mappers: compute the score of every voxel from features of slices and one model per voxel.

A `Mapper` knows neither files nor cohorts. The learned methods differ only in their features; the
trivial baselines are mappers too, and appear in every table of results.
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

# Scores of a learned method: minus the decision function, as in the paper, and an unbounded one.
SCORES = {"-f": score_locations, "log": log_score_locations}

_PCA_PATCHES = 20_000
# Shrinks a 16 x 16 covariance from some 60 subjects towards a multiple of the identity.
_SHRINKAGE = 0.05
_SD_FLOOR = 0.01  # in grey values, which span [0, 1]; applies where subjects hardly differ


class Mapper(NamedTuple):
    """A way to make anomaly maps.

    Attributes:
      features: `features(slices) -> (n, h, w, d)`, for n slices with values in [0, 1].
      score: `score(train, present, test) -> {name: (v, m)}` at v locations, larger for more
        anomalous; the arguments are features (v, n, d) of the training subjects, a mask (v, n) of
        those with brain there, and features (v, m, d) of the subjects to judge.
    """

    features: Callable[[Slices], Array]
    score: Callable[[Array, Array, Array], dict[str, Array]]


def localized_ocsvm(encoder: PatchEncoder, params: Any, stats: Any, settings: Any) -> Mapper:
    """Latents of a trained encoder and a one-class SVM per voxel: the paper's method.

    Args:
      encoder: the network.
      params: its parameters.
      stats: its batch-norm statistics.
      settings: has `nu`, `gamma` and `standardize` for `ocsvm_jax.localized.fit_locations`, and
        `scores`, names from `SCORES`.
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
    """Mean and biased variance over the subjects present, each of shape (v, 1)."""
    count = jnp.maximum(jnp.sum(present, axis=1, keepdims=True, dtype=values.dtype), 1)
    mean = jnp.sum(jnp.where(present, values, 0), axis=1, keepdims=True) / count
    squares = jnp.where(present, values - mean, 0) ** 2
    return mean, jnp.sum(squares, axis=1, keepdims=True) / count


def darkness() -> Mapper:
    """Scores each voxel by 1 - grey value: dark is anomalous. Needs no training subjects."""
    return Mapper(lambda slices: slices[..., None], lambda a, b, test: {"score": 1 - test[..., 0]})


def minus_z() -> Mapper:
    """Scores each voxel by minus its z-score over the training subjects at this voxel."""

    def score(train: Array, present: Array, test: Array) -> dict[str, Array]:
        mean, variance = _moments(train[..., 0], present)
        return {"score": (mean - test[..., 0]) / jnp.maximum(jnp.sqrt(variance), _SD_FLOOR)}

    return Mapper(lambda slices: slices[..., None], score)


def mahalanobis(feed: PatchFeed, seed: int) -> Mapper:
    """Mahalanobis distance of a patch's 16 principal components to the subjects at this voxel.

    Args:
      feed: the training subjects, whose patches give the components.
      seed: for the choice of patches.
    """
    return Mapper(_principal(feed, seed, centre_weights(0)), _mahalanobis)


def pca_ocsvm(feed: PatchFeed, seed: int, settings: Any, centre_sd: float) -> Mapper:
    """A one-class SVM per voxel on principal components: the baseline of a trained encoder.

    Args:
      feed: see `mahalanobis`.
      seed: see `mahalanobis`.
      settings: see `localized_ocsvm`.
      centre_sd: weights the pixels of patches for the PCA as in the reconstruction error of the
        learned methods, see `methods.centre_weights`.
    """
    weights = centre_weights(centre_sd)
    return Mapper(_principal(feed, seed, weights), _ocsvm_scores(settings))


def _principal(feed: PatchFeed, seed: int, weights: np.ndarray) -> Callable[[Slices], Array]:
    """Features of slices: the 16 principal components of weighted patches."""
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
