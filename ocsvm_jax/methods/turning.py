"""Turns images by 180 degrees, which permutes pixels without interpolation, and stretches them."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

_SMALLEST_RANGE = 1e-3


def half_turn(images: Any) -> Any:
    """Turns images (b, h, w, c), a NumPy or JAX array, by 180 degrees.

    Raises:
      ValueError: if `images` does not have four axes.
    """
    _check_images(images)
    return images[:, ::-1, ::-1, :]


def _check_images(images: Any) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"the shape is {images.shape}; only images (b, h, w, c) can be turned and stretched."
        )


def stretch(images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scales each image from its own minimum and maximum to 0 and 1; divides by 0.001 at least."""
    _check_images(images)
    low = jnp.min(images, axis=(1, 2, 3), keepdims=True)
    high = jnp.max(images, axis=(1, 2, 3), keepdims=True)
    return (images - low) / jnp.maximum(high - low, _SMALLEST_RANGE)
