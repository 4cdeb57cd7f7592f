"""The base class of the estimators: parameters, fit, scores. NumPy in, NumPy out."""

import warnings
from typing import Any, TypeVar

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from ocsvm_jax import forks
from ocsvm_jax.kernels import Precomputed
from ocsvm_jax.sklearn import inputs
from ocsvm_jax.sklearn.accuracy import Request, Solved
from ocsvm_jax.sklearn.calibration import CalibratedMixin
from ocsvm_jax.sklearn.fitted_kernel import FittedKernelMixin
from ocsvm_jax.sklearn.parameters import (
    check_parameters,
    gives_matrices,
    is_precomputed,
)
from ocsvm_jax.sklearn.scoring import expansion, weighted_sum
from ocsvm_jax.sklearn.solving import solve
from ocsvm_jax.solver import Status
from ocsvm_jax.solver.checks import normalized_weights

Estimator = TypeVar("Estimator", bound="KernelEstimator")
_NO_LIMIT = np.iinfo(np.int32).max
# Exceeds the difference between two scores of the same point, relative to the largest score.
_ROUNDING = 256


class KernelEstimator(CalibratedMixin, OutlierMixin, FittedKernelMixin, BaseEstimator):
    """An estimator fitted by solving a dual; subclasses define which dual, and the scale."""

    # Set by every fit; documented in the public subclasses.
    offset_: np.ndarray
    dual_coef_: Any
    support_vectors_: Any

    def __init__(
        self,
        *,
        kernel: Any = "rbf",
        degree=3,
        gamma: Any = "scale",
        coef0=0.0,
        tol=1e-3,
        nu=0.5,
        shrinking=True,
        cache_size=200,
        verbose=False,
        max_iter=-1,
        dtype: Any = None,
    ):
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.nu = nu
        self.shrinking = shrinking
        self.cache_size = cache_size
        self.verbose = verbose
        self.max_iter = max_iter
        self.dtype = dtype

    def fit(self: Estimator, X: Any, y: Any = None, sample_weight: Any = None) -> Estimator:
        """Fits the boundary to X (n, d), or to a precomputed Gram matrix (n, n); y is ignored.

        Args:
          X: points as rows, dense or sparse; for a callable kernel, whatever it takes.
          y: ignored.
          sample_weight: (n,) non-negative weights, all 1 by default; only their ratios matter.

        Returns:
          The estimator itself.

        Raises:
          ValueError: if a parameter, the points or the weights are invalid.
          RuntimeError: in a forked process, where JAX would hang.
        """
        del y
        forks.refuse(
            f"{type(self).__name__}.fit",
            " Scoring with the kernels that have a name works here.",
        )
        check_parameters(self)
        X = self._validated(X, reset=True)
        self.__dict__.pop("_X_fit", None)
        if gives_matrices(self.kernel):
            self._X_fit = X
        x = self._kernel_input(X)
        w = inputs.checked_weights(sample_weight, x.shape[0])
        self._resolve_kernel(x, w)
        if isinstance(self._kernel, Precomputed):
            if x.shape[0] != x.shape[1]:
                raise ValueError(f"the kernel matrix has shape {x.shape}; it must be square.")
            inputs.warn_of_no_kernel(x)
        self._set_solution(x, w)
        self.shape_fit_ = getattr(X, "shape", (x.shape[0],))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """`decision_function` without its offset, (q,); larger is more normal."""
        check_is_fitted(self)
        return self._scores(self._kernel_input(self._validated(X, reset=False)))

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` minus the offset, (q,); positive inside and negative outside."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """+1 inside and -1 outside, (q,) integers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def _lowered(self, scores: np.ndarray) -> np.ndarray:
        # Rounding must not move a score that many points share below its own threshold.
        rounding = _ROUNDING * float(np.finfo(self._dtype).eps)
        return scores - rounding * float(np.max(np.abs(scores), initial=0))

    def _set_offset(self, offset: float) -> None:
        self.offset_ = np.array([offset])
        self.intercept_ = -self.offset_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = is_precomputed(self.kernel)
        tags.input_tags.sparse = True
        return tags

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype("float64" if self.dtype is None else self.dtype)

    def _validated(self, X: Any, reset: bool) -> Any:
        """Points as a float64 matrix; for a callable kernel, X as it was passed."""
        if gives_matrices(self.kernel):
            return X
        inputs.refuse_masked(X)
        return validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=reset)

    def _kernel_input(self, X: Any) -> Any:
        """The points, or for a callable kernel its values with the points of the fit."""
        kernel: Any = self.kernel
        if not gives_matrices(kernel):
            return X
        K = kernel(X, self._X_fit)
        K = np.asarray(K.toarray() if sparse.issparse(K) else K, np.float64)
        if K.ndim != 2:
            raise ValueError(
                f"the kernel returned an array of shape {K.shape}; a callable takes two sets of "
                "points and returns their (q, n) kernel matrix, as in scikit-learn. For a function "
                "of two points, pass functools.partial(ocsvm_jax.gram, kernel)."
            )
        return K

    def _scores(self, x: Any) -> np.ndarray:
        kernel, alpha = self._kernel, self._coefficients()
        if not isinstance(kernel, Precomputed):
            return expansion(kernel, self.support_vectors_, alpha, x, self._dtype)
        n = self.shape_fit_[0]
        if x.ndim != 2 or x.shape[1] != n:
            raise ValueError(
                f"the kernel matrix has shape {x.shape}; it must be (q, {n}), the kernel of "
                f"each query with the {n} points of the fit."
            )
        return weighted_sum(x, self.support_, alpha)

    def _coefficients(self) -> np.ndarray:
        coefficients = self.dual_coef_
        return (coefficients.toarray() if sparse.issparse(coefficients) else coefficients)[0]

    def _set_solution(self, x: Any, w: np.ndarray) -> None:
        weights = np.asarray(normalized_weights(w))
        request = Request(
            nu=float(self.nu),
            weights=weights,
            # tol is in the scale where alpha sums to nu * n; if that is below 1, the bound would
            # be looser.
            tol=float(self.tol) / max(float(self.nu) * float(np.sum(weights)), 1),
            max_steps=_NO_LIMIT if self.max_iter == -1 else min(int(self.max_iter), _NO_LIMIT),
            dtype=self._dtype,
        )
        solved, asked = solve(self._dual_kernel(), x, request)
        self._set_support(solved, x)
        self._set_scale(solved, w)
        self.intercept_ = -self.offset_
        self._drop_calibration()
        self.n_iter_ = max(solved.num_steps, 1)
        self.fit_status_ = int(solved.gap > asked)
        self._report(solved, asked)

    def _dual_kernel(self) -> Any:
        """The kernel for which the dual is solved."""
        return self._kernel

    def _set_scale(self, solved: Solved, w: np.ndarray) -> None:
        """Sets `offset_`, and rescales the coefficients, which sum to 1 after `_set_support`."""
        raise NotImplementedError

    def _set_support(self, solved: Solved, x: Any) -> None:
        self.support_ = solved.support
        self.n_support_ = np.array([solved.support.size], np.int32)
        self.dual_coef_ = solved.alpha[None, :]
        self.support_vectors_ = x[solved.support]
        if isinstance(self._kernel, Precomputed):
            self.support_vectors_ = np.empty((0, 0))
        elif sparse.issparse(x):
            csr = sparse.csr_array if isinstance(x, sparse.sparray) else sparse.csr_matrix
            self.dual_coef_ = csr(self.dual_coef_)

    def _report(self, solved: Solved, asked: float) -> None:
        name = type(self).__name__
        ended = f"{Status(solved.status).name} after {self.n_iter_} iterations"
        gap = f"a gap of {solved.gap:.1e} in units of the kernel, with {asked:.1e} asked for"
        if self.verbose:
            print(f"[{name}] {ended}, at {gap}. Support vectors: {solved.support.size}.")
        if self.fit_status_:
            warnings.warn(
                f"The solver ended as {ended}, at {gap}. Raise max_iter, scale the data (with "
                "StandardScaler or MinMaxScaler), or raise tol.",
                ConvergenceWarning,
                stacklevel=4,
            )
