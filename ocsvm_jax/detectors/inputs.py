"""What users pass: vectors, images or series, checked, and scaled as the training data were."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.utils.validation import check_array

from ocsvm_jax.networks.fitting import AXES, Kind

SCALINGS = ("standard", "robust", "none")
# Farther than this from the centre, in units of the scale, a value counts as so far: float32 does
# not hold the square of an arbitrary float64, nor its sum over columns.
_FARTHEST = 1e15
_OF_A_NORMAL = 1.349  # interquartile range of a normal distribution, in standard deviations
_CHANNELS = (1, 3, 4)  # of images that are stored with their channels first


class Scaling(NamedTuple):
    """How inputs become what the network takes; fitted to the training data.

    Attributes:
      kind: "vectors", "images" or "series".
      shape: of one input of the network: (d,), (h, w, c) or (t, c).
      given: of one input as it is passed, (h, w) for images without an axis of channels.
      dtype: "uint8", "integer" or "float"; new images must be of the same kind.
      centre: (d,) or (c,) or () subtracted.
      scale: likewise; divided by.
    """

    kind: Kind
    shape: tuple[int, ...]
    given: tuple[int, ...]
    dtype: str
    centre: Float[np.ndarray, "..."]
    scale: Float[np.ndarray, "..."]

    @classmethod
    def fit(cls, x: Shaped[np.ndarray, "n ..."], kind: Kind, how: str) -> "Scaling":
        """The scaling for training data x; how is one of `SCALINGS`, and images have their own.

        Images are scaled to [0, 1]: by 0 and 255 if they are uint8, not at all if they are floats
        in [0, 1], else by the smallest and the largest of their values. Columns of vectors and
        channels of series are centred and divided by their standard deviation ("standard") or by
        their median and interquartile range ("robust"); a constant column is only centred.
        """
        given = x.shape[1:]
        shape = given if len(given) == AXES[kind] else (*given, 1)
        dtype = _kind_of_dtype(x)
        if kind == "images":
            low, high = _range_of(x)
            # Constant images have no range.
            return cls(kind, shape, given, dtype, np.asarray(low), np.asarray(high - low or 1.0))
        columns = x.reshape(-1, shape[-1])
        if how == "none":
            return cls(kind, shape, given, dtype, np.zeros(shape[-1]), np.ones(shape[-1]))
        centre, scale = _standard(columns)
        if how == "robust":
            robust, standard = RobustScaler().fit(columns), scale
            centre, scale = np.asarray(robust.center_), np.asarray(robust.scale_) / _OF_A_NORMAL
            # The middle half of a column may be constant while the rest is not.
            quartiles = np.percentile(columns, (25, 75), axis=0)
            scale = np.where(quartiles[0] < quartiles[1], scale, standard)
        return cls(kind, shape, given, dtype, centre, scale)

    def apply(self, x: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
        """(n, *shape) float32, or uint8 as they are: the training divides those by 255."""
        x = x.reshape(len(x), *self.shape)
        if self.dtype == "uint8":
            return x.astype(np.uint8)
        with np.errstate(over="ignore"):
            scaled = (x - self.centre) / self.scale
        return np.clip(scaled, -_FARTHEST, _FARTHEST).astype(np.float32)

    def check(self, x: Shaped[np.ndarray, "n ..."], name: str) -> None:
        """Raises ValueError if x cannot be of the same kind as the training data.

        Args:
          x: new data.
          name: of the detector, for messages.
        """
        if x.shape[1:] not in (self.given, self.shape):
            raise ValueError(
                f"X has shape {x.shape}; this {name} was fitted to {self.kind} "
                f"{('n', *self.given)}.".replace("'", "")
            )
        if self.kind != "images":
            return
        found, low, high = _kind_of_dtype(x), np.min(x), np.max(x)
        fits = {
            "uint8": found == "uint8" or (found == "integer" and low >= 0 and high <= 255),
            "integer": found != "float",
            "float": found == "float",
        }
        if not fits[self.dtype]:
            raise ValueError(
                f"X holds {x.dtype} images from {low:g} to {high:g}; this {name} was fitted to "
                f"{self.dtype} images from {float(self.centre):g} to "
                f"{float(self.centre + self.scale):g}. "
                "Convert them to the same values."
            )


def checked_images(x: Any, kind: Kind, name: str) -> Shaped[np.ndarray, "n ..."]:
    """Images or series as an array of finite numbers.

    Args:
      x: (n, h, w), (n, h, w, c), (n, t) or (n, t, c).
      kind: "images" or "series".
      name: of the detector, for messages.

    Raises:
      ValueError: if x is of another shape, holds NaN or infinite values or no numbers.
    """
    options: dict[str, Any] = {"allow_nd": True, "ensure_2d": False, "estimator": name}
    as_it_is: Any = None
    x = check_array(x, dtype=as_it_is, input_name="X", **options)
    if x.dtype.kind not in "buif":
        x = check_array(x, dtype="numeric", input_name="X", **options)
    axes = AXES[kind]
    if x.ndim not in (axes, axes + 1) or 0 in x.shape:
        wanted = {"images": "(n, h, w) or (n, h, w, c)", "series": "(n, t) or (n, t, c)"}[kind]
        raise ValueError(f"X has shape {x.shape}; {name} takes {kind} {wanted}.")
    if kind == "images" and x.ndim == 4 and x.shape[1] in _CHANNELS and min(x.shape[2:]) > 4:
        raise ValueError(
            f"X has shape {x.shape}, which looks like images with their channels first; {name} "
            "takes (n, h, w, c): pass np.moveaxis(X, 1, -1)."
        )
    return x.astype(np.float32) if x.dtype == bool else x


def _kind_of_dtype(x: Shaped[np.ndarray, "..."]) -> str:
    if x.dtype == np.uint8:
        return "uint8"
    return "integer" if x.dtype.kind in "iu" else "float"


def _range_of(x: Shaped[np.ndarray, "n ..."]) -> tuple[float, float]:
    if x.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(np.min(x)), float(np.max(x))
    return (0.0, 1.0) if x.dtype.kind == "f" and low >= 0 and high <= 1 else (low, high)


def _standard(columns: Shaped[np.ndarray, "n c"]) -> tuple[np.ndarray, np.ndarray]:
    scaler = StandardScaler().fit(columns)
    return np.asarray(scaler.mean_, np.float64), np.asarray(scaler.scale_, np.float64)
