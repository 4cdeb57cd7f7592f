"""`OneClassSVM`: scikit-learn's estimator, solved by this package. NumPy in, NumPy out.

scikit-learn's scale is nu * sum(w) times ours: its alpha sums to that, where ours sums to 1.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import sparse
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import (
    Precomputed,
    gram,
    laplacian,
    linear,
    polynomial,
    precomputed,
    rbf,
    sigmoid,
)
from ocsvm_jax.model import OCSVM, FitInfo
from ocsvm_jax.solver import OCSVMSolution, Status, ocsvm_solve
from ocsvm_jax.solver.checks import check_nu, check_weights

# The solver compiles for seconds, once a size, and solves in milliseconds: small problems are
# filled up to one of these with points of weight 0. Beyond, ocsvm_fit needs no Gram matrix.
_SIZES = (256, 1024)
# For scores, the next power of two, within these; more centres come in tiles of the last size.
_SMALLEST, _TILE = 32, 2048
_NO_LIMIT = np.iinfo(np.int32).max
# What the solver calls exact, relative to the kernel, and more than scores are rounded by.
_RESOLUTION = {"float64": 1e-10, "float32": 1e-6}


class OneClassSVM(OutlierMixin, BaseEstimator):
    """One-class SVM with the parameters, attributes, scale and sign of scikit-learn's.

    It differs from `sklearn.svm.OneClassSVM` in this:

    - Up to 1,024 points the solution is exact (a gap of 1e-10 of the spread of the kernel, in
      float64), whatever `tol`; beyond, `tol` bounds the gap in scikit-learn's scale.
    - A sample weight is exactly a number of repetitions, for gamma="scale" too, which takes the
      variance of the weighted points; scikit-learn takes that of the rows. Negative weights are
      refused, where LIBSVM leaves such points out.
    - `support_` counts rows of X also where some have weight 0.
    - Points on the boundary, whose decision value is zero but for rounding, count as inside: the
      offset is the lowest that the accuracy of the solution leaves open (1e-10 of the kernel).
    - `shrinking` and `cache_size` are accepted and have no effect.
    - `max_iter` bounds two-variable steps up to 1,024 points, as in LIBSVM; beyond, rounds on a
      working set of 512 points. `n_iter_` counts the same, and the start as one.
    - The kernel "laplacian", exp(-gamma |x - y|_1), is known by name. degree is at least 1, and
      gamma positive for "rbf" and "laplacian".
    - Sparse input is made dense, and so are the attributes. A model fitted on dense points takes
      sparse ones, and the other way round.
    - The first fit compiles the solver (seconds): once for up to 256 points and once for up to
      1,024, for all kernels, dimensions and parameters but `max_iter`; beyond, once a shape.

    Args:
      kernel: "linear", "poly", "rbf", "sigmoid", "laplacian", "precomputed", or a callable that
        takes two sets of points as they were passed and returns their Gram matrix.
      degree: of "poly", at least 1.
      gamma: of all kernels but "linear": a number, "auto" (1 / d) or "scale" (1 / (d * var(X))).
      coef0: of "poly" and "sigmoid".
      tol: bound on the KKT gap beyond 1,024 points, in scikit-learn's scale.
      nu: in (0, 1], bounds the share of points outside from above, of support vectors from below.
      shrinking: ignored.
      cache_size: ignored.
      verbose: prints one line on how the fit ended.
      max_iter: bound on the iterations; -1 is none.
      dtype: of the arithmetic; None is "float64", whether or not JAX's float64 is enabled.
        "float32" is faster on accelerators. Arrays handed back are float64 either way.

    Attributes:
      support_: (m,) rows of X that are support vectors.
      support_vectors_: (m, d); (0, 0) if the kernel is precomputed or a callable.
      n_support_: (1,) their number.
      dual_coef_: (1, m) their alpha, in (0, w_i], summing to nu * sum(w).
      offset_: (1,) decision_function = score_samples - offset_.
      intercept_: (1,) -offset_.
      coef_: (1, d) the weights of the features, for the linear kernel alone; read-only.
      fit_status_: 0, or 1 if `max_iter` or rounding ended the fit early.
      n_iter_: number of iterations.
      shape_fit_: shape of X.
      n_features_in_: d; not set if the kernel is a callable.
      feature_names_in_: (d,) the names of the columns of X, where it has names.
    """

    def __init__(
        self,
        *,
        kernel="rbf",
        degree=3,
        gamma="scale",
        coef0=0.0,
        tol=1e-3,
        nu=0.5,
        shrinking=True,
        cache_size=200,
        verbose=False,
        max_iter=-1,
        dtype=None,
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

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "OneClassSVM":
        """Fits the boundary to X (n, d), or to a precomputed Gram matrix (n, n); y is ignored.

        Args:
          X: points as rows, dense or sparse; for a callable kernel, whatever that takes.
          y: ignored.
          sample_weight: (n,) non-negative weights, all 1 by default.

        Returns:
          The estimator itself.

        Raises:
          ValueError: on a parameter, points or weights that can not work.
        """
        del y
        self._check_parameters()
        X = self._validated(X, reset=True)
        if callable(self.kernel):
            self._X_fit = X
        x = self._kernel_input(X)
        if (callable(self.kernel) or self.kernel == "precomputed") and x.shape != x.shape[:1] * 2:
            raise ValueError(f"the kernel matrix has shape {x.shape}; it must be square.")
        w = _checked_weights(sample_weight, x.shape[0])
        self._kernel = self._make_kernel(x, w)
        self._set_solution(x, w)
        self.shape_fit_ = getattr(X, "shape", (x.shape[0],))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """sum_i alpha_i k(x_i, x) for every row x of X: (q,), the larger the more familiar."""
        check_is_fitted(self)
        x = self._kernel_input(self._validated(X, reset=False))
        alpha = self.dual_coef_[0]
        if isinstance(self._kernel, Precomputed):
            n = self.shape_fit_[0]
            if x.ndim != 2 or x.shape[1] != n:
                raise ValueError(
                    f"the kernel matrix has shape {x.shape}; it must be (q, {n}), the kernel of "
                    f"each query with the {n} points of the fit."
                )
            return x[:, self.support_] @ alpha
        return _expansion(self._kernel, self.support_vectors_, alpha, x, self._dtype)

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` less the offset: (q,), positive inside and negative outside."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """+1 inside and -1 outside: (q,) integers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @property
    def coef_(self) -> np.ndarray:
        if self.kernel != "linear":
            raise AttributeError("coef_ is only available when using a linear kernel")
        coef = self.dual_coef_ @ self.support_vectors_
        # To write into what is computed anew at each look would change nothing.
        coef.flags.writeable = False
        return coef

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        tags.input_tags.sparse = True
        return tags

    def _check_parameters(self) -> None:
        check_nu(self.nu)
        if not float(self.tol) > 0:
            raise ValueError(f"tol is {self.tol!r}; it must be positive.")
        if self.max_iter != -1 and self.max_iter < 1:
            raise ValueError(f"max_iter is {self.max_iter!r}; it must be positive, or -1.")
        if self._dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype is {self.dtype!r}; it must be None, 'float64' or 'float32'.")

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype("float64" if self.dtype is None else self.dtype)

    def _validated(self, X: Any, reset: bool) -> Any:
        """Points as a matrix of float64; a callable kernel takes what it was given."""
        if callable(self.kernel):
            return X
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=reset)
        return X.toarray() if sparse.issparse(X) else X

    def _kernel_input(self, X: Any) -> np.ndarray:
        """The points themselves, or of a callable kernel its values with those of the fit."""
        if not callable(self.kernel):
            return X
        K = self.kernel(X, self._X_fit)
        return np.asarray(K.toarray() if sparse.issparse(K) else K, np.float64)

    def _make_kernel(self, x: np.ndarray, w: np.ndarray) -> Any:
        if callable(self.kernel):
            return precomputed()
        match self.kernel:
            case "rbf":
                return rbf(_resolved_gamma(self.gamma, x, w))
            case "laplacian":
                return laplacian(_resolved_gamma(self.gamma, x, w))
            case "poly":
                gamma = _resolved_gamma(self.gamma, x, w)
                return polynomial(int(self.degree), gamma, float(self.coef0))
            case "sigmoid":
                return sigmoid(_resolved_gamma(self.gamma, x, w), float(self.coef0))
            case "linear":
                return linear()
            case "precomputed":
                return precomputed()
        raise ValueError(
            f"kernel is {self.kernel!r}; it must be 'linear', 'poly', 'rbf', 'sigmoid', "
            "'laplacian', 'precomputed' or a callable."
        )

    def _set_solution(self, x: np.ndarray, w: np.ndarray) -> None:
        scale = float(self.nu) * float(np.sum(w))
        tol = max(float(self.tol) / scale, 4 * float(np.finfo(self._dtype).eps))
        max_steps = _NO_LIMIT if self.max_iter == -1 else int(self.max_iter)
        problem = self._kernel, x.astype(self._dtype), float(self.nu), w.astype(self._dtype)
        with _float64_enabled():
            if x.shape[0] <= _SIZES[-1]:
                solved = _solve_small(*problem, max_steps)
            else:
                solved = _solve_large(*problem, tol, max_steps)
        given = isinstance(self._kernel, Precomputed)
        self.support_ = solved.support
        self.support_vectors_ = np.empty((0, 0)) if given else x[solved.support]
        self.n_support_ = np.array([solved.support.size], np.int32)
        self.dual_coef_ = scale * solved.alpha[None, :]
        # The lower end of what the gap and rounding leave open: see the note on `predict`.
        slack = max(solved.gap, 0) + _RESOLUTION[self._dtype.name] * solved.largest
        self.offset_ = np.array([scale * (solved.rho - slack)])
        self.intercept_ = -self.offset_
        self.n_iter_ = max(solved.num_steps, 1)
        unmet = solved.status != Status.CONVERGED and solved.gap > tol
        self.fit_status_ = int(unmet)
        self._report(solved, tol)

    def _report(self, solved: "_Solved", tol: float) -> None:
        ended = f"{Status(solved.status).name} after {self.n_iter_} iterations"
        gap = f"a gap of {solved.gap:.1e} in units of the kernel; asked was {tol:.1e}"
        if self.verbose:
            print(f"[OneClassSVM] {ended}, at {gap}. Support vectors: {solved.support.size}.")
        if self.fit_status_:
            warnings.warn(
                f"The solver ended as {ended}, at {gap}. Raise max_iter, scale the data (with "
                "StandardScaler or MinMaxScaler), or raise tol.",
                ConvergenceWarning,
                stacklevel=4,
            )


def _checked_weights(sample_weight: Any, n: int) -> Float[np.ndarray, " n"]:
    if sample_weight is None:
        return np.ones(n)
    w = np.asarray(sample_weight, np.float64)
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; X has {n} rows, so it must be ({n},)."
        )
    check_weights(w)
    return w


def _resolved_gamma(gamma: Any, x: Float[np.ndarray, "n d"], w: Float[np.ndarray, " n"]) -> float:
    """The number that gamma stands for; its variance counts a point as often as its weight says."""
    if isinstance(gamma, str) and gamma == "auto":
        return 1 / x.shape[1]
    if isinstance(gamma, str) and gamma == "scale":
        mean = np.mean(np.average(x, axis=0, weights=w))
        variance = float(np.mean(np.average((x - mean) ** 2, axis=0, weights=w)))
        return 1 / (x.shape[1] * variance) if variance > 0 else 1.0
    if isinstance(gamma, str) or not gamma >= 0:
        raise ValueError(f"gamma is {gamma!r}; it must be 'scale', 'auto' or a positive number.")
    return float(gamma)


class _Solved(NamedTuple):
    """A solution in the scale of this package, where alpha sums to 1."""

    support: Int[np.ndarray, " m"]
    alpha: Float[np.ndarray, " m"]  # of the support vectors
    rho: float
    gap: float
    largest: float  # of |k(z, z)| over the support vectors, no value of a psd kernel is larger
    num_steps: int
    status: int


@contextmanager
def _float64_enabled() -> Iterator[None]:
    """JAX's float64 within the block, for this thread alone, whatever the caller has set.

    The exact solution that the estimator promises needs it, and a program that uses scikit-learn
    has no reason to know JAX's switch. Arrays of float32 stay what they are.
    """
    # Older JAX has it in jax.experimental alone, newer JAX in jax alone.
    home: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    with home.enable_x64(True):
        yield


def _solve_small(
    kernel: Any, x: Float[np.ndarray, "n d"], nu: float, w: Float[np.ndarray, " n"], max_steps: int
) -> _Solved:
    """As exact as the dtype allows, at one of few sizes."""
    n, d = x.shape
    size = min(s for s in _SIZES if s >= n)
    if isinstance(kernel, Precomputed):
        K = jnp.asarray(np.pad(x, (0, size - n)))
    else:
        # Copies of real points: kernels centre what they are given.
        K = _gram(kernel, jnp.asarray(np.resize(x, (size, d))))
    w = np.pad(w, (0, size - n))
    solution = _solve(K, jnp.asarray(nu, x.dtype), jnp.asarray(w), max_steps)
    if solution.status == Status.INVALID:
        raise ValueError("the kernel gives NaN or infinite values on these points.")
    alpha = np.asarray(solution.alpha)
    support = np.flatnonzero(alpha > 0)
    return _as_solved(kernel, x, support, alpha[support], solution.rho, solution)


# Apart from the solver, which is then compiled once for all kernels and dimensions.
_gram = jax.jit(gram)


@partial(jax.jit, static_argnames="max_steps")
def _solve(
    K: Float[Array, "n n"], nu: Float[Array, ""], w: Float[Array, " n"], max_steps: int
) -> OCSVMSolution:
    return ocsvm_solve(K, nu, sample_weight=w, max_steps=max_steps)


def _solve_large(
    kernel: Any,
    x: Float[np.ndarray, "n d"],
    nu: float,
    w: Float[np.ndarray, " n"],
    tol: float,
    max_steps: int,
) -> _Solved:
    points, weights = jnp.asarray(x), jnp.asarray(w)
    model = ocsvm_fit(points, nu, kernel, sample_weight=weights, tol=tol, max_steps=max_steps)
    assert model.info is not None
    support, alpha = np.asarray(model.info.support), np.asarray(model.coefficients)
    return _as_solved(kernel, x, support, alpha, model.rho, model.info)


def _as_solved(
    kernel: Any,
    x: Float[np.ndarray, "n d"],
    support: Int[np.ndarray, " m"],
    alpha: Float[np.ndarray, " m"],
    rho: Float[Array, ""],
    info: OCSVMSolution | FitInfo,
) -> _Solved:
    if isinstance(kernel, Precomputed):
        diagonal = x[support, support]
    else:
        diagonal = _diagonal(kernel, jnp.asarray(_filled(x[support])))
    return _Solved(
        support=support.astype(np.int32),
        alpha=alpha.astype(np.float64),
        rho=float(rho),
        gap=float(info.gap),
        largest=float(np.max(np.abs(diagonal))),
        num_steps=int(info.num_steps),
        status=int(info.status),
    )


@jax.jit
def _diagonal(kernel: Any, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    return jax.vmap(kernel)(x, x)


def _expansion(
    kernel: Any,
    centres: Float[np.ndarray, "m d"],
    alpha: Float[np.ndarray, " m"],
    x: Float[np.ndarray, "q d"],
    dtype: np.dtype,
) -> Float[np.ndarray, " q"]:
    """sum_j alpha_j k(centres_j, x_i), through a model filled up to one of few sizes."""
    centres = _filled(centres)
    alpha = np.pad(alpha, (0, len(centres) - len(alpha)))
    with _float64_enabled():
        points, coefficients, queries = (
            jnp.asarray(a, dtype) for a in (centres, alpha, _filled(x))
        )
        model = OCSVM(points, coefficients, jnp.zeros((), dtype), kernel)
        return np.asarray(model.kernel_expansion(queries), np.float64)[: len(x)]


def _filled(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "size d"]:
    """The rows again and again, up to the next power of two or multiple of `_TILE`."""
    n, d = x.shape
    size = min(1 << max(n - 1, _SMALLEST - 1).bit_length(), -(-n // _TILE) * _TILE)
    return np.resize(x, (size, d))
