"""`OneClassSVM`: scikit-learn's estimator, solved by this package.

In scikit-learn's scale alpha sums to nu * sum(w), in ours to 1.
"""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ocsvm_jax.kernels import Linear
from ocsvm_jax.sklearn.accuracy import Solved, slack
from ocsvm_jax.sklearn.base import KernelEstimator
from ocsvm_jax.sklearn.conversion import to_sklearn


class OneClassSVM(KernelEstimator):
    """One-class SVM with the parameters, attributes, scale and sign of scikit-learn's.

    It differs from `sklearn.svm.OneClassSVM` as follows:

    - Up to 1,024 points the solution is as exact as the dtype allows, usually more exact than
      `tol` asks for; beyond that, it is as exact as `tol` asks for. A gap above `tol` is reported
      at every size. If the kernel is below 1 on the boundary, `tol` is relative to it;
      scikit-learn's tolerance is absolute and would accept any solution.
    - A sample weight is exactly a number of repetitions, also for gamma="scale", which uses the
      variance of the weighted points; scikit-learn uses that of the rows. Only the ratios of the
      weights matter, whatever their size. Negative weights are refused; LIBSVM leaves such points
      out.
    - `support_` refers to rows of X, even if some have weight 0.
    - Points on the boundary, whose decision value is zero up to rounding, count as inside: the
      offset is the lowest value that the gap and rounding (1e-12 of the kernel) allow.
    - `shrinking` and `cache_size` are accepted and have no effect.
    - `max_iter` bounds two-variable steps up to 1,024 points, as in LIBSVM, and beyond that rounds
      on a working set of 512 points. `n_iter_` counts the same, plus one for the start.
    - The kernel "laplacian", exp(-gamma |x - y|_1), is known by name, and kernels of this package
      can be passed directly: kernel=ocsvm_jax.rbf(0.3). degree must be at least 1, and gamma
      positive for "rbf" and "laplacian".
    - A matrix passed as a kernel that cannot be one, such as a matrix of distances, causes a
      warning.
    - A model fitted to dense points takes sparse ones, and vice versa. Sparse points of up to
      2,048 dimensions are made dense for the fit, and block by block for scoring. Beyond that
      kernels are computed from sparse products, except in a fit with fewer dimensions than points.
    - The first fit compiles the solver, which takes seconds: once for up to 256 points and once
      for up to 1,024, for all kernels, dimensions and parameters except `max_iter`; beyond that
      once per shape.
    - In a process forked from one in which JAX has run, fitting raises RuntimeError, and scoring
      uses NumPy, with the same values.

    Args:
      kernel: "linear", "poly", "rbf", "sigmoid", "laplacian", "precomputed", a kernel of
        ocsvm_jax such as `rbf(0.3)`, or a callable that takes two sets of points as they were
        passed and returns their Gram matrix.
      degree: degree of "poly", at least 1.
      gamma: for all kernels but "linear": a number, "auto" (1 / d) or "scale" (1 / (d * var(X))).
      coef0: constant of "poly" and "sigmoid".
      tol: bound on the KKT gap, in scikit-learn's scale.
      nu: in (0, 1], an upper bound on the share of points outside and a lower bound on the share
        of support vectors.
      shrinking: ignored.
      cache_size: ignored.
      verbose: whether to print one line on how the fit ended.
      max_iter: bound on the iterations; -1 for none.
      dtype: dtype of the arithmetic; None is "float64", whether or not JAX's float64 is enabled.
        "float32" is faster on accelerators. Returned arrays are float64 in either case.

    Attributes:
      support_: (m,) rows of X that are support vectors.
      support_vectors_: (m, d), CSR if X was sparse; (0, 0) if the kernel is precomputed or a
        callable.
      n_support_: (1,) number of support vectors.
      dual_coef_: (1, m) their alpha, in (0, w_i], summing to nu * sum(w); CSR if X was sparse.
      offset_: (1,) decision_function = score_samples - offset_.
      intercept_: (1,) -offset_.
      coef_: (1, d) weights of the features, for the linear kernel only; read-only.
      gamma_: value of gamma; not set if the kernel has none.
      fit_status_: 0, or 1 if `max_iter` or rounding ended the fit above `tol`.
      n_iter_: number of iterations.
      shape_fit_: shape of X.
      n_features_in_: d; not set if the kernel is a callable.
      feature_names_in_: (d,) names of the columns of X, if it has names.
      offset_fit_: (1,) after `calibrate`, the offset of the fit.
      calibration_scores_: (n_cal,) after `calibrate`, the scores of the calibration points, minus
        a bound on their rounding error.

    Example:
      >>> import numpy as np
      >>> from ocsvm_jax.sklearn import OneClassSVM
      >>> X = np.random.default_rng(0).normal(size=(100, 2))
      >>> model = OneClassSVM(nu=0.1, gamma=0.1).fit(X)
      >>> model.predict([[0.0, 0.0], [9.0, 9.0]])
      array([ 1, -1])
      >>> bool(np.mean(model.predict(X) == -1) <= 0.1)
      True
    """

    @property
    def coef_(self) -> Any:
        check_is_fitted(self)
        if not isinstance(self._kernel, Linear):
            raise AttributeError("coef_ is only available when using a linear kernel")
        coef = self.dual_coef_ @ self.support_vectors_
        # Recomputed at each access, so writing into it would have no effect.
        (coef if isinstance(coef, np.ndarray) else coef.data).flags.writeable = False
        return coef

    def to_sklearn(self) -> Any:
        """A fitted `sklearn.svm.OneClassSVM` with the same scores, for tools that need that class.

        Its attributes are those of this model, with the calibrated offset. Its scores are equal up
        to rounding, and its predictions are equal except on the boundary. skl2onnx and m2cgen can
        convert it.

        Raises:
          ValueError: if scikit-learn cannot express the kernel.
        """
        check_is_fitted(self)
        return to_sklearn(self)

    def _set_scale(self, solved: Solved, w: np.ndarray) -> None:
        unit = float(np.max(w))
        scale = float(self.nu) * unit * float(np.sum(w / unit))
        if not np.isfinite(scale):
            raise ValueError(
                f"sample_weight is as large as {unit:.1e}, and its sum overflows float64; only the "
                "ratios of weights matter: divide them by their largest."
            )
        self.dual_coef_ = self.dual_coef_ * scale
        # The lowest offset that the gap and rounding allow; see the note on the boundary above.
        self.offset_ = np.array([scale * (solved.rho - slack(solved, self._dtype))])
