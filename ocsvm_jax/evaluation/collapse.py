"""The collapse guard: scores that no longer distinguish images are not a result.

A network trained to bring latents to a centre has a trivial solution, the same latent for every
image. Its scores are then constant or rounding noise, and any metric computed from them is chance.
"""

import numpy as np
from jaxtyping import Float

# A distance below this share of the latents' own size is within some hundred roundings of float32.
_RESOLUTION = 1e-10
_SMALLEST_SPREAD = 1e-4


def spread(scores: Float[np.ndarray, " n"]) -> float:
    """Interquartile range of the scores relative to the median of their size; 0 for constants."""
    low, high = np.percentile(scores, (25, 75))
    size = np.median(np.abs(scores))
    return float((high - low) / size) if size > 0 else 0.0


def collapsed(
    scores: Float[np.ndarray, " n"], squared_size: Float[np.ndarray, " n"] | None = None
) -> bool:
    """Whether scores carry no information.

    Args:
      scores: (n,) scores of different images, normal and anomalous.
      squared_size: (n,) |z|^2 of the latents where the scores are squared distances of latents.

    Returns:
      True if the interquartile range of the scores is below 1e-4 of their median size, if one of
      them is not finite, or if three quarters of the squared distances lie below 1e-10 of the mean
      of |z|^2, which is what float32 makes of a distance of 0. It takes three quarters, because
      half of the images may be normal ones that a perfect detector places at the centre.
    """
    if not np.all(np.isfinite(scores)) or spread(scores) < _SMALLEST_SPREAD:
        return True
    if squared_size is None:
        return False
    return bool(np.percentile(scores, 75) < _RESOLUTION * np.mean(squared_size))
