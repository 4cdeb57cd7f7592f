"""The contrast of an image with itself turned around: how much more normal it looks upright.

A corruption that was not trained on moves the score of every image, and by more than the digit
does. It moves the score of the turned image by about as much, so that it cancels in the difference.
`ocsvm_jax.methods.turning` turns images.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Views(NamedTuple):
    """Scores of images upright and turned, larger for more anomalous.

    Attributes:
      upright: (n,) of the images as they are.
      turned: (n,) of the images turned by 180 degrees.
    """

    upright: Float[np.ndarray, " n"]
    turned: Float[np.ndarray, " n"]

    @property
    def contrast(self) -> Float[np.ndarray, " n"]:
        """upright - turned: large for an image that looks no more normal upright than turned."""
        return self.upright - self.turned


def log_views(errors: Views) -> Views:
    """Log reconstruction errors of both views: their contrast is the log of a ratio."""
    tiny = np.finfo(np.float64).tiny
    return Views(*(np.log(np.maximum(part, tiny)) for part in errors))


class Units(NamedTuple):
    """Mean and standard deviation of the contrast of the training images.

    Contrasts of different scores can be added in these units.
    """

    mean: float
    sd: float

    @classmethod
    def of(cls, train: Views) -> "Units":
        """The units of one score, from its views of the training images."""
        return cls(float(np.mean(train.contrast)), float(np.std(train.contrast)))

    def express(self, new: Views) -> Float[np.ndarray, " n"]:
        """The contrast of new images, in standard deviations from the mean of the training."""
        return (new.contrast - self.mean) / (self.sd if self.sd > 0 else 1.0)
