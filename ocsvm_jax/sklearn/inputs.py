"""Checks and conversions of points, weights and gamma before a fit."""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse

from ocsvm_jax.kernels import resolve_gamma
from ocsvm_jax.sklearn.host_kernels import DENSE_DIMENSIONS, dense
from ocsvm_jax.solver.checks import check_weights, normalized_weights


def refuse_masked(X: Any) -> None:
    """Raises ValueError if entries are masked, since NumPy would drop the mask silently."""
    if np.ma.isMaskedArray(X) and np.ma.is_masked(X):
        raise ValueError(
            f"X is a masked array with {np.ma.count_masked(X)} masked values, which would be "
            "taken as they are. Fill or impute them first: X.filled(value), or a pipeline with "
            "sklearn.impute.SimpleImputer."
        )


def checked_weights(sample_weight: Any, n: int) -> Float[np.ndarray, " n"]:
    """The weights as float64, ones by default.

    Raises:
      ValueError: if they are not n finite, non-negative numbers, one of them positive.
    """
    if sample_weight is None:
        return np.ones(n)
    w = np.asarray(sample_weight, np.float64)
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; X has {n} rows, so it must be ({n},)."
        )
    try:
        check_weights(w)
    except ValueError as error:
        if np.any(w > 0) or np.any(np.isnan(w)):
            raise
        # scikit-learn's checks expect this text.
        message = f"Invalid input - all samples have zero or negative weights. {error}"
        raise ValueError(message) from None
    return w


def resolved_gamma(gamma: Any, x: Any, w: Float[np.ndarray, " n"]) -> float:
    """The value of gamma; sparse points of many dimensions stay sparse.

    Args:
      gamma: "scale", "auto" or a number.
      x: (n, d) points, dense or sparse.
      w: (n,) weights.
    """
    if gamma == "scale" and x.shape[1] > DENSE_DIMENSIONS and sparse.issparse(x):
        variance = _sparse_variance(x, w)
        return 1 / (x.shape[1] * variance) if variance > 0 else 1.0
    return float(resolve_gamma(gamma, dense(x), w)) if isinstance(gamma, str) else float(gamma)


def _sparse_variance(x: Any, w: Float[np.ndarray, " n"]) -> float:
    """The variance of all entries, zeros included, with weights as numbers of repetitions."""
    part = w > 0
    x, w = x[part].tocoo(), np.asarray(normalized_weights(w[part]))
    total, weights = float(np.sum(w)) * x.shape[1], w[x.row]
    mean = np.sum(weights * x.data) / total
    zeros = total - np.sum(weights)
    return float((np.sum(weights * (x.data - mean) ** 2) + zeros * mean**2) / total)


def warn_of_no_kernel(K: Any) -> None:
    """Warns if a matrix given as a kernel cannot be one, such as a matrix of distances."""
    diagonal = np.asarray(K.diagonal(), np.float64)
    largest = abs(K).max()
    if not np.isfinite(largest):
        return  # reported by the solver
    # |K_ij|^2 <= K_ii K_jj, for all pairs at once.
    bound = np.max(np.maximum(diagonal, 0))
    if np.min(diagonal) >= -1e-6 * largest and largest <= (1 + 1e-6) * bound:
        return
    what = "its diagonal is zero" if not np.any(diagonal) else f"its diagonal ends at {bound:.3g}"
    warnings.warn(
        f"The matrix passed as a kernel is not positive semi-definite: {what}, while an entry is "
        f"as large as {largest:.3g}. A matrix of distances D is not a kernel, but "
        "np.exp(-gamma * D**2) is. The solution is a stationary point of the dual and may be "
        "meaningless.",
        UserWarning,
        stacklevel=3,
    )
