"""`SVDD`: support vector data description, the smallest ball that contains most points."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from sklearn.utils.validation import check_is_fitted

from ocsvm_jax.arrays.distances import squared_distances
from ocsvm_jax.arrays.pytrees import pytree
from ocsvm_jax.kernels import RBF, Linear, gram
from ocsvm_jax.sklearn import host_kernels
from ocsvm_jax.sklearn.accuracy import Solved, slack
from ocsvm_jax.sklearn.base import KernelEstimator
from ocsvm_jax.sklearn.parameters import gives_matrices, is_precomputed
from ocsvm_jax.sklearn.scoring import expansion


@pytree(data_fields=["kernel"])
@dataclasses.dataclass(frozen=True)
class HalfDistance:
    """-|phi(x) - phi(y)|^2 / 2 in the feature space of a kernel: k(x, y) - (k(x, x) + k(y, y)) / 2.

    If sum(alpha) = 1, alpha' K' alpha / 2 = alpha' K alpha / 2 - diag(K)' alpha / 2, the objective
    of SVDD (Tax and Duin 2004, equation 6, halved). A common offset of the points costs no digits.
    """

    kernel: Any

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        return self.pairwise(x[None, :], y[None, :])[0, 0]

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        if isinstance(self.kernel, Linear):
            return -0.5 * squared_distances(x, y)
        diagonal = lambda points: 0.5 * jax.vmap(self.kernel)(points, points)  # noqa: E731
        K = gram(self.kernel, x, y)
        return K - diagonal(x)[:, None] - diagonal(y)[None, :]


@host_kernels.host_gram.register
def _half_distance(kernel: HalfDistance, x: Any, y: Any) -> np.ndarray:
    if isinstance(kernel.kernel, Linear):
        return -0.5 * host_kernels.squared_distances(x, y)
    if isinstance(kernel.kernel, RBF):
        return np.expm1(-float(kernel.kernel.gamma) * host_kernels.squared_distances(x, y))
    own = lambda points: 0.5 * host_kernels.host_diagonal(kernel.kernel, points)  # noqa: E731
    return host_kernels.host_gram(kernel.kernel, x, y) - own(x)[:, None] - own(y)[None, :]


class SVDD(KernelEstimator):
    """Support vector data description: the smallest ball in feature space with at most nu outside.

    Minimises R^2 + sum_i w_i xi_i / (nu * sum(w)) over a centre a and a radius R, subject to
    |phi(x_i) - a|^2 <= R^2 + xi_i and xi_i >= 0 (Tax and Duin 2004, Machine Learning 54; their C is
    1 / (nu * n)). With kernels of constant k(x, x), such as "rbf", it is equivalent to the
    one-class SVM, whose decision values are nu * n / 2 times these. With other kernels it differs:
    it does not depend on the origin, and with "linear" it is a ball around the points themselves.

    The parameters are those of `OneClassSVM`, and its notes on exactness, weights, sparse points
    and forked processes apply. "precomputed" and callables of two sets are refused, since a matrix
    with the points of the fit does not contain k(x, x) of the queries. `tol` has the same meaning
    as in `OneClassSVM`, although decision values here do not grow with n.

    Attributes:
      support_: (m,) rows of X that are support vectors.
      support_vectors_: (m, d), CSR if X was sparse.
      n_support_: (1,) number of support vectors.
      dual_coef_: (1, m) their alpha, summing to 1: the centre is sum_i alpha_i phi(x_i).
      center_: (d,) the centre itself, for the linear kernel only.
      radius_: R; 0 if nu leaves so many points outside that a ball of radius 0 is optimal.
      offset_: (1,) -R^2: score_samples is -|phi(x) - a|^2, decision_function R^2 - |phi(x) - a|^2.
      intercept_: (1,) -offset_.
      gamma_, fit_status_, n_iter_, shape_fit_, n_features_in_, feature_names_in_, offset_fit_,
        calibration_scores_: as in `OneClassSVM`.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "SVDD":
        if is_precomputed(self.kernel) or gives_matrices(self.kernel):
            raise ValueError(
                f"kernel is {self.kernel!r}; SVDD needs k(x, x) of the points it scores, which a "
                "matrix of kernel values with the points of the fit does not contain. Pass a name "
                "or a kernel of ocsvm_jax, such as rbf(0.5)."
            )
        return super().fit(X, y, sample_weight)

    @property
    def radius_(self) -> float:
        check_is_fitted(self)
        return float(np.sqrt(max(-self.offset_[0], 0.0)))

    @property
    def center_(self) -> np.ndarray:
        check_is_fitted(self)
        if not isinstance(self._kernel, Linear):
            raise AttributeError("center_ is only available when using a linear kernel")
        return np.asarray(self._coefficients() @ self.support_vectors_).ravel()

    def _dual_kernel(self) -> Any:
        return HalfDistance(self._kernel)

    def _scores(self, x: Any) -> np.ndarray:
        return 2 * self._halves(x) - self._spread

    def _halves(self, x: Any) -> np.ndarray:
        kernel, alpha = self._dual_kernel(), self._coefficients()
        return expansion(kernel, self.support_vectors_, alpha, x, self._dtype)

    def _set_scale(self, solved: Solved, w: np.ndarray) -> None:
        del w
        # alpha' K' alpha: minus the weighted mean of |phi(x_i) - a|^2.
        self._spread = float(self._coefficients() @ self._halves(self.support_vectors_))
        rho = solved.rho - slack(solved, self._dtype)
        self.offset_ = np.array([2 * rho - self._spread])
