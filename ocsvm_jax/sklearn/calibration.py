"""`calibrate` and `p_values`: thresholds by false-alarm rate in place of f = 0."""

from typing import Any, TypeVar

import numpy as np

from ocsvm_jax.conformal import conformal_p_values, conformal_threshold
from ocsvm_jax.sklearn.base import KernelEstimator

# More than the same point's score may differ by from one call to another, relative to the largest.
_ROUNDING = 256

Calibrated = TypeVar("Calibrated", bound="CalibratedMixin")


class CalibratedMixin(KernelEstimator):
    """Calibration on normal points that the fit has not seen."""

    def calibrate(
        self: Calibrated,
        X_cal: Any,
        false_alarm: float = 0.05,
        confidence: float | None = None,
    ) -> Calibrated:
        """Moves `offset_` so that at most a share `false_alarm` of normal points lies outside.

        nu promises nothing about new points. The scores of normal points that were not in the fit
        do, whatever the data, as long as these and the new points are exchangeable (drawn alike).
        `decision_function`, `predict` and `intercept_` follow; `score_samples` stays. The offset
        of the fit is kept as `offset_fit_`, and a new fit drops the calibration.

        Args:
          X_cal: points as in `predict`: normal, and none of those of the fit.
          false_alarm: in (0, 1), the share on average over calibration sets.
          confidence: the share of calibration sets, in (0, 1), that are to keep `false_alarm` each
            for itself; None asks for the average alone.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if there are too few points for the rate; the message says how many it takes.
        """
        scores = self.score_samples(X_cal)
        # A value that many points share must not fall below its own threshold by rounding.
        rounding = _ROUNDING * float(np.finfo(self._dtype).eps)
        lowered = scores - rounding * float(np.max(np.abs(scores), initial=0))
        threshold = conformal_threshold(lowered, false_alarm, confidence=confidence)
        self.offset_fit_ = getattr(self, "offset_fit_", self.offset_)
        self.calibration_scores_ = lowered
        self.offset_ = np.array([float(threshold)])
        self.intercept_ = -self.offset_
        return self

    def p_values(self, X: Any) -> np.ndarray:
        """How rare a score as low as its own is among normal points: (q,) in (0, 1].

        Conformal p-values of "this point is normal", after `calibrate`: at most `false_alarm`
        exactly where `predict` says -1 (without a `confidence`). Benjamini-Hochberg over them
        bounds the share of false alarms among the alarms.

        Raises:
          AttributeError: before `calibrate`.
        """
        if not hasattr(self, "calibration_scores_"):
            raise AttributeError(
                f"this {type(self).__name__} is not calibrated; call calibrate(X_cal) with normal "
                "points that were not in the fit."
            )
        scores = self.score_samples(X)
        return np.asarray(conformal_p_values(self.calibration_scores_, scores))
