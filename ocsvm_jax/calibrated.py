"""A model with a threshold of a guaranteed false-alarm rate; `OCSVM.calibrate` makes it."""

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
    """A fitted model and what its decision values of new normal points look like.

    Attributes:
      model: the `OCSVM`.
      calibration: (n,) its decision values of the calibration points, ascending.
      threshold: () one of them; normal points fall below it at most at the rate asked for.
      false_alarm: that rate.
      confidence: with what probability the rate holds for this calibration set; None, where it
        holds on average over calibration sets.
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
        """From the decision values f of calibration points; ValueError as `conformal_threshold`."""
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
        """That of the model: lower is more anomalous."""
        return self.model.decision_function(x)

    def flagged(self, x: Num[ArrayLike, "q d"]) -> Bool[Array, " q"]:
        """Which rows lie below the threshold: normal ones at most at the rate of false alarms.

        True also where the decision value is NaN: what cannot be scored must not pass.
        """
        return ~(self.decision_function(x) >= self.threshold)

    def p_values(self, x: Num[ArrayLike, "q d"], key: Array | None = None) -> Float[Array, " q"]:
        """`ocsvm_jax.conformal.conformal_p_values` of each row: at most t with probability t.

        Without a confidence, `flagged` is p_values <= false_alarm. With a key, randomised.
        """
        return jnp.asarray(conformal_p_values(self.calibration, self.decision_function(x), key))

    def save(self, path: str | os.PathLike) -> None:
        """Writes model and calibration to one `.npz`; `OCSVM.load_calibrated` reads it.

        Raises:
          FileNotFoundError: if the folder does not exist.
          ValueError: if the kernel is not made of those of ocsvm_jax.kernels.
        """
        arrays = {"calibration": self.calibration, "threshold": self.threshold}
        promise = {"false_alarm": self.false_alarm, "confidence": self.confidence}
        model_file.write(path, self.model.kernel, self.model.arrays() | arrays, promise)
