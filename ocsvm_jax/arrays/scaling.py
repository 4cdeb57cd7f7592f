"""Means, variances and gamma of weighted points, in NumPy or in JAX; a weight counts repetitions.

Means and variances are computed from differences to the first point of positive weight, since
values far from 0 would lose their digits to the offset. Points of weight 0 may hold anything.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_float, is_concrete

_STD_FLOOR = 1e-6


class Standardized(NamedTuple):
    """Points with mean 0 and standard deviation 1 in each dimension.

    Attributes:
      z: (n, d) the points; arbitrary but finite at weight 0.
      mean: (d,) mean that was subtracted.
      std: (d,) (biased) standard deviation + 1e-6, by which they were divided.
    """

    z: Float[Array, "n d"]
    mean: Float[Array, " d"]
    std: Float[Array, " d"]


def standardized(x: Float[Array, "n d"], weight: Float[Array, " n"] | None = None) -> Standardized:
    """x scaled to mean 0 and standard deviation 1; a constant dimension becomes 0."""
    weight = jnp.ones(x.shape[0], x.dtype) if weight is None else weight
    shares = _shares(jnp, weight)
    origin = lax.stop_gradient(jnp.take(x, _first(jnp, weight), axis=0))
    shifted = jnp.where(weight[:, None] > 0, x, origin[None, :]) - origin[None, :]
    mean = _mean(jnp, shares, shifted)
    centred = shifted - mean[None, :]
    variance = _mean(jnp, shares, centred**2)
    # The square root has no derivative at 0, so a constant dimension stays at the floor.
    positive = variance > 0
    std = jnp.where(positive, jnp.sqrt(jnp.where(positive, variance, 1)), 0) + _STD_FLOOR
    return Standardized(centred / std[None, :], origin + mean, std)


def variance_of_entries(x: Any, weight: Any = None) -> tuple[Any, Any]:
    """The variance of all entries of x (n, d) in the form spread * size^2.

    The product itself may be out of range. It is computed by NumPy if x is a NumPy array. `size` is
    held constant in derivatives, and is 1 if all entries are equal.

    Returns:
      spread, in [0, 1], and size, the largest difference from the first entry of positive weight.
    """
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    constant = (lambda a: a) if xp is np else lax.stop_gradient
    weight = xp.ones(x.shape[0], x.dtype) if weight is None else weight
    shares, first = _shares(xp, weight), _first(xp, weight)
    origin = constant(xp.take(x[:, 0], first))
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = xp.where(weight[:, None] > 0, x, origin) - origin
        size = constant(xp.max(xp.abs(shifted)))
        size = xp.where(size == 0, xp.ones_like(size), size)
        shifted = shifted / size
    mean = _mean(xp, shares, xp.mean(shifted, axis=1))
    return _mean(xp, shares, xp.mean((shifted - mean) ** 2, axis=1)), size


def resolve_gamma(
    gamma: Any,
    x: Num[Array | np.ndarray, "n d"],
    sample_weight: Num[Array | np.ndarray, " n"] | None = None,
) -> Any:
    """A number for gamma: 1 / (d * var(x)) for "scale", 1 / d for "auto", a number as it is.

    The variance is that of all entries of x, as in scikit-learn, with weights as numbers of
    repetitions. If all entries are equal, "scale" is 1.

    Args:
      gamma: "scale", "auto" or a positive number, which may be traced.
      x: (n, d) points.
      sample_weight: (n,) non-negative weights, all 1 by default; only their ratios matter, and
        points of weight 0 may hold anything.

    Returns:
      A Python float, computed on the host in float64, if points and weights are NumPy arrays; else
      an array in the float dtype of x, differentiable in x and the weights.

    Raises:
      ValueError: if gamma is another string or a number that is not positive, or if the variance is
        so large or so small that gamma is out of range, unless it is traced.
    """
    check_resolvable(gamma)
    on_host = isinstance(x, np.ndarray) and isinstance(sample_weight, np.ndarray | None)
    if isinstance(gamma, str) and gamma == "scale":
        return _scale_gamma(x, sample_weight, on_host)
    gamma = 1 / x.shape[1] if isinstance(gamma, str) else gamma
    if on_host and is_concrete(gamma):
        return float(gamma)
    return jnp.asarray(gamma).astype(as_float(x).dtype)


def _scale_gamma(x: Any, weight: Any, on_host: bool) -> Any:
    if on_host:
        # For points in single precision, gamma must be in its range.
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


def check_resolvable(gamma: Any) -> None:
    """Raises ValueError unless gamma is "scale", "auto" or one positive number, traced or not."""
    shown = repr(gamma) if isinstance(gamma, str) else gamma
    if isinstance(gamma, str):
        known = gamma in ("scale", "auto")
    elif jnp.ndim(gamma) != 0:
        known, shown = False, f"of shape {jnp.shape(gamma)}"
    else:
        known = not is_concrete(gamma) or 0 < float(gamma) < float("inf")
    if not known:
        raise ValueError(f'gamma is {shown}; it must be a positive number, "scale" or "auto".')


def check_gamma(gamma: Any, smallest_open: bool = False) -> None:
    """Raises ValueError if gamma is a string or, with `smallest_open`, known not to be positive."""
    if isinstance(gamma, str):
        raise ValueError(
            f"gamma is {gamma!r}; a kernel takes a number. Call resolve_gamma({gamma!r}, x) first."
        )
    if is_concrete(gamma) and smallest_open and not 0 < float(gamma) < float("inf"):
        raise ValueError(f"gamma is {float(gamma)}; it must be positive and finite.")


def _shares(xp: Any, weight: Any) -> Any:
    """Weights scaled to sum 1, at any scale of the input; all 0 if all weights are 0."""
    largest = xp.max(weight)
    weight = weight / xp.where(largest > 0, largest, xp.ones_like(largest))
    return weight / xp.maximum(xp.sum(weight), xp.ones_like(largest))


def _first(xp: Any, weight: Any) -> Any:
    return xp.argmax(weight > 0)


def _mean(xp: Any, shares: Any, x: Any) -> Any:
    full = {} if xp is np else {"precision": lax.Precision.HIGHEST}
    return xp.matmul(shares, x, **full)
