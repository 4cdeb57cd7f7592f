"""`calibrate` and `p_values`: thresholds with a false-alarm rate in place of f = 0."""

from typing import Any, TypeVar

import numpy as np

from ocsvm_jax.conformal import conformal_p_values, conformal_threshold

Calibrated = TypeVar("Calibrated", bound="CalibratedMixin")


class CalibratedMixin:
    """Calibration with normal points that were not in the fit, of any detector with an offset."""

    # Set by every fit of the detector.
    offset_: Any

    def score_samples(self, X: Any) -> np.ndarray:
        """Scores, larger for more normal points."""
        raise NotImplementedError

    def calibrate(
        self: Calibrated,
        X_cal: Any,
        false_alarm: float = 0.05,
        confidence: float | None = None,
    ) -> Calibrated:
        """Moves `offset_` so that at most a share `false_alarm` of normal points lies outside.

        nu promises nothing about new points. Scores of normal points that were not in the fit do,
        whatever the data, as long as they and the new points are exchangeable (drawn in the same
        way). `decision_function` and `predict` (and `intercept_`) change with `offset_`;
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
        scores = self._lowered(self.score_samples(X_cal))
        threshold = conformal_threshold(scores, false_alarm, confidence=confidence)
        self.offset_fit_ = getattr(self, "offset_fit_", self.offset_)
        self.calibration_scores_ = scores
        self._set_offset(float(threshold))
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

    def _lowered(self, scores: np.ndarray) -> np.ndarray:
        """The scores minus how much two scores of one point may differ by rounding."""
        return scores

    def _set_offset(self, offset: float) -> None:
        self.offset_ = offset

    def _drop_calibration(self) -> None:
        for calibrated in ("offset_fit_", "calibration_scores_"):
            self.__dict__.pop(calibrated, None)
