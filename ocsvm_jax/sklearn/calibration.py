"""`calibrate` and `p_values`: thresholds with a false-alarm rate in place of f = 0."""

from typing import Any, TypeVar

import numpy as np

from ocsvm_jax.conformal import conformal_p_values, conformal_threshold
from ocsvm_jax.sklearn.base import KernelEstimator

# Exceeds the difference between two scores of the same point, relative to the largest score.
_ROUNDING = 256

Calibrated = TypeVar("Calibrated", bound="CalibratedMixin")


class CalibratedMixin(KernelEstimator):
    """Calibration with normal points that were not in the fit."""

    def calibrate(
        self: Calibrated,
        X_cal: Any,
        false_alarm: float = 0.05,
        confidence: float | None = None,
    ) -> Calibrated:
        """Moves `offset_` so that at most a share `false_alarm` of normal points lies outside.

        nu promises nothing about new points. Scores of normal points that were not in the fit do,
        whatever the data, as long as they and the new points are exchangeable (drawn in the same
        way). `decision_function`, `predict` and `intercept_` change with `offset_`;
        `score_samples` does not. The offset of the fit is kept as `offset_fit_`, and a new fit
        drops the calibration.

        Args:
          X_cal: normal points as in `predict`, none of which were in the fit.
          false_alarm: in (0, 1), the share on average over calibration sets.
          confidence: share of calibration sets, in (0, 1), for which the rate is at most
            `false_alarm`; with None it holds on average only.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if there are too few points for the rate; the message says how many are
            needed.
        """
        scores = self.score_samples(X_cal)
        # Rounding must not move a score that many points share below its own threshold.
        rounding = _ROUNDING * float(np.finfo(self._dtype).eps)
        lowered = scores - rounding * float(np.max(np.abs(scores), initial=0))
        threshold = conformal_threshold(lowered, false_alarm, confidence=confidence)
        self.offset_fit_ = getattr(self, "offset_fit_", self.offset_)
        self.calibration_scores_ = lowered
        self.offset_ = np.array([float(threshold)])
        self.intercept_ = -self.offset_
        return self

    def p_values(self, X: Any) -> np.ndarray:
        """Conformal p-values (q,) in (0, 1] of "this point is normal", after `calibrate`.

        Without a `confidence`, they are at most `false_alarm` exactly where `predict` returns -1.
        The Benjamini-Hochberg procedure on them bounds the share of false alarms among all alarms.

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
