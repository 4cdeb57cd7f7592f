"""Many problems over the same points, no more of them in memory at once than fit."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Int

# Numbers in the Gram matrices of one batch.
_NUMBERS_AT_ONCE = 2**26


def map_in_batches(
    run: Callable[[Int[Array, " size"]], Any],
    indices: Int[Array, " k"],
    *,
    num_points: int,
    at_most: int | None = None,
) -> Any:
    """The results of `run`, a function of a batch of indices, joined along their leading axis.

    Batches are as large as their (num_points, num_points) matrices allow, and `at_most`. The last
    is filled up with copies of the last index, so that only one size is compiled.
    """
    k = indices.shape[0]
    size = max(1, _NUMBERS_AT_ONCE // num_points**2)
    size = min(size, k, k if at_most is None else at_most)
    num_batches = -(-k // size)
    size = -(-k // num_batches)
    filled = indices[np.minimum(np.arange(num_batches * size), k - 1)]
    out = lax.map(run, filled.reshape(num_batches, size))
    return jax.tree.map(lambda a: a.reshape((-1, *a.shape[2:]))[:k], out)
