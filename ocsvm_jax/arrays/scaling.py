"""Means and variances of weighted points, in NumPy or in JAX; a weight counts repetitions.

They are computed from differences to the first point of positive weight, since values far from 0
would lose their digits to the offset. Points of weight 0 may hold anything.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

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
