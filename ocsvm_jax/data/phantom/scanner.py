"""Simulates the image of a brain by a scanner: contrast, sharpness, bias field and noise."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from ocsvm_jax.data.phantom.anatomy import Tissue
from ocsvm_jax.data.phantom.template import Template
from ocsvm_jax.data.phantom.warp import field

_BIAS_SPACING = 60.0  # mm between the control points of the bias field
_KEPT = 0.5  # share of the template's intensity variation that every subject has
_PERCENTILE = 99.5  # percentile in the brain by which an image is divided


class Scanner(NamedTuple):
    """Ranges from which the parameters of each image of a scanner are drawn, white matter = 1.

    Attributes:
      gm, csf: intensity of grey matter and of fluid.
      noise: standard deviation of the noise in each channel.
      blur: standard deviation of the point spread function in the slice, mm.
      bias: standard deviation of the logarithm of the bias field.
      grain: standard deviation of the smoothing of the noise, voxels; 0 leaves it white.
    """

    gm: tuple[float, float]
    csf: tuple[float, float]
    noise: tuple[float, float]
    blur: tuple[float, float]
    bias: float
    grain: float


SCANNERS = {
    "A": Scanner((0.66, 0.70), (0.26, 0.32), (0.015, 0.025), (0.3, 0.5), 0.03, 0.0),
    "B": Scanner((0.64, 0.70), (0.24, 0.32), (0.020, 0.035), (0.4, 0.7), 0.05, 0.5),
    "C": Scanner((0.69, 0.74), (0.28, 0.36), (0.015, 0.030), (0.5, 0.8), 0.05, 0.7),
}


class Settings(NamedTuple):
    """Settings of one acquisition: a value drawn from each range of a scanner, and a bias field."""

    gm: float
    csf: float
    noise: float
    blur: float
    grain: float
    bias: Float[np.ndarray, "z x y"]


def draw_settings(rng: np.random.Generator, scanner: Scanner, template: Template) -> Settings:
    """Draws an acquisition.

    Equal streams give values at the same relative position within the ranges of every scanner.

    Args:
      rng: random generator.
      scanner: the scanner.
      template: the template.
    """
    ranges = np.array([scanner.gm, scanner.csf, scanner.noise, scanner.blur])
    gm, csf, noise, blur = ranges[:, 0] + (ranges[:, 1] - ranges[:, 0]) * rng.random(4)
    bias = field(rng, template.axes_mm, spacing=_BIAS_SPACING, deviation=scanner.bias)[0]
    return Settings(float(gm), float(csf), float(noise), float(blur), scanner.grain, np.exp(bias))


def draw_noise(
    rng: np.random.Generator, settings: Settings, shape: tuple[int, ...]
) -> Float[np.ndarray, "2 z x y"]:
    """Draws the noise of both channels of an acquisition, in units where white matter = 1.

    Args:
      rng: random generator.
      settings: of the acquisition.
      shape: (z, x, y) of the computed voxels.
    """
    noise = rng.standard_normal((2, *shape))
    if settings.grain:
        noise = ndimage.gaussian_filter(noise, (0, 0, settings.grain, settings.grain))
        noise /= noise.std()
    return settings.noise * noise


def contrast(tissue: Tissue, settings: Settings) -> Float[np.ndarray, "z x y"]:
    """The intensities of the brain before blur, bias and noise; 0 outside the brain."""
    values = settings.gm * tissue.gm + tissue.wm + settings.csf * tissue.csf
    return np.where(tissue.mask, values + _KEPT * tissue.residual, 0)


def blurred(values: Float[np.ndarray, "z x y"], settings: Settings) -> Float[np.ndarray, "z x y"]:
    """Intensities convolved with the point spread function, slice by slice."""
    return ndimage.gaussian_filter(values, (0, settings.blur, settings.blur))


def reach(settings: Settings) -> int:
    """Distance in voxels over which `blurred` spreads a change: SciPy truncates its Gaussian."""
    return int(4 * settings.blur + 0.5)


def detected(
    values: Float[np.ndarray, "z x y"], settings: Settings, noise: Float[np.ndarray, "2 z x y"]
) -> Float[np.ndarray, "z x y"]:
    """Applies the bias field, adds noise and takes the magnitude (Rician noise).

    Args:
      values: intensities after the blur.
      settings: of the acquisition.
      noise: of both channels.
    """
    return np.hypot(values * settings.bias + noise[0], noise[1])


def white_level(image: Float[np.ndarray, "z x y"], mask: Bool[np.ndarray, "z x y"]) -> float:
    """The intensity that is scaled to 1, the 99.5th percentile in the brain."""
    return float(np.percentile(image[mask], _PERCENTILE))
