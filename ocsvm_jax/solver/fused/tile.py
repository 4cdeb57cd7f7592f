"""K in memory, read by the program of one problem: a row, a block of rows, or any entries.

A program's arrays live in the registers of its threads, and their sizes are powers of two. Rows and
columns beyond n are masked: they are points that take no part. A pass over all of K goes block by
block, since the whole of it would not fit into the registers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

_Carry = TypeVar("_Carry")

# Entries of a block of rows.
_BLOCK = 512


class Tile(NamedTuple):
    """A symmetric (n, n) matrix in memory, read in the given units.

    Attributes:
      ref: reference to a block of (size, size), of which (n, n) are there.
      member_ref: reference to (size,) numbers, of which n are there; the points where they are
        positive take part.
      n: the number of points.
      part: (size,) the points that take part.
      inverse: (1,) factor of each entry, a power of two, or 0 for a matrix that is not finite.
      shift: (1,) what is subtracted from each entry after that.
    """

    ref: Any
    member_ref: Any
    n: int
    part: Bool[Array, " size"]
    inverse: Float[Array, "1"]
    shift: Float[Array, "1"]

    @property
    def last(self) -> Int[Array, ""]:
        """The last point that takes part, for the bounds of loops.

        A constant bound would let the compiler write out all of a loop, with more registers than
        there are.
        """
        return jnp.max(jnp.where(self.part, indices(self.part.shape[0]), 0), axis=0)

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """One row; 0 where a point takes no part."""
        i = scalar(index)
        both = self.part & (triton.load(self.member_ref.at[i]) > 0)
        given = triton.load(self.ref.at[i, :], mask=both, other=0)
        return jnp.where(both, self._in_units(given, self.inverse, self.shift), 0)

    def entries(
        self, rows: Int[Array, "*shape"], columns: Int[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """Any entries, as they are asked for; something beyond n."""
        there = (rows < self.n) & (columns < self.n)
        given = triton.load(self.ref.at[rows, columns], mask=there, other=0)
        unit = (1,) * rows.ndim
        return self._in_units(given, self.inverse.reshape(unit), self.shift.reshape(unit))

    def diagonal(self) -> Float[Array, " size"]:
        """The diagonal; 0 where a point takes no part."""
        index = indices(self.part.shape[0])
        given = triton.load(self.ref.at[index, index], mask=self.part, other=0)
        return jnp.where(self.part, self._in_units(given, self.inverse, self.shift), 0)

    def over_rows(
        self,
        function: Callable[[_Carry, Array, Array, Array], _Carry],
        start: _Carry,
    ) -> _Carry:
        """`function(carry, index, K, both)` for each block of rows.

        Their indices are (rows,), the rows themselves and where both points take part (rows, size).
        """
        size = self.part.shape[0]
        count = min(size, _BLOCK // size)

        def block(b: Array, carry: _Carry) -> _Carry:
            at = pl.ds(b * count, count)
            index = b * count + indices(count)
            member = triton.load(self.member_ref.at[at], mask=index < self.n, other=0)
            both = (member > 0)[:, None] & self.part[None, :]
            given = triton.load(self.ref.at[at, :], mask=both, other=0)
            K = self._in_units(given, self.inverse[:, None], self.shift[:, None])
            return function(carry, index, jnp.where(both, K, 0), both)

        return lax.fori_loop(0, self.last // count + 1, block, start)

    def products(
        self, function: Callable[[Float[Array, "rows size"]], Float[Array, "rows size"]]
    ) -> Float[Array, " size"]:
        """The sums of function(K) along its rows."""

        def add(sums: Array, index: Array, K: Array, _: Array) -> Array:
            return sums + placed(jnp.sum(function(K), axis=1), index, sums.shape[0])

        return self.over_rows(add, jnp.zeros(self.part.shape, self.inverse.dtype))

    def _in_units(self, given: Array, inverse: Array, shift: Array) -> Array:
        # A power of two rounds nothing, and 0 times infinity would be NaN.
        return jnp.where(inverse > 0, given * inverse - shift, 0)


def placed(values: Float[Array, " m"], index: Int[Array, " m"], size: int) -> Float[Array, " size"]:
    """The values at their places in a longer vector, 0 elsewhere."""
    here = index[:, None] == indices(size)[None, :]
    return jnp.sum(jnp.where(here, values[:, None], 0), axis=0)


def taken(values: Float[Array, " size"], index: Int[Array, " m"]) -> Float[Array, " m"]:
    """The values at some places, all of them different; 0 for a place that is not there."""
    here = index[:, None] == indices(values.shape[0])[None, :]
    return jnp.sum(jnp.where(here, values[None, :], 0), axis=1)


def at(values: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
    """One entry of a vector, whose entries lie in the registers of different threads."""
    here = indices(values.shape[0]) == index
    return jnp.sum(jnp.where(here, values, 0), axis=0, keepdims=True)


def indices(size: int) -> Int[Array, " size"]:
    """0, 1, ..., size - 1."""
    return lax.iota(jnp.int32, size)


def scalar(x: Array) -> Array:
    """An array of one entry as a scalar, which a condition or an index has to be."""
    return jnp.reshape(x, ())
