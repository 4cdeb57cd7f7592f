"""Kernels: functions of two points, their parameters bound as pytree leaves.

A kernel may be traced, differentiated and stored like any pytree, and combined by writing a
function: `lambda x, y: rbf(0.1)(x, y) + 0.5 * linear()(x, y)`. `gram` evaluates a kernel on all
pairs; the kernels defined here do it with one matrix product, any other callable through `vmap`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ocsvm_jax.arguments import as_float, is_concrete
from ocsvm_jax.pytrees import pytree

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


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class RBF(_OnPairs):
    """exp(-gamma |x - y|^2)."""

    gamma: Any

    def __call__(self, x: Float[Array, " d"], y: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.exp(-_cast(self.gamma, x) * jnp.sum((x - y) ** 2))

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        return jnp.exp(-_cast(self.gamma, x) * squared_distances(x, y))


@pytree(data_fields=["gamma"])
@dataclasses.dataclass(frozen=True)
class Laplacian(_OnPairs):
    """exp(-gamma |x - y|_1)."""

    gamma: Any

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        distance = jnp.sum(jnp.abs(x[:, None, :] - y[None, :, :]), axis=-1)
        return jnp.exp(-_cast(self.gamma, x) * distance)


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
        scale = _cast(self.scale, x)[None, :]
        return gram(self.kernel, x / scale, y / scale)


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
    """Laplacian kernel exp(-gamma |x - y|_1); gamma > 0, in units of 1 / distance.

    The distances of all pairs take O(n m d) memory where XLA cannot fuse them.
    """
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
    kernel: Kernel, x: Float[Array, "n d"], y: Float[Array, "m d"] | None = None
) -> Float[Array, "n m"]:
    """The kernel of every row of x with every row of y (or of x).

    Args:
      kernel: any callable of two points (d,) that returns a scalar; the kernels of this module take
        a faster way that is exact to rounding.
      x: (n, d) points.
      y: (m, d) points; x itself where left out, which makes the diagonal exact.

    Returns:
      (n, m) matrix in the float dtype of x.

    Raises:
      ValueError: if x or y is not two-dimensional, or their dimensions differ.
    """
    x = as_float(x)
    same = y is None
    y = x if y is None else as_float(y).astype(x.dtype)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"gram takes points as rows, (n, d) and (m, d); received {x.shape} and {y.shape}."
        )
    if not isinstance(kernel, PairwiseKernel):
        return jax.vmap(lambda a: jax.vmap(lambda b: kernel(a, b))(y))(x)
    K = kernel.pairwise(x, y)
    if same and is_one_at_zero(kernel):
        # k(x, x) = 1; the expanded distance of a point to itself rounds to a little more than 0.
        K = jnp.where(jnp.eye(x.shape[0], dtype=bool), 1, K)
    return K


def is_one_at_zero(kernel: Any) -> bool:
    """Whether it is a kernel of distances, with values between 0 and k(x, x) = 1."""
    if isinstance(kernel, Scaled):
        return is_one_at_zero(kernel.kernel)
    return isinstance(kernel, RBF | Laplacian)


def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x_i - y_j|^2 through one matrix product.

    The points are centred first: |x|^2 + |y|^2 - 2 x'y cancels, and with an offset of 100 float32
    loses three digits. The centre is a constant of the derivative: distances do not depend on it.
    """
    centre = lax.stop_gradient(jnp.mean(x, axis=0, keepdims=True))
    x, y = x - centre, y - centre
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None, :]
    distances = squares - 2 * _dot(x, y)
    # Rounding below zero is cut off in the value alone: coinciding points are no kink.
    return distances + lax.stop_gradient(jnp.maximum(distances, 0) - distances)


def resolve_gamma(gamma: Any, x: Float[Array, "n d"]) -> Any:
    """A number for gamma: "scale" is 1 / (d * var(x)), "auto" is 1 / d, a number is itself.

    The variance is that of all entries of x, as in scikit-learn; constant x gives 1 under "scale".

    Raises:
      ValueError: if gamma is another string, or a number that is not positive.
    """
    x = as_float(x)
    if isinstance(gamma, str):
        if gamma == "auto":
            return jnp.asarray(1 / x.shape[1], x.dtype)
        if gamma == "scale":
            variance = jnp.var(x)
            positive = variance > 0
            return jnp.where(positive, 1 / (x.shape[1] * jnp.where(positive, variance, 1)), 1)
        raise ValueError(f'gamma is {gamma!r}; it must be "scale", "auto" or a positive number.')
    _check_gamma(gamma, smallest_open=True)
    return jnp.asarray(gamma).astype(x.dtype)


def _check_gamma(gamma: Any, smallest_open: bool = False) -> None:
    if isinstance(gamma, str):
        raise ValueError(
            f"gamma is {gamma!r}; a kernel takes a number. Call resolve_gamma({gamma!r}, x) first."
        )
    if is_concrete(gamma) and smallest_open and not 0 < float(gamma) < float("inf"):
        raise ValueError(f"gamma is {float(gamma)}; it must be positive and finite.")
