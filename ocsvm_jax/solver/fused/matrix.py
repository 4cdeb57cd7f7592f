"""What the iteration needs of K, inside the program that solves one problem."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import conditioning
from ocsvm_jax.solver.fused import system
from ocsvm_jax.solver.fused.tile import Tile, at, indices, scalar


class FusedMatrix(NamedTuple):
    """The matrix of one problem; see `matrices.Matrix`.

    Attributes:
      tile: K in memory.
      diagonal: (size,) its diagonal.
      slots: the largest free set for which a system is solved. A larger one gets NaN, so that the
        iteration goes on without a Newton step.
    """

    tile: Tile
    diagonal: Float[Array, " size"]
    slots: int

    def times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """K alpha; sums of products, so never in TF32 or bfloat16."""
        return self.tile.products(lambda K: K * alpha[None, :])

    def absolute_times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """|K| alpha."""
        return self.tile.products(lambda K: jnp.abs(K) * alpha[None, :])

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """One row of K."""
        return self.tile.row(index)

    def at(self, values: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
        """One entry of a vector."""
        return at(values, index)

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

        return lax.fori_loop(0, self.tile.last + 1, add, jnp.zeros_like(values))

    def any(self, flags: Bool[Array, "1"]) -> Bool[Array, ""]:
        """The flag as a scalar."""
        return scalar(flags.astype(jnp.int32)) > 0

    def solve_reduced(
        self, free: Bool[Array, " size"], rhs: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """See `Matrix`; NaN if the free set has more points than there are slots."""
        return system.solve(self.tile, free, rhs, self.slots)


class Conditioned(NamedTuple):
    """The matrix of one problem, and what the start needs; see `conditioning.Conditioned`."""

    matrix: FusedMatrix
    unit: Float[Array, "1"]
    row_sums: Float[Array, " size"]
    underflow: Float[Array, "1"]
    finite: Bool[Array, "1"]
    one_sign: Bool[Array, "1"]


class _Seen(NamedTuple):
    """What one pass over K finds."""

    largest: Float[Array, "1"]
    zero: Float[Array, "1"]  # NaN if an entry is not finite


def conditioned(
    ref: Any, member_ref: Any, n: int, part: Bool[Array, " size"], dtype: Any, slots: int
) -> Conditioned:
    """As `conditioning.conditioned`, for a symmetric K in memory, which is left as it is."""
    zero = jnp.zeros((1,), dtype)
    given = Tile(ref, member_ref, n, part, jnp.ones((1,), dtype), zero)

    def look(seen: _Seen, index: Array, K: Array, both: Array) -> _Seen:
        del index, both
        return _Seen(jnp.maximum(seen.largest, _largest(jnp.abs(K))), seen.zero + _total(0 * K))

    seen = given.over_rows(look, _Seen(zero, zero))
    finite = seen.zero == 0
    unit, inverse = conditioning.units(seen.largest, finite)
    small = conditioning.may_underflow(given.diagonal(), unit)
    any_small = jnp.sum(small, axis=0, dtype=jnp.int32, keepdims=True) > 0
    underflow = jnp.where(any_small, conditioning.underflow_bound(inverse), 0)
    tile = given._replace(inverse=inverse)
    tile, row_sums = _shifted(tile, tile.products(lambda K: K))
    sign = conditioning.expected_sign(tile.shift)[:, None]
    opposite = tile.over_rows(lambda m, i, K, b: jnp.maximum(m, _largest(-sign * K)), zero)
    matrix = FusedMatrix(tile, tile.diagonal(), slots)
    return Conditioned(matrix, unit, row_sums, underflow, finite, opposite <= 0)


def _shifted(tile: Tile, row_sums: Float[Array, " size"]) -> tuple[Tile, Float[Array, " size"]]:
    """The tile with the common value subtracted where that rounds no entry, and its row sums."""
    shift, tried = conditioning.common_value(tile.diagonal(), tile.part, row_sums)
    shift = jnp.where(tried, shift, 0).reshape((1,))

    def look(error: Array, index: Array, K: Array, both: Array) -> Array:
        del index
        _, rounded = conditioning.less(K, shift[:, None], both)
        return jnp.maximum(error, _largest(rounded))

    error = tile.over_rows(look, jnp.zeros_like(tile.inverse))
    shifted = tile._replace(shift=jnp.where(error == 0, shift, 0))
    return shifted, shifted.products(lambda K: K)


def _largest(A: Float[Array, "rows size"]) -> Float[Array, "1"]:
    return jnp.max(jnp.max(A, axis=1), axis=0, keepdims=True)


def _total(A: Float[Array, "rows size"]) -> Float[Array, "1"]:
    return jnp.sum(jnp.sum(A, axis=1), axis=0, keepdims=True)
