"""LIBSVM through scikit-learn, brought to this package's scale.

scikit-learn solves 0 <= a_i <= w_i, sum(a) = nu * sum(w), so its coefficients, offset and decision
values are larger than here by that sum. LIBSVM keeps the rows of K in float32 (`Qfloat` in its
sources), whatever it is given: compare on a matrix that has gone through `representable`.
"""

from typing import NamedTuple

import numpy as np
from sklearn.svm import OneClassSVM


class Reference(NamedTuple):
    alpha: np.ndarray
    rho: float
    decision: np.ndarray  # at the queries, or at the training points


def representable(K: np.ndarray) -> np.ndarray:
    """K rounded to numbers that float32 holds exactly, in the dtype it had."""
    return K.astype(np.float32).astype(K.dtype)


def solve(
    K: np.ndarray, nu: float, sample_weight: np.ndarray | None = None, *, tol: float = 1e-10
) -> Reference:
    """The solution of one precomputed float64 Gram matrix, with its decision values on the rows."""
    w = np.ones(len(K)) if sample_weight is None else sample_weight
    # LIBSVM drops points of weight 0 and then numbers the others anew: drop them before instead.
    kept = np.flatnonzero(w)
    model = OneClassSVM(kernel="precomputed", nu=nu, tol=tol)
    model.fit(K[np.ix_(kept, kept)], sample_weight=w[kept])
    reference = _rescaled(model, K[:, kept], nu, w[kept])
    alpha = np.zeros(len(K))
    alpha[kept] = reference.alpha
    return reference._replace(alpha=alpha)


def solve_rbf(
    x: np.ndarray, nu: float, gamma: float | str, queries: np.ndarray, *, tol: float = 1e-10
) -> Reference:
    """The same with LIBSVM's own Gaussian kernel and its decision values at `queries`."""
    model = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu, tol=tol).fit(x)
    return _rescaled(model, queries, nu, np.ones(len(x)))


def _rescaled(model: OneClassSVM, queries: np.ndarray, nu: float, w: np.ndarray) -> Reference:
    total = nu * float(np.sum(w))
    alpha = np.zeros(len(w))
    alpha[model.support_] = model.dual_coef_[0] / total
    return Reference(alpha, model.offset_[0] / total, model.decision_function(queries) / total)
