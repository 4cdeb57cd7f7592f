"""`OneClassSVM`: scikit-learn's estimator, solved by this package.

scikit-learn's scale is nu * sum(w) times ours: its alpha sums to that, where ours sums to 1.
"""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ocsvm_jax.kernels import Linear
from ocsvm_jax.sklearn.accuracy import Solved, slack
from ocsvm_jax.sklearn.calibration import CalibratedMixin
from ocsvm_jax.sklearn.conversion import to_sklearn


class OneClassSVM(CalibratedMixin):
    """One-class SVM with the parameters, attributes, scale and sign of scikit-learn's.

    It differs from `sklearn.svm.OneClassSVM` in this:

    - Up to 1,024 points the solution is as exact as the dtype allows, and more exact than `tol`
      asks for as a rule; beyond, it is as exact as `tol` asks for. A gap above `tol` is reported
      at every size. Where the kernel is below 1 on the boundary, `tol` is relative to it:
      scikit-learn's tolerance is absolute, and then any solution will do.
    - A sample weight is exactly a number of repetitions, for gamma="scale" too, which takes the
      variance of the weighted points; scikit-learn takes that of the rows. Of the weights only
      the ratios decide, at any size of them. Negative weights are refused, where LIBSVM leaves
      such points out.
    - `support_` counts rows of X also where some have weight 0.
    - Points on the boundary, whose decision value is zero but for rounding, count as inside: the
      offset is the lowest that the gap reached and rounding (1e-12 of the kernel) leave open.
    - `shrinking` and `cache_size` are accepted and have no effect.
    - `max_iter` bounds two-variable steps up to 1,024 points, as in LIBSVM; beyond, rounds on a
      working set of 512 points. `n_iter_` counts the same, and the start as one.
    - The kernel "laplacian", exp(-gamma |x - y|_1), is known by name, and kernels of this package
      are taken as they are: kernel=ocsvm_jax.rbf(0.3). degree is at least 1, and gamma positive
      for "rbf" and "laplacian".
    - A matrix passed as a kernel that surely is none, such as one of distances, is warned of.
    - A model fitted on dense points takes sparse ones, and the other way round. Sparse points of
      up to 2,048 dimensions are made dense for the fit, and in blocks for the scores; beyond that
      kernels come from sparse products, but for the fit of more points than dimensions.
    - The first fit compiles the solver (seconds): once for up to 256 points and once for up to
      1,024, for all kernels, dimensions and parameters but `max_iter`; beyond, once a shape.
    - In a process forked from one in which JAX has run, fitting raises RuntimeError, and scoring
      goes through NumPy, to the same values.

    Args:
      kernel: "linear", "poly", "rbf", "sigmoid", "laplacian", "precomputed", a kernel of
        ocsvm_jax such as `rbf(0.3)`, or a callable that takes two sets of points as they were
        passed and returns their Gram matrix.
      degree: of "poly", at least 1.
      gamma: of all kernels but "linear": a number, "auto" (1 / d) or "scale" (1 / (d * var(X))).
      coef0: of "poly" and "sigmoid".
      tol: bound on the KKT gap, in scikit-learn's scale.
      nu: in (0, 1], bounds the share of points outside from above, of support vectors from below.
      shrinking: ignored.
      cache_size: ignored.
      verbose: prints one line on how the fit ended.
      max_iter: bound on the iterations; -1 is none.
      dtype: of the arithmetic; None is "float64", whether or not JAX's float64 is enabled.
        "float32" is faster on accelerators. Arrays handed back are float64 either way.

    Attributes:
      support_: (m,) rows of X that are support vectors.
      support_vectors_: (m, d), CSR if X was sparse; (0, 0) if the kernel is precomputed or a
        callable.
      n_support_: (1,) their number.
      dual_coef_: (1, m) their alpha, in (0, w_i], summing to nu * sum(w); CSR if X was sparse.
      offset_: (1,) decision_function = score_samples - offset_.
      intercept_: (1,) -offset_.
      coef_: (1, d) the weights of the features, for the linear kernel alone; read-only.
      gamma_: what gamma stood for; not set if the kernel has none.
      fit_status_: 0, or 1 if `max_iter` or rounding ended the fit above `tol`.
      n_iter_: number of iterations.
      shape_fit_: shape of X.
      n_features_in_: d; not set if the kernel is a callable.
      feature_names_in_: (d,) the names of the columns of X, where it has names.
      offset_fit_: (1,) after `calibrate`, the offset of the fit.
      calibration_scores_: (n_cal,) after `calibrate`, scores of the calibration points, less what
        rounding may move a score by.
    """

    @property
    def coef_(self) -> Any:
        check_is_fitted(self)
        if not isinstance(self._kernel, Linear):
            raise AttributeError("coef_ is only available when using a linear kernel")
        coef = self.dual_coef_ @ self.support_vectors_
        # To write into what is computed at each look would change nothing.
        (coef if isinstance(coef, np.ndarray) else coef.data).flags.writeable = False
        return coef

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.svm.OneClassSVM` with these scores, for whatever reads that class.

        Its attributes are this model's, its scores equal to rounding and its predictions off the
        boundary; the offset is the calibrated one. skl2onnx and m2cgen convert it.

        Raises:
          ValueError: if the kernel is one that scikit-learn can't be given.
        """
        check_is_fitted(self)
        return to_sklearn(self)

    def _set_scale(self, solved: Solved, w: np.ndarray) -> None:
        unit = float(np.max(w))
        scale = float(self.nu) * unit * float(np.sum(w / unit))
        if not np.isfinite(scale):
            raise ValueError(
                f"sample_weight is as large as {unit:.1e}, and its sum overflows float64; only the "
                "ratios of weights decide: divide them by their largest."
            )
        self.dual_coef_ = self.dual_coef_ * scale
        # The lower end of what the gap and rounding leave open: see the note on the boundary.
        self.offset_ = np.array([scale * (solved.rho - slack(solved, self._dtype))])
