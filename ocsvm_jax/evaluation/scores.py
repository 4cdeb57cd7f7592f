"""After training: the final one-class SVM on all training latents, and the scores of any images."""

import dataclasses
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import rbf, resolve_gamma, scaled
from ocsvm_jax.methods.base import Method, Score
from ocsvm_jax.model import OCSVM
from ocsvm_jax.training.loop import to_unit

_BLOCK = 500
_ROUND = 1024
_STD_FLOOR = 1e-6


def fit_final(
    method: Method, state: Any, images: UInt8[np.ndarray, "n 28 28 1"], settings: Any
) -> OCSVM:
    """Fits one one-class SVM to the latents of all images (the paper's final score).

    Args:
      method: gives the latents.
      state: of the method.
      images: (n, 28, 28, 1) uint8, normal.
      settings: with `nu`, `gamma` (number, "scale" or "auto") and `standardize`, whether latents
        are divided by their standard deviation first.

    Raises:
      ValueError: if a latent is not finite.
    """
    return fit_latents(encode_images(method, state, images), settings)


def fit_latents(z: Float[np.ndarray, "n d"], settings: Any) -> OCSVM:
    """`fit_final` of latents that are there already."""
    if not np.all(np.isfinite(z)):
        raise ValueError(
            "the latents hold NaN or infinite values: training has diverged. Lower the learning "
            "rate or the guidance weight."
        )
    points = jnp.asarray(z)
    if not settings.standardize:
        return ocsvm_fit(points, settings.nu, rbf(resolve_gamma(settings.gamma, points)))
    scale = jnp.std(points, axis=0) + _STD_FLOOR
    kernel = scaled(rbf(resolve_gamma(settings.gamma, points / scale[None, :])), scale)
    return ocsvm_fit(points, settings.nu, kernel)


def encode_images(
    method: Method, state: Any, images: UInt8[np.ndarray, "n 28 28 1"]
) -> Float[np.ndarray, "n d"]:
    """The latent of each image."""
    return in_blocks(lambda x: {"z": _encode(method, state, x)}, images)["z"]


def score_images(
    method: Method, state: Any, ocsvm: OCSVM, images: UInt8[np.ndarray, "n 28 28 1"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """All scores for each image, in float64, larger for more anomalous.

    These are the method's own and "ocsvm", minus the decision function of `ocsvm` at its latent.
    """
    own = own_scores(partial(_score, method, state), images)
    scores = own | {"ocsvm": ocsvm_score(ocsvm, encode_images(method, state, images))}
    return dict(sorted(scores.items()))


def own_scores(
    score: Callable[[Array], dict[str, Score]], images: UInt8[np.ndarray, "n 28 28 1"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Applies `score`, a compiled function of uint8 images, and adds up the parts in float64."""
    return see(lambda x: (x[:, :0], score(x)), images)[1]


def see(
    model: Callable[[Array], tuple[Array, dict[str, Score]]],
    images: UInt8[np.ndarray, "n 28 28 1"],
) -> tuple[np.ndarray, dict[str, Float[np.ndarray, " n"]]]:
    """Latents and scores, in float64, of a compiled function of uint8 images that gives both."""
    offsets: dict[str, float] = {}

    def values(x: Array) -> dict[str, Array]:
        z, scores = model(x)
        offsets.update({name: float(part.offset) for name, part in scores.items()})
        return {"latents of": z} | {name: part.values for name, part in scores.items()}

    parts = in_blocks(values, images)
    z = parts.pop("latents of")
    # In float64, where the offset does not drown the differences; see `Score`.
    return z, {name: part.astype(np.float64) + offsets[name] for name, part in parts.items()}


def ocsvm_score(ocsvm: OCSVM, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Minus the decision function at each latent, added up in float64 on the host (see `Score`)."""
    expansion = np.asarray(_rounded_up(ocsvm).kernel_expansion(jnp.asarray(z)), np.float64)
    return float(ocsvm.rho) - expansion


def _rounded_up(ocsvm: OCSVM) -> OCSVM:
    """The same function with a round number of support vectors: few shapes, few compilations."""
    more = -len(ocsvm.coefficients) % _ROUND
    return dataclasses.replace(
        ocsvm,
        # Copies of a real one, of coefficient 0.
        support_vectors=jnp.pad(ocsvm.support_vectors, ((0, more), (0, 0)), mode="edge"),
        coefficients=jnp.pad(ocsvm.coefficients, (0, more)),
    )


# All images go through in blocks of one size, so each of these is compiled once for a method.
@partial(jax.jit, static_argnums=0)
def _encode(method: Method, state: Any, images: UInt8[Array, "b 28 28 1"]) -> Float[Array, "b d"]:
    return method.encode(state, to_unit(images))


@partial(jax.jit, static_argnums=0)
def _score(method: Method, state: Any, images: UInt8[Array, "b 28 28 1"]) -> dict[str, Score]:
    return method.score(state, to_unit(images))


def read_images(path: Path) -> UInt8[np.ndarray, "n 28 28 1"]:
    """Images from a .npy file: (n, 28, 28) or (n, 28, 28, 1), uint8 0..255 or float in [0, 1].

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not such an array; the message says what it is.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with open(path, "rb") as file:
            images = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npy array that can be read: {error}") from error
    if not isinstance(images, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays; save one array with np.save.")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] != (28, 28, 1) or len(images) == 0:
        raise ValueError(f"{path} holds shape {images.shape}; images are (n, 28, 28) with n >= 1.")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{path} holds {images.dtype}; images are uint8 0..255 or float in [0, 1]."
        )
    if not np.all(np.isfinite(images)) or images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"{path} holds floats from {images.min()} to {images.max()}; they must lie in [0, 1]. "
            "Divide by 255 if these are grey values."
        )
    return np.round(images * 255).astype(np.uint8)


def in_blocks(
    function: Callable[[Array], dict[str, Array]], images: UInt8[np.ndarray, "n 28 28 1"]
) -> dict[str, np.ndarray]:
    """Applies a function of a block of images to all of them, the last block filled up."""
    parts = []
    for first in range(0, len(images), _BLOCK):
        block = images[first : first + _BLOCK]
        filling = np.zeros((_BLOCK - len(block), *block.shape[1:]), np.uint8)
        out = jax.device_get(function(jnp.asarray(np.concatenate([block, filling]))))
        parts.append({name: value[: len(block)] for name, value in out.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
