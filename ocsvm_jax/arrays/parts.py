"""A function of many rows, applied to so many of them after another."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def in_parts(function: Callable[..., Any], arrays: Sequence[Array], size: int) -> Any:
    """`function(*arrays)` in parts of `size` rows, one after the other in one compiled loop.

    Args:
      function: of arrays of `size` rows, to a pytree of arrays of as many rows.
      arrays: of v rows each, at least as many as a part has.
      size: rows of a part. The last one is filled up with copies of the first rows, which take as
        long as real ones.
    """
    rows = arrays[0].shape[0]
    parts = -(-rows // size)
    fill = parts * size - rows
    padded = [jnp.concatenate([x, x[:fill]]) if fill else x for x in arrays]
    blocks = tuple(x.reshape((parts, size, *x.shape[1:])) for x in padded)
    out = lax.map(lambda block: function(*block), blocks)
    return jax.tree.map(lambda x: x.reshape((parts * size, *x.shape[2:]))[:rows], out)
