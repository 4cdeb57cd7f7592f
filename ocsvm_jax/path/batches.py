"""Runs many problems over the same points in batches that fit into memory."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Int

# Largest number of entries in the Gram matrices of one batch.
_NUMBERS_AT_ONCE = 2**26


def map_in_batches(
    run: Callable[[Int[Array, " size"]], Any],
    indices: Int[Array, " k"],
    *,
    num_points: int,
    at_most: int | None = None,
) -> Any:
    """Applies `run` to batches of indices and joins the results along their leading axis.

    The last batch is filled up with copies of the last index, so that only one size is compiled.

    Args:
      run: maps indices (size,) to a pytree of arrays with a leading axis of that size.
      indices: (k,) the indices of all problems.
      num_points: number of points; a problem takes a (num_points, num_points) matrix in memory.
      at_most: bound on the size of a batch, or None.
    """
    k = indices.shape[0]
    size = max(1, _NUMBERS_AT_ONCE // num_points**2)
    size = min(size, k, k if at_most is None else at_most)
    num_batches = -(-k // size)
    size = -(-k // num_batches)
    filled = indices[np.minimum(np.arange(num_batches * size), k - 1)]
    out = lax.map(run, filled.reshape(num_batches, size))
    return jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:]))[:k], out)
