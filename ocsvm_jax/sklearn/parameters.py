"""Checks of the estimators' parameters."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from ocsvm_jax import kernels
from ocsvm_jax.kernels import PairwiseKernel, Precomputed

NAMES = ("linear", "poly", "rbf", "sigmoid", "laplacian", "precomputed")
_MAKERS = {
    kernels.linear: "linear()",
    kernels.polynomial: "polynomial(3, 0.5, 1.0)",
    kernels.rbf: "rbf(0.5)",
    kernels.sigmoid: "sigmoid(0.5, 0.0)",
    kernels.laplacian: "laplacian(0.5)",
    kernels.precomputed: "precomputed()",
    kernels.scaled: "scaled(rbf(0.5), scale)",
}


def check_parameters(estimator: Any) -> None:
    """Raises ValueError, naming the parameter, on the first one that is invalid."""
    check_kernel(estimator.kernel)
    _check_number("nu", estimator.nu, "lie in (0, 1]", lambda v: 0 < v <= 1)
    _check_number("tol", estimator.tol, "be positive and finite", lambda v: 0 < v < math.inf)
    max_iter = estimator.max_iter
    _check_integer("max_iter", max_iter, "be positive, or -1 for no limit", bool(max_iter == -1))
    if estimator.kernel == "poly":
        _check_integer("degree", estimator.degree, "be at least 1")
    if estimator.kernel in ("poly", "sigmoid"):
        _check_number("coef0", estimator.coef0, "be finite", math.isfinite)
    if estimator.kernel in ("poly", "rbf", "sigmoid", "laplacian"):
        _check_gamma(estimator.gamma, positive=estimator.kernel in ("rbf", "laplacian"))
    dtype = estimator.dtype
    if dtype is not None and not _is_dtype(dtype):
        raise ValueError(f"dtype is {dtype!r}; it must be None, 'float64' or 'float32'.")


def check_kernel(kernel: Any) -> None:
    """Raises ValueError unless `kernel` is a name, a kernel of this package, or a callable."""
    maker = next((text for maker, text in _MAKERS.items() if kernel is maker), None)
    if isinstance(kernel, type):
        maker = next((t for m, t in _MAKERS.items() if m.__name__ == kernel.__name__.lower()), None)
        maker = maker or f"{kernel.__name__}(...)"
    if maker is not None:
        raise ValueError(
            f"kernel is {kernel.__name__} itself, which makes kernels; call it, as in "
            f"kernel={maker}, or pass one of the names {', '.join(map(repr, NAMES))}."
        )
    if not (kernel in NAMES if isinstance(kernel, str) else callable(kernel)):
        raise ValueError(
            f"kernel is {kernel!r}; it must be 'linear', 'poly', 'rbf', 'sigmoid', 'laplacian', "
            "'precomputed', a kernel of ocsvm_jax such as rbf(0.5), or a callable that takes two "
            "sets of points."
        )


def is_kernel_object(kernel: Any) -> bool:
    """Whether it is a kernel of this package, or any other object with a `pairwise` method."""
    return isinstance(kernel, PairwiseKernel)


def gives_matrices(kernel: Any) -> bool:
    """Whether it is a callable of two sets of points, as in scikit-learn."""
    return callable(kernel) and not is_kernel_object(kernel) and not isinstance(kernel, Precomputed)


def is_precomputed(kernel: Any) -> bool:
    """Whether kernel matrices are passed in place of points."""
    return isinstance(kernel, Precomputed) or kernel == "precomputed"


def _check_number(name: str, value: Any, rule: str, fits: Callable[[float], bool]) -> None:
    if not _is_number(value, Real):
        raise ValueError(f"{name} is {value!r}; it must be one number and {rule}.")
    if not fits(float(value)):
        raise ValueError(f"{name} is {value!r}; it must {rule}.")


def _check_integer(name: str, value: Any, rule: str, exception: bool = False) -> None:
    if not _is_number(value, Integral):
        raise ValueError(f"{name} is {value!r}; it must be an integer and {rule}.")
    if not (exception or value >= 1):
        raise ValueError(f"{name} is {value!r}; it must {rule}.")


def _check_gamma(gamma: Any, positive: bool) -> None:
    if isinstance(gamma, str) and gamma in ("scale", "auto"):
        return
    if not _is_number(gamma, Real):
        raise ValueError(f"gamma is {gamma!r}; it must be 'scale', 'auto' or a number.")
    gamma = float(gamma)
    if not 0 <= gamma < math.inf or (positive and gamma == 0):
        range_ = "positive" if positive else "non-negative"
        raise ValueError(f"gamma is {gamma!r}; it must be {range_} and finite, 'scale' or 'auto'.")


def _is_number(value: Any, kind: type) -> bool:
    """Whether value is a number of this kind; bool, an integer to Python, is excluded."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_dtype(dtype: Any) -> bool:
    try:
        return np.dtype(dtype) in (np.float64, np.float32)
    except TypeError:
        return False
