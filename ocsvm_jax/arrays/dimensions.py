"""The effective number of dimensions of points, in NumPy or in JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def effective_dimensions(z: Float[Array | np.ndarray, "n d"]) -> Any:
    """(sum l)^2 / sum l^2 of the eigenvalues l of the covariance, the participation ratio.

    It is d if all eigenvalues are equal, 1 if the points lie on a line, and 0 if they are all the
    same.

    Args:
      z: (n, d) points.

    Returns:
      A Python float, computed in float64, if the points are a NumPy array; else () in their dtype.
      NaN if a point is not finite.
    """
    on_host = isinstance(z, np.ndarray)
    xp: Any = np if on_host else jnp
    z = z.astype(np.float64) if on_host else z
    centred = z - xp.mean(z, axis=0, keepdims=True)
    # Of size 1, since the fourth powers below would leave the range of float32 early.
    size = xp.max(xp.abs(centred))
    centred = centred / xp.where(size == 0, xp.ones_like(size), size)
    full = {} if on_host else {"precision": lax.Precision.HIGHEST}
    # The trace is the sum of the eigenvalues, the squared entries sum up to that of their squares.
    covariance = xp.matmul(centred.T, centred, **full)
    squares = xp.sum(covariance**2)
    ratio = xp.trace(covariance) ** 2 / xp.where(squares == 0, xp.ones_like(squares), squares)
    return float(ratio) if on_host else ratio
