"""K in memory, read by the program of one problem: a row, any entries, or all of it block by block.

A program's arrays live in the registers of its threads. Their sizes are powers of two, so K comes
padded with zeros, as if by points that take no part. A pass over all of K goes by blocks of rows,
since the whole of it would not fit into the registers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

# Entries of a block of rows.
_BLOCK = 512


class Tile(NamedTuple):
    """A symmetric (size, size) matrix in memory, read in the given units.

    Rows and columns of points that take no part are 0 in memory, so -shift as they are read. They
    only ever meet an alpha of 0.

    Attributes:
      ref: reference to it.
      inverse: (1,) factor of each entry, a power of two, or 0 for a matrix that is not finite.
      shift: (1,) what is subtracted from each entry after that.
    """

    ref: Any
    inverse: Float[Array, "1"]
    shift: Float[Array, "1"]

    @property
    def size(self) -> int:
        """Number of rows, those of the padding included."""
        return self.ref.shape[0]

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """One row."""
        given = triton.load(self.ref.at[scalar(index), :])
        return self._in_units(given)

    def entries(
        self, rows: Int[Array, "*shape"], columns: Int[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """Any entries."""
        return self._in_units(triton.load(self.ref.at[rows, columns]))

    def diagonal(self) -> Float[Array, " size"]:
        """The diagonal."""
        return self.entries(indices(self.size), indices(self.size))

    def over_blocks(
        self,
        function: Callable[[Array, Array, Array], Array],
        start: Float[Array, ""],
        blocks: Any,
    ) -> Float[Array, "rows size"]:
        """Accumulates `function(carry, K, number of the block)` over blocks of rows.

        Args:
          function: of (rows, size) arrays.
          start: what each entry of the carry is at first.
          blocks: how many blocks to go through. It must not be a constant, or the compiler writes
            out all of them, with more registers than there are.
        """
        rows = block_rows(self.size)

        def block(b: Array, carry: Array) -> Array:
            K = self._in_units(triton.load(self.ref.at[pl.ds(b * rows, rows), :]))
            return function(carry, K, b)

        return lax.fori_loop(0, blocks, block, jnp.full((rows, self.size), start, self.dtype))

    def times(
        self, v: Float[Array, " size"], blocks: Any, form: Callable[[Array], Array] = lambda K: K
    ) -> Float[Array, " size"]:
        """form(K) v; sums of products, so never in TF32 or bfloat16."""
        rows = block_rows(self.size)
        of_blocks = jnp.reshape(v, (self.size // rows, rows))
        number = indices(self.size // rows)

        def add(sums: Array, K: Array, b: Array) -> Array:
            here = number[:, None] == b
            own = jnp.sum(jnp.where(here, of_blocks, 0), axis=0)
            return sums + form(K) * own[:, None]

        return jnp.sum(self.over_blocks(add, jnp.zeros((), self.dtype), blocks), axis=0)

    @property
    def dtype(self) -> Any:
        """Of K."""
        return self.inverse.dtype

    def _in_units(self, given: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        inverse, shift = (x.reshape((1,) * given.ndim) for x in (self.inverse, self.shift))
        # A power of two rounds nothing, and 0 times infinity would be NaN.
        return jnp.where(inverse > 0, given * inverse - shift, 0)


def block_rows(size: int) -> int:
    """Rows of a block."""
    return min(size, _BLOCK // size)


def placed(values: Float[Array, " m"], index: Int[Array, " m"], size: int) -> Float[Array, " size"]:
    """The values at their places in a longer vector, 0 elsewhere."""
    here = index[:, None] == indices(size)[None, :]
    return jnp.sum(jnp.where(here, values[:, None], 0), axis=0)


def taken(values: Float[Array, " size"], index: Int[Array, " m"]) -> Float[Array, " m"]:
    """The values at some places, all of them different."""
    here = indices(values.shape[0])[:, None] == index[None, :]
    return jnp.sum(jnp.where(here, values[:, None], 0), axis=0)


def at(values: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
    """One entry of a vector, whose entries lie in the registers of different threads."""
    here = indices(values.shape[0]) == index
    return jnp.sum(jnp.where(here, values, 0), axis=0, keepdims=True)


def product(A: Float[Array, "m m"], v: Float[Array, " m"]) -> Float[Array, " m"]:
    """A v for a symmetric A, along the axis that fewer threads share."""
    return jnp.sum(A * v[:, None], axis=0)


def indices(size: int) -> Int[Array, " size"]:
    """0, 1, ..., size - 1."""
    return lax.iota(jnp.int32, size)


def scalar(x: Array) -> Array:
    """An array of one entry as a scalar, which a condition or an index has to be."""
    return jnp.reshape(x, ())
