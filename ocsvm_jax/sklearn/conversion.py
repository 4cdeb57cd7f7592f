"""Converts a fitted estimator of this package to scikit-learn's."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import sklearn.svm
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import laplacian_kernel

from ocsvm_jax.kernels import RBF, Laplacian, Linear, Polynomial, Precomputed, Sigmoid


def to_sklearn(model: Any) -> sklearn.svm.OneClassSVM:
    """See `OneClassSVM.to_sklearn`.

    scikit-learn's own fit to the support vectors, stopped after one iteration, sets all attributes
    that its version needs. Then the solution is replaced.
    """
    points, rows = _points(model)
    settings = {"nu": model.nu, "tol": model.tol, "verbose": False}
    theirs = sklearn.svm.OneClassSVM(**_parameters(model), **settings, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Column names, if there are any, are copied below.
        theirs.fit(points)
    theirs.max_iter = model.max_iter
    coefficients = model.dual_coef_
    if sparse.issparse(coefficients) and not sparse.issparse(theirs.dual_coef_):
        coefficients = coefficients.toarray()
    theirs.support_ = np.asarray(rows, np.int32)
    if not callable(theirs.kernel):  # with a callable it keeps all points, and no support vectors
        theirs.support_vectors_ = model.support_vectors_.copy()
    theirs._n_support = np.array([len(rows), 0], np.int32)
    theirs.dual_coef_ = theirs._dual_coef_ = coefficients.copy()
    theirs.intercept_, theirs._intercept_ = model.intercept_.copy(), model.intercept_.copy()
    theirs.offset_ = model.offset_.copy()
    theirs._gamma = model._gamma
    theirs.fit_status_, theirs.n_iter_ = model.fit_status_, model.n_iter_
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(theirs, name, getattr(model, name))
    return theirs


def _points(model: Any) -> tuple[Any, np.ndarray]:
    """The points to fit on, and which rows of them are the support vectors."""
    if hasattr(model, "_X_fit"):
        return model._X_fit, model.support_
    if isinstance(model._kernel, Precomputed):
        return np.eye(model.shape_fit_[0]), model.support_
    return model.support_vectors_, np.arange(len(model.support_))


def _parameters(model: Any) -> dict[str, Any]:
    """The kernel in scikit-learn's terms."""
    if hasattr(model, "_X_fit"):
        return {"kernel": model.kernel}
    match model._kernel:
        case Precomputed():
            return {"kernel": "precomputed"}
        case Linear():
            return {"kernel": "linear"}
        case RBF(gamma=gamma):
            return {"kernel": "rbf", "gamma": float(gamma)}
        case Polynomial(degree=degree, gamma=gamma, coef0=coef0):
            numbers = {"gamma": float(gamma), "coef0": float(coef0)}
            return {"kernel": "poly", "degree": degree, **numbers}
        case Sigmoid(gamma=gamma, coef0=coef0):
            return {"kernel": "sigmoid", "gamma": float(gamma), "coef0": float(coef0)}
        case Laplacian(gamma=gamma):
            return {"kernel": partial(laplacian_kernel, gamma=float(gamma))}
    raise ValueError(
        f"the kernel {model._kernel!r} has no counterpart in scikit-learn; to_sklearn takes models "
        "with the kernels linear, poly, rbf, sigmoid, laplacian, precomputed or a callable of two "
        "sets of points. Instead of scaled(kernel, scale), divide X by the scale."
    )
