"""K of the points of one problem, made by the program that solves it."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from ocsvm_jax.solver.fused.tile import indices

# Entries of a block of rows.
_BLOCK = 2048


def write_gram(
    kernel: Any,
    points: tuple[Any, Any, Any],
    C_ref: Any,
    K_ref: Any,
    *,
    n: int,
    d: int,
    interpret: bool,
) -> None:
    """Writes K block by block of rows; 0 where a point takes no part, which may hold anything.

    Args:
      kernel: see `solver.pairwise.Pairwise`.
      points: references to the (n, d) points, the (d,) factors of their coordinates and the
        parameter of the kernel.
      C_ref: reference to the (n,) upper bounds on alpha.
      K_ref: reference to the (size, size) result.
      n: number of points.
      d: number of coordinates.
      interpret: whether the program is run by XLA, operation by operation.
    """
    size = K_ref.shape[0]
    rows, columns = min(size, _BLOCK // size), indices(size)
    x_ref, factor_ref, parameter_ref = points
    parameter = triton.load(parameter_ref)[:, None]

    def part(of: Array) -> Array:
        return triton.load(C_ref.at[of], mask=of < n, other=0) > 0

    # Not constants: the compiler would write out all turns of the loops, with more registers than
    # there are.
    turns, blocks = (jnp.max(jnp.where(part(columns), k, 0), axis=0) for k in (d, size // rows))

    def coordinate(of: Array, k: Array) -> Array:
        # Of the padding, the last point.
        there = jnp.minimum(of, n - 1)
        return triton.load(x_ref.at[there, jnp.broadcast_to(k, of.shape)])

    def block(b: Array, carry: Array) -> Array:
        own = b * rows + indices(rows)

        def add(k: Array, total: Array) -> Array:
            factor = triton.load(factor_ref.at[jnp.reshape(k, (1,))])
            x, y = coordinate(own, k), coordinate(columns, k)
            return total + kernel.term(x[:, None], y[None, :], factor[:, None])

        total = lax.fori_loop(0, turns, add, jnp.zeros((rows, size), K_ref.dtype))
        both = part(own)[:, None] & part(columns)[None, :]
        K = jnp.where(both, kernel.form(total, parameter), 0)
        triton.store(K_ref.at[pl.ds(b * rows, rows), :], K)
        return carry

    lax.fori_loop(0, blocks, block, jnp.zeros((), jnp.int32))
    if not interpret:
        # Each thread goes on to read what others wrote.
        triton.debug_barrier()
