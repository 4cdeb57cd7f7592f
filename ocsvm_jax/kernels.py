"""Kernels: functions of two points, their parameters bound as pytree leaves.

A kernel may be traced, differentiated and stored like any pytree, and combined by writing a
function: `lambda x, y: rbf(0.1)(x, y) + 0.5 * linear()(x, y)`. `gram` evaluates a kernel on all
pairs; the kernels defined here have a faster way to do it, any other callable goes through `vmap`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_float, as_numbers, check_kernel, is_concrete
from ocsvm_jax.arrays.distances import absolute_distances, squared_distances_to
from ocsvm_jax.arrays.points import pairs_in_one_dtype
from ocsvm_jax.arrays.pytrees import pytree
from ocsvm_jax.arrays.scaling import variance_of_entries

Kernel = Callable[[Float[Array, " d"], Float[Array, " d"]], Float[Array, ""]]


@runtime_checkable
class PairwiseKernel(Protocol):
    """A kernel that knows a faster way to evaluate all pairs than one pair at a time."""

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The kernel of every row of x with every row of y."""
        ...


def _dot(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    # The default precision is bfloat16 on a TPU and TF32 on recent GPUs: off by 4e-3 in K.
    return jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)


def _cast(parameter: Any, x: Array) -> Array:
    return jnp.asarray(parameter).astype(x.dtype)


class _OnPairs:
    """A kernel defined by its `pairwise`; one pair is a 1 x 1 Gram matrix."""

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        raise NotImplementedError

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        return self.pairwise(x[None, :], y[None, :])[0, 0]


class _OfDifferences(_OnPairs):
    """A kernel of x - y: `Scaled` hands over what is to be applied to the differences.

    Points that are scaled first are rounded first: far from 0 their distances lose digits.
    """

    def of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        raise NotImplementedError

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return self.of_scaled(x, y, None)


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class RBF(_OfDifferences):
    """exp(-gamma |x - y|^2)."""

    gamma: Any

    def of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        gamma = _cast(self.gamma, x)
        return jnp.exp(-gamma * squared_distances_to(x, y, factor, gamma))


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class Laplacian(_OfDifferences):
    """exp(-gamma |x - y|_1)."""

    gamma: Any

    def of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        return jnp.exp(-_cast(self.gamma, x) * absolute_distances(x, y, factor))


@pytree()
@dataclasses.dataclass(frozen=True)
class Linear(_OnPairs):
    """x'y."""

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return _dot(x, y)


@pytree(data_fields=["gamma", "coef0"], meta_fields=["degree"])
@dataclasses.dataclass(frozen=True)
class Polynomial(_OnPairs):
    """(gamma x'y + coef0)^degree; the degree is static, so that the derivative at 0 is right."""

    degree: int
    gamma: Any
    coef0: Any

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return (_cast(self.gamma, x) * _dot(x, y) + _cast(self.coef0, x)) ** self.degree


@pytree(data_fields=["gamma", "coef0"])
@dataclasses.dataclass(frozen=True)
class Sigmoid(_OnPairs):
    """tanh(gamma x'y + coef0); not positive semi-definite in general."""

    gamma: Any
    coef0: Any

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return jnp.tanh(_cast(self.gamma, x) * _dot(x, y) + _cast(self.coef0, x))


@pytree(data_fields=["kernel", "scale"])
@dataclasses.dataclass(frozen=True)
class Scaled(_OnPairs):
    """k(x / scale, y / scale), scale one number per dimension."""

    kernel: Any
    scale: Any

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        kernel, scale = self.kernel, _cast(self.scale, x)
        while isinstance(kernel, Scaled):
            kernel, scale = kernel.kernel, scale * _cast(kernel.scale, x)
        if isinstance(kernel, _OfDifferences):
            return kernel.of_scaled(x, y, 1 / scale)
        return gram(kernel, x / scale[None, :], y / scale[None, :])


@pytree(meta_fields=["num_points"])
@dataclasses.dataclass(frozen=True)
class Precomputed:
    """No function of points: where it stands, kernel values with `num_points` points are given."""

    num_points: int | None = None

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        raise TypeError(
            "precomputed() is no function of two points; only ocsvm_fit and the models it returns "
            "know it. Pass ocsvm_solve and decision_function the matrix itself."
        )


def precomputed() -> Precomputed:
    """Says to `ocsvm_fit` that the Gram matrix (n, n) is handed over in place of points."""
    return Precomputed()


def rbf(gamma: Any) -> RBF:
    """Gaussian kernel exp(-gamma |x - y|^2); gamma > 0, in units of 1 / distance^2."""
    _check_gamma(gamma, smallest_open=True)
    return RBF(gamma)


def laplacian(gamma: Any) -> Laplacian:
    """Laplacian kernel exp(-gamma |x - y|_1); gamma > 0, in units of 1 / distance."""
    _check_gamma(gamma, smallest_open=True)
    return Laplacian(gamma)


def linear() -> Linear:
    """Linear kernel x'y."""
    return Linear()


def polynomial(degree: int = 3, gamma: Any = 1.0, coef0: Any = 0.0) -> Polynomial:
    """Polynomial kernel (gamma x'y + coef0)^degree, degree a Python integer >= 1."""
    if not isinstance(degree, int) or degree < 1:
        raise ValueError(f"degree is {degree!r}; it must be a Python integer of at least 1.")
    _check_gamma(gamma)
    return Polynomial(degree, gamma, coef0)


def sigmoid(gamma: Any = 1.0, coef0: Any = 0.0) -> Sigmoid:
    """Sigmoid kernel tanh(gamma x'y + coef0).

    It is not positive semi-definite in general; the dual then has stationary points that are no
    minimum, and the solver, as LIBSVM, ends on one.
    """
    _check_gamma(gamma)
    return Sigmoid(gamma, coef0)


def scaled(kernel: Kernel, scale: Float[Array, " d"]) -> Scaled:
    """The kernel of points divided by `scale` (d,), such as their standard deviation."""
    return Scaled(kernel, scale)


def gram(
    kernel: Kernel, x: Num[ArrayLike, "n d"], y: Num[ArrayLike, "m d"] | None = None
) -> Float[Array, "n m"]:
    """The kernel of every row of x with every row of y (or of x).

    Args:
      kernel: any callable of two points (d,) that returns a scalar; the kernels of this module take
        a faster way.
      x: (n, d) points.
      y: (m, d) points; x itself where left out, which makes the diagonal exact.

    Returns:
      (n, m) matrix in the float dtype of x. With `rbf`, scaled or not, -log(K) is within
      5 (d + 4) eps of the larger of itself and 4, whatever the other points are (eps 1.2e-7 in
      float32, 2.2e-16 in float64), and up to 16 dimensions or 64 rows of x within (d / 2 + 5) eps
      of itself; with `laplacian` always the latter. K itself is rounded once more. A pair too far
      apart for the dtype gives 0. With kernels of x'y, the error of x'y is up to (d + 2) eps times
      |x| |y|.

    NumPy's points that the dtype would round noticeably (time stamps) are first moved near 0, in
    float64, where the kernel is known to depend on differences alone.

    Warns:
      PrecisionWarning: where it is not, and the cast moves the points by more than 1e-3 of the
        spread of a column.

    Raises:
      TypeError: if kernel is none, such as its name, or x or y hold no numbers.
      ValueError: if x or y is not two-dimensional, or their dimensions differ.
    """
    check_kernel(kernel)
    given_x = as_numbers(x, "x")
    given_y = given_x if y is None else as_numbers(y, "y")
    if given_x.ndim != 2 or given_y.ndim != 2 or given_x.shape[1] != given_y.shape[1]:
        raise ValueError(
            f"gram takes points as rows, (n, d) and (m, d); received {given_x.shape} and "
            f"{given_y.shape}."
        )
    same = y is None
    x, y = pairs_in_one_dtype(given_x, None if same else given_y, is_shift_invariant(kernel))
    y = x if y is None else y
    if not isinstance(kernel, PairwiseKernel):
        return jax.vmap(lambda a: jax.vmap(lambda b: kernel(a, b))(y))(x)
    K = kernel.pairwise(x, y)
    if same and is_shift_invariant(kernel):
        # k(x, x) = 1; the expanded distance of a point to itself rounds to a little more than 0.
        K = jnp.where(jnp.eye(x.shape[0], dtype=bool), 1, K)
    return K


def is_shift_invariant(kernel: Any) -> bool:
    """Whether it is known to be one of differences, with values between 0 and k(x, x) = 1."""
    if isinstance(kernel, Scaled):
        return is_shift_invariant(kernel.kernel)
    return isinstance(kernel, RBF | Laplacian)


def resolve_gamma(
    gamma: Any,
    x: Num[Array | np.ndarray, "n d"],
    sample_weight: Num[Array | np.ndarray, " n"] | None = None,
) -> Any:
    """A number for gamma: "scale" is 1 / (d * var(x)), "auto" is 1 / d, a number is itself.

    The variance is that of all entries of x, as in scikit-learn, a point counting as often as its
    weight says; where all are the same number, "scale" is 1.

    Args:
      gamma: "scale", "auto" or a positive number, which may be traced.
      x: (n, d) points.
      sample_weight: (n,) non-negative weights; only their ratios count, and points of weight 0 may
        hold anything. All 1 where left out.

    Returns:
      A Python float, computed on the host in float64, if points and weights are NumPy arrays; else
      an array in the float dtype of x, differentiable in x and the weights.

    Raises:
      ValueError: if gamma is another string, or a number that is not positive; if the variance is
        so large or so small that gamma is out of range, unless it is traced.
    """
    on_host = isinstance(x, np.ndarray) and isinstance(sample_weight, np.ndarray | None)
    if isinstance(gamma, str) and gamma == "scale":
        return _scale_gamma(x, sample_weight, on_host)
    if isinstance(gamma, str) and gamma == "auto":
        gamma = 1 / x.shape[1]
    elif isinstance(gamma, str):
        raise ValueError(f'gamma is {gamma!r}; it must be "scale", "auto" or a positive number.')
    _check_gamma(gamma, smallest_open=True)
    if on_host and is_concrete(gamma):
        return float(gamma)
    return jnp.asarray(gamma).astype(as_float(x).dtype)


def _scale_gamma(x: Any, weight: Any, on_host: bool) -> Any:
    if on_host:
        # What single precision is given, it must be able to hold.
        single = np.issubdtype(x.dtype, np.floating) and x.dtype.itemsize <= 4
        limits = np.finfo(np.float32 if single else np.float64)
        x = np.asarray(x, np.float64)
        weight = None if weight is None else np.asarray(weight, np.float64)
    else:
        x = as_float(x)
        limits = jnp.finfo(x.dtype)
        weight = None if weight is None else as_float(weight).astype(x.dtype)
    spread, size = variance_of_entries(x, weight)
    xp: Any = np if on_host else jnp
    positive = spread > 0
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        gamma = 1 / (x.shape[1] * xp.where(positive, spread, 1)) / size / size
    gamma = xp.where(positive | ~xp.isfinite(size), gamma, 1)
    if is_concrete(gamma) and not float(limits.tiny) <= float(gamma) <= float(limits.max):
        end = "over" if not float(size) < 1 else "under"
        raise ValueError(
            f'gamma is "scale", 1 / (d * variance of x), and the variance {end}flows: entries of x '
            f"differ by {float(size):.2g}. Scale x, or give gamma as a number."
        )
    return float(gamma) if on_host else gamma


def _check_gamma(gamma: Any, smallest_open: bool = False) -> None:
    if isinstance(gamma, str):
        raise ValueError(
            f"gamma is {gamma!r}; a kernel takes a number. Call resolve_gamma({gamma!r}, x) first."
        )
    if is_concrete(gamma) and smallest_open and not 0 < float(gamma) < float("inf"):
        raise ValueError(f"gamma is {float(gamma)}; it must be positive and finite.")
