"""Thresholds with a guaranteed false-alarm rate, by split-conformal calibration.

f = 0, the boundary of a one-class SVM, promises nothing about new points. The decision values of
normal points that the model was *not* fitted on do: among n of them and one more normal point,
every rank of the new one is equally likely, whatever the model and the distribution, as long as
the n + 1 points are exchangeable (independent and identically distributed, say).

    f_calibration = model.decision_function(x_calibration)  # not the x of ocsvm_fit
    threshold = conformal_threshold(f_calibration, 0.01)
    flagged = model.decision_function(x_new) < threshold  # at most 1% of the normal points

or, in one, `model.calibrate(x_calibration, 0.01).flagged(x_new)`. NumPy's values, such as those of
the scikit-learn estimator, are computed with in NumPy's float64, whatever JAX's settings: a
threshold that is rounded up would flag the very value that it equals.

One sign throughout, that of `decision_function`: **lower is more anomalous**. Scores that are
larger for more anomalous, as those of a `Method`, are handed over negated, those of the calibration
and the new ones: `-conformal_threshold(-scores, 0.01)` is the score above which to flag.

Never calibrate on the points the model was fitted on: it has pulled them inside, their decision
values are higher than those of new points, and the false-alarm rate exceeds what was asked for.

Sources: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005); Laxhammar and
Falkman, "Conformal prediction for distribution-independent anomaly detection in streaming vessel
data" (2010); Vovk, "Conditional validity of inductive conformal predictors" (2012, arXiv
1209.2673); Bates, Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values"
(2023, arXiv 2104.08279).
"""

from ocsvm_jax.conformal.p_values import conformal_p_values
from ocsvm_jax.conformal.selection import benjamini_hochberg
from ocsvm_jax.conformal.threshold import conformal_threshold
from ocsvm_jax.conformal.values import round_down

__all__ = ["benjamini_hochberg", "conformal_p_values", "conformal_threshold", "round_down"]
