"""What the iteration needs of K, inside the program that solves one problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import conditioning
from ocsvm_jax.solver.fused import system
from ocsvm_jax.solver.fused.tile import Tile, at, block_rows, indices, scalar


class FusedMatrix(NamedTuple):
    """The matrix of one problem; see `matrices.Matrix`.

    Attributes:
      tile: K in memory.
      diagonal: (size,) its diagonal.
      bound_ref: reference to the upper bounds on alpha.
      blocks: () number of blocks of rows up to the last point that takes part.
      slots: the largest free set for which a system is solved. A larger one gets NaN, so that the
        iteration goes on without a Newton step.
    """

    tile: Tile
    diagonal: Float[Array, " size"]
    bound_ref: Any
    blocks: Int[Array, ""]
    slots: int

    def times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """See `Matrix`."""
        return self.tile.times(alpha, self.blocks)

    def absolute_times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """See `Matrix`."""
        return self.tile.times(alpha, self.blocks, jnp.abs)

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """See `Matrix`."""
        return self.tile.row(index)

    def at(self, values: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
        """See `Matrix`."""
        return at(values, index)

    def diagonal_at(self, index: Int[Array, "1"]) -> Float[Array, "1"]:
        """See `Matrix`; from memory, which is faster than from the registers of other threads."""
        return self.tile.entries(index, index)

    def bound_at(self, C: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
        """See `Matrix`; from memory."""
        del C
        return triton.load(self.bound_ref.at[index])

    def solve_reduced(
        self, free: Bool[Array, " size"], rhs: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """See `Matrix`; NaN if the free set has more points than there are slots."""
        return system.solve(self.tile, free, rhs, self.slots)

    def sums_before(
        self, keys: Float[Array, " size"], values: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """See `Matrix`; one key after the other, since all pairs do not fit into the registers."""
        index = indices(keys.shape[0])

        def add(j: Array, sums: Array) -> Array:
            here = index == j
            key, value = (jnp.sum(jnp.where(here, x, 0), axis=0) for x in (keys, values))
            earlier = (key < keys) | ((key == keys) & (j < index))
            return sums + jnp.where(earlier, value, 0)

        rows = block_rows(self.tile.size)
        return lax.fori_loop(0, self.blocks * rows, add, jnp.zeros_like(values))

    def unless(
        self, there: Bool[Array, "1"], value: Array, otherwise: Callable[[], Array]
    ) -> Array:
        """See `Matrix`."""
        return lax.cond(self.any(there), lambda: value, otherwise)

    def any(self, flags: Bool[Array, "1"]) -> Bool[Array, ""]:
        """See `Matrix`."""
        return scalar(flags.astype(jnp.int32)) > 0


class Conditioned(NamedTuple):
    """The matrix of one problem, and what the start needs; see `conditioning.Conditioned`."""

    matrix: FusedMatrix
    unit: Float[Array, "1"]
    row_sums: Float[Array, " size"]
    underflow: Float[Array, "1"]
    finite: Bool[Array, "1"]
    one_sign: Bool[Array, "1"]


def conditioned(ref: Any, bound_ref: Any, C: Float[Array, " size"], slots: int) -> Conditioned:
    """As `conditioning.conditioned`, for a symmetric K in memory, which is left as it is."""
    part, size = C > 0, C.shape[0]
    last = jnp.max(jnp.where(part, indices(size), 0), axis=0)
    blocks = last // block_rows(size) + 1
    zero, one = jnp.zeros((1,), C.dtype), jnp.ones((1,), C.dtype)
    given, none = Tile(ref, one, zero), jnp.zeros((), C.dtype)
    largest = given.over_blocks(lambda m, K, b: jnp.maximum(m, jnp.abs(K)), none, blocks)
    # 0 times infinity and 0 times NaN are NaN, which equals nothing.
    finite = _total(given.over_blocks(lambda m, K, b: m + 0 * K, none, blocks)) == 0
    unit, inverse = conditioning.units(_largest(largest), finite)
    small = conditioning.may_underflow(given.diagonal(), unit)
    any_small = jnp.sum(small & part, axis=0, dtype=jnp.int32, keepdims=True) > 0
    underflow = jnp.where(any_small, conditioning.underflow_bound(inverse), 0)
    tile, row_sums = _shifted(given._replace(inverse=inverse), part, blocks)
    sign = conditioning.expected_sign(tile.shift)[:, None]
    opposite = tile.over_blocks(lambda m, K, b: jnp.maximum(m, -sign * K), none, blocks)
    diagonal = jnp.where(part, tile.diagonal(), 0)
    matrix = FusedMatrix(tile, diagonal, bound_ref, blocks, slots)
    return Conditioned(matrix, unit, row_sums, underflow, finite, _largest(opposite) <= 0)


def _shifted(
    tile: Tile, part: Bool[Array, " size"], blocks: Int[Array, ""]
) -> tuple[Tile, Float[Array, " size"]]:
    """The tile with the common value subtracted where that rounds no entry, and its row sums."""
    everything = part.astype(tile.dtype)
    row_sums = tile.times(everything, blocks)
    shift, tried = conditioning.common_value(tile.diagonal(), part, row_sums)
    shift = jnp.where(tried, shift, 0).reshape((1,))

    def look(error: Array, K: Array, b: Array) -> Array:
        del b
        _, rounded = conditioning.less(K, shift[:, None], K == K)
        return jnp.maximum(error, rounded)

    # No pass over K where there is nothing to subtract.
    trials = jnp.where(tried, blocks, 0)
    error = _largest(tile.over_blocks(look, jnp.zeros((), tile.dtype), trials))
    shifted = tile._replace(shift=jnp.where(error == 0, shift, 0))
    return shifted, jnp.where(tried, shifted.times(everything, trials), row_sums)


def _largest(A: Float[Array, "rows size"]) -> Float[Array, "1"]:
    return jnp.max(jnp.max(A, axis=0), axis=0, keepdims=True)


def _total(A: Float[Array, "rows size"]) -> Float[Array, "1"]:
    return jnp.sum(jnp.sum(A, axis=0), axis=0, keepdims=True)
