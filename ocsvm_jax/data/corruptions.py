"""Corruptions of small grey images, in the spirit of MNIST-C.

The names are those of Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", arXiv
1906.02337. The definitions are this project's own, for images with a dark background and a margin
of a few pixels. Each function maps (n, h, w) floats in [0, 1] to the same shape and range, and
takes a random generator, which the deterministic ones ignore.
"""

from collections.abc import Callable

import numpy as np
from scipy import signal

from ocsvm_jax import extras

with extras.needed_by(__name__, "train"):
    from skimage import feature

BLUR_LENGTH = 7.0  # length of the blur, pixels
BLUR_ANGLE = np.pi / 4  # largest angle between the blur and the horizontal, radians
TRANSLATION = (2, 4)  # smallest and largest shift along each axis, pixels
STRIPE_SHARE = 0.5  # share of the width between the inverted sides, which keeps its values
BRIGHTNESS = 0.5  # added to every grey value
CANNY_SIGMA = 1.0  # width of the smoothing before edges are detected, pixels


def identity(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the images as they are."""
    del rng
    return images


def motion_blur(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Averages each image along a line in a random direction, as if the camera had moved.

    The line is `BLUR_LENGTH` pixels long and rises or falls by at most `BLUR_ANGLE`.
    """
    angle = rng.uniform(-BLUR_ANGLE, BLUR_ANGLE, size=(len(images), 1, 1))
    reach = int(np.ceil(BLUR_LENGTH / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * np.cos(angle) + y * np.sin(angle))
    across = np.abs(y * np.cos(angle) - x * np.sin(angle))
    # A line one pixel wide, whose weight falls off linearly to its sides and at its ends.
    line = np.clip(1 - across, 0, 1) * np.clip((BLUR_LENGTH + 1) / 2 - along, 0, 1)
    line /= line.sum(axis=(1, 2), keepdims=True)
    return np.clip(signal.fftconvolve(images, line, mode="same", axes=(1, 2)), 0, 1)


def translate(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifts each image by whole pixels along both axes; pixels shifted outside are lost."""
    low, high = TRANSLATION
    shape = (2, len(images))
    shift = rng.integers(low, high, size=shape, endpoint=True) * rng.choice([-1, 1], size=shape)
    padded = np.pad(images, ((0, 0), (high, high), (high, high)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[1:], axis=(1, 2))
    return windows[np.arange(len(images)), high - shift[0], high - shift[1]]


def stripe(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Inverts the left and right sides and leaves a vertical stripe in the middle as it is."""
    del rng
    width = images.shape[2]
    side = round(width * (1 - STRIPE_SHARE) / 2)
    inverted = 1 - images
    inverted[:, :, side : width - side] = images[:, :, side : width - side]
    return inverted


def canny_edges(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces each image by its edges, 1 on an edge and 0 elsewhere (Canny's detector)."""
    del rng
    edges = [feature.canny(image, sigma=CANNY_SIGMA) for image in images]
    return np.reshape(edges, images.shape).astype(images.dtype)


def brightness(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Adds `BRIGHTNESS` everywhere and clips to 1, so strokes lose their shades."""
    del rng
    return np.clip(images + BRIGHTNESS, 0, 1)


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "identity": identity,
    "motion_blur": motion_blur,
    "translate": translate,
    "stripe": stripe,
    "canny_edges": canny_edges,
    "brightness": brightness,
}
