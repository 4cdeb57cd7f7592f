"""Turns images by 180 degrees, which permutes pixels without interpolation, and stretches them."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ocsvm_jax.networks.pair import Pair

_SMALLEST_RANGE = 1e-3


def half_turn(images: Any) -> Any:
    """Turns images (b, h, w, c), a NumPy or JAX array, by 180 degrees.

    Raises:
      ValueError: if `images` does not have four axes.
    """
    check_images(images)
    return images[:, ::-1, ::-1, :]


def check_images(images: Any) -> None:
    """Raises ValueError unless there are four axes."""
    if images.ndim != 4:
        raise ValueError(
            f"the shape is {images.shape}; only images (b, h, w, c) can be turned and stretched."
        )


def stretch(images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scales each image from its own minimum and maximum to 0 and 1; divides by 0.001 at least."""
    check_images(images)
    low = jnp.min(images, axis=(1, 2, 3), keepdims=True)
    high = jnp.max(images, axis=(1, 2, 3), keepdims=True)
    return (images - low) / jnp.maximum(high - low, _SMALLEST_RANGE)


def stretching(encoder: Pair) -> Pair:
    """The encoder of images that are stretched first."""

    def apply(params: Any, stats: Any, x: Any, train: bool) -> Any:
        return encoder.apply(params, stats, stretch(x), train)

    return Pair(encoder.init, apply)
