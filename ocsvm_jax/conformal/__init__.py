"""Thresholds with a guaranteed false-alarm rate, by split-conformal calibration.

f = 0, the boundary of a one-class SVM, promises nothing about new points. Decision values of normal
points that the model was *not* fitted on do: among n of them and one more normal point, every rank
of the new one is equally likely, whatever the model and the distribution, as long as the n + 1
points are exchangeable (for example independent and identically distributed).

    f_calibration = model.decision_function(x_calibration)  # not the x of ocsvm_fit
    threshold = conformal_threshold(f_calibration, 0.01)
    flagged = model.decision_function(x_new) < threshold  # at most 1% of the normal points

or, in one line, `model.calibrate(x_calibration, 0.01).flagged(x_new)`. NumPy values, such as those
of the scikit-learn estimator, are computed in NumPy's float64, whatever JAX's settings: a
threshold that was rounded up would flag the very value that it equals.

The sign is that of `decision_function` throughout: **lower is more anomalous**. Negate scores that
are larger for more anomalous points, such as those of a `Method`, both for the calibration and for
new points: `-conformal_threshold(-scores, 0.01)` is the score above which to flag.

Never calibrate on the points the model was fitted on. The fit has pulled them inside, so their
decision values are higher than those of new points, and the false-alarm rate would exceed the one
asked for.

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
