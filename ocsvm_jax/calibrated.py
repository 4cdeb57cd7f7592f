"""A model with a threshold that guarantees a false-alarm rate, as `OCSVM.calibrate` returns it."""

import dataclasses
import os
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Num

from ocsvm_jax import model_file
from ocsvm_jax.arrays.pytrees import pytree
from ocsvm_jax.arrays.summary import counted, shown_range
from ocsvm_jax.conformal import conformal_p_values, conformal_threshold


@pytree(
    data_fields=["model", "calibration", "threshold"], meta_fields=["false_alarm", "confidence"]
)
@dataclasses.dataclass(frozen=True, repr=False)
class CalibratedOCSVM:
    """A fitted model with decision values of normal points that were not in the fit.

    Attributes:
      model: the `OCSVM`.
      calibration: (n,) decision values of the calibration points, ascending.
      threshold: () one of them; normal points fall below it at most at the rate asked for.
      false_alarm: that rate.
      confidence: probability with which the rate holds for this calibration set; None if it holds
        on average over calibration sets.
    """

    model: Any
    calibration: Float[Array, "*batch n"]
    threshold: Float[Array, "*batch"]
    false_alarm: float
    confidence: float | None = None

    @classmethod
    def of(
        cls, model: Any, f: Float[Array, " n"], false_alarm: float, confidence: float | None
    ) -> "CalibratedOCSVM":
        """Calibrates a model.

        Args:
          model: the `OCSVM`.
          f: (n,) its decision values at the calibration points.
          false_alarm: the wanted rate, in (0, 1).
          confidence: probability with which the rate holds for this calibration set, or None.

        Raises:
          ValueError: as `conformal_threshold`.
        """
        threshold = jnp.asarray(conformal_threshold(f, false_alarm, confidence=confidence))
        confidence = None if confidence is None else float(confidence)
        return cls(model, jnp.sort(f), threshold, float(false_alarm), confidence)

    def __repr__(self) -> str:
        points = counted((jnp.shape(self.calibration) or (0,))[-1], "calibration point")
        promise = "" if self.confidence is None else f" with confidence {self.confidence:g}"
        threshold = shown_range("threshold", self.threshold)
        return (
            f"CalibratedOCSVM({self.model!r},\n"
            f"  {points}, {threshold}, false_alarm={self.false_alarm:g}{promise})"
        )

    def decision_function(self, x: Num[ArrayLike, "q d"]) -> Float[Array, " q"]:
        """The decision function of the model; lower is more anomalous."""
        return self.model.decision_function(x)

    def flagged(self, x: Num[ArrayLike, "q d"]) -> Bool[Array, " q"]:
        """Which rows lie below the threshold: of normal points, at most a share `false_alarm`.

        Rows whose decision value is NaN are flagged too, since they cannot be scored.
        """
        return ~(self.decision_function(x) >= self.threshold)

    def p_values(self, x: Num[ArrayLike, "q d"], key: Array | None = None) -> Float[Array, " q"]:
        """`ocsvm_jax.conformal.conformal_p_values` of each row: at most t with probability t.

        Without a confidence, `flagged` is p_values <= false_alarm. With a key, they are randomised.
        """
        return jnp.asarray(conformal_p_values(self.calibration, self.decision_function(x), key))

    def save(self, path: str | os.PathLike) -> None:
        """Writes model and calibration to one `.npz`; `OCSVM.load_calibrated` reads it.

        Raises:
          FileNotFoundError: if the folder does not exist.
          ValueError: if the kernel is not composed of kernels of ocsvm_jax.kernels.
        """
        arrays = {"calibration": self.calibration, "threshold": self.threshold}
        promise = {"false_alarm": self.false_alarm, "confidence": self.confidence}
        model_file.write(path, self.model.kernel, self.model.arrays() | arrays, promise)
