"""Kernels: functions of two points, with their parameters as pytree leaves.

A kernel can be traced, differentiated and stored like any pytree. Kernels are combined by writing a
function: `lambda x, y: rbf(0.1)(x, y) + 0.5 * linear()(x, y)`. `gram` evaluates a kernel on all
pairs of points, in a faster way for the kernels defined here and with `vmap` for other callables.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_numbers, check_kernel
from ocsvm_jax.arrays.distances import absolute_distances, squared_distances_to
from ocsvm_jax.arrays.points import pairs_in_one_dtype
from ocsvm_jax.arrays.pytrees import pytree
from ocsvm_jax.arrays.scaling import check_gamma, resolve_gamma

__all__ = [
    "RBF",
    "Kernel",
    "Laplacian",
    "Linear",
    "PairwiseKernel",
    "Polynomial",
    "Precomputed",
    "Scaled",
    "Sigmoid",
    "gram",
    "is_shift_invariant",
    "laplacian",
    "linear",
    "polynomial",
    "precomputed",
    "rbf",
    "resolve_gamma",
    "scaled",
    "sigmoid",
]

Kernel = Callable[[Float[Array, " d"], Float[Array, " d"]], Float[Array, ""]]


@runtime_checkable
class PairwiseKernel(Protocol):
    """A kernel that can evaluate all pairs faster than one pair at a time."""

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
    """A kernel of x - y, which can multiply the differences by a factor, for `Scaled`.

    Scaling the points instead would round them first, and far from 0 distances would lose digits.
    """

    def log_of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        raise NotImplementedError

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return jnp.exp(self.log_of_scaled(x, y, None))


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class RBF(_OfDifferences):
    """exp(-gamma |x - y|^2)."""

    gamma: Any

    def log_of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        gamma = _cast(self.gamma, x)
        return -gamma * squared_distances_to(x, y, factor, gamma)


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class Laplacian(_OfDifferences):
    """exp(-gamma |x - y|_1)."""

    gamma: Any

    def log_of_scaled(
        self, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
    ) -> Float[Array, "n m"]:
        return -_cast(self.gamma, x) * absolute_distances(x, y, factor)


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
    """k(x / scale, y / scale), with one number per dimension in scale."""

    kernel: Any
    scale: Any

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        kernel, scale = _innermost(self, x)
        if isinstance(kernel, _OfDifferences):
            return jnp.exp(kernel.log_of_scaled(x, y, 1 / scale))
        return gram(kernel, x / scale[None, :], y / scale[None, :])


def _innermost(scaled: Scaled, x: Float[Array, "n d"]) -> tuple[Any, Float[Array, " d"]]:
    """The kernel that is no `Scaled`, and the product of all scales."""
    kernel, scale = scaled.kernel, _cast(scaled.scale, x)
    while isinstance(kernel, Scaled):
        kernel, scale = kernel.kernel, scale * _cast(kernel.scale, x)
    return kernel, scale


@pytree(meta_fields=["num_points"])
@dataclasses.dataclass(frozen=True)
class Precomputed:
    """Stands for a kernel whose values with `num_points` points are given, not the points."""

    num_points: int | None = None

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        raise TypeError(
            "precomputed() is not a function of two points; only ocsvm_fit and the models it "
            "returns accept it. Pass the matrix itself to ocsvm_solve and decision_function."
        )


def precomputed() -> Precomputed:
    """Tells `ocsvm_fit` that x is an (n, n) Gram matrix, not points."""
    return Precomputed()


def rbf(gamma: Any) -> RBF:
    """Gaussian kernel exp(-gamma |x - y|^2); gamma > 0, in units of 1 / distance^2."""
    check_gamma(gamma, smallest_open=True)
    return RBF(gamma)


def laplacian(gamma: Any) -> Laplacian:
    """Laplacian kernel exp(-gamma |x - y|_1); gamma > 0, in units of 1 / distance."""
    check_gamma(gamma, smallest_open=True)
    return Laplacian(gamma)


def linear() -> Linear:
    """Linear kernel x'y."""
    return Linear()


def polynomial(degree: int = 3, gamma: Any = 1.0, coef0: Any = 0.0) -> Polynomial:
    """Polynomial kernel (gamma x'y + coef0)^degree.

    Args:
      degree: Python integer of at least 1.
      gamma: factor of x'y.
      coef0: constant term.

    Raises:
      ValueError: if degree is not such an integer, or gamma is a string.
    """
    if not isinstance(degree, int) or degree < 1:
        raise ValueError(f"degree is {degree!r}; it must be a Python integer of at least 1.")
    check_gamma(gamma)
    return Polynomial(degree, gamma, coef0)


def sigmoid(gamma: Any = 1.0, coef0: Any = 0.0) -> Sigmoid:
    """Sigmoid kernel tanh(gamma x'y + coef0).

    It is not positive semi-definite in general. The dual then has stationary points that are not
    minima, and the solver, like LIBSVM, ends at one of them.
    """
    check_gamma(gamma)
    return Sigmoid(gamma, coef0)


def scaled(kernel: Kernel, scale: Float[Array, " d"]) -> Scaled:
    """A kernel of points that are divided by `scale` (d,), such as their standard deviation."""
    return Scaled(kernel, scale)


def gram(
    kernel: Kernel, x: Num[ArrayLike, "n d"], y: Num[ArrayLike, "m d"] | None = None
) -> Float[Array, "n m"]:
    """The kernel of every row of x with every row of y (or of x).

    NumPy points that the dtype would round noticeably (time stamps) are first moved near 0, in
    float64, if the kernel is known to depend on differences alone.

    Args:
      kernel: any callable of two points (d,) that returns a scalar; the kernels of this module are
        evaluated in a faster way.
      x: (n, d) points.
      y: (m, d) points; x by default, which makes the diagonal exact.

    Returns:
      (n, m) matrix in the float dtype of x. With `rbf`, scaled or not, the error of -log(K) is at
      most 5 (d + 4) eps times the larger of itself and 4, whatever the other points are (eps is
      1.2e-7 in float32, 2.2e-16 in float64). With up to 16 dimensions or 64 rows of x, and always
      with `laplacian`, its relative error is at most (d / 2 + 5) eps. K itself is rounded once
      more, and is 0 for a pair too far apart for the dtype. With kernels of x'y, the error of x'y
      is at most (d + 2) eps |x| |y|.

    Warns:
      PrecisionWarning: if the points cannot be moved and the cast moves them by more than 1e-3 of
        the spread of a column.

    Raises:
      TypeError: if kernel is not a kernel, for example its name, or x or y do not hold numbers.
      ValueError: if x or y is not two-dimensional, or their dimensions differ.

    Example:
      >>> import numpy as np
      >>> from ocsvm_jax import gram, rbf
      >>> x = np.array([[0.0, 0.0], [3.0, 4.0]])
      >>> [[round(float(k), 2) for k in row] for row in gram(rbf(0.02), x)]
      [[1.0, 0.61], [0.61, 1.0]]
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
        # k(x, x) = 1, but in expanded form a point's distance to itself may round to more than 0.
        K = jnp.where(jnp.eye(x.shape[0], dtype=bool), 1, K)
    return K


def log_gram(
    kernel: Kernel, x: Num[ArrayLike, "n d"], y: Num[ArrayLike, "m d"]
) -> Float[Array, "n m"]:
    """log k(x_i, y_j) of an RBF or a Laplacian kernel, scaled or not: never -inf, unlike log(K).

    Args:
      kernel: `rbf` or `laplacian`, scaled or not.
      x: (n, d) points.
      y: (m, d) points.

    Raises:
      ValueError: if the kernel is another one, whose values may be negative.
    """
    points, others = pairs_in_one_dtype(as_numbers(x, "x"), as_numbers(y, "y"), True)
    factor, innermost = None, kernel
    if isinstance(kernel, Scaled):
        innermost, scale = _innermost(kernel, points)
        factor = 1 / scale
    if not isinstance(innermost, _OfDifferences) or others is None:
        raise ValueError(
            f"kernel is {kernel!r}; only the RBF and the Laplacian kernel have a logarithm."
        )
    return innermost.log_of_scaled(points, others, factor)


def is_shift_invariant(kernel: Any) -> bool:
    """Whether the kernel is known to depend on x - y alone, with values in [0, 1], k(x, x) = 1."""
    if isinstance(kernel, Scaled):
        return is_shift_invariant(kernel.kernel)
    return isinstance(kernel, RBF | Laplacian)
