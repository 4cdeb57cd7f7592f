"""K inside a program that solves one problem: read from memory row by row, or as a tile.

A tile and a vector are held by the threads of one program. Their size is a power of two, so rows
and columns beyond n are masked; they are points that take no part.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import conditioning, free_set
from ocsvm_jax.solver.fused.elimination import inverse_and_pivot


class Tile(NamedTuple):
    """A symmetric (n, n) matrix in memory, read in the given units.

    Attributes:
      ref: reference to a block of (size, size), of which (n, n) are there.
      part: (size,) the points that take part; false from n on.
      inverse: (1,) factor of each entry, a power of two.
      shift: (1,) what is subtracted from each entry after that.
    """

    ref: Any
    part: Bool[Array, " size"]
    inverse: Float[Array, "1"]
    shift: Float[Array, "1"]

    @property
    def both(self) -> Bool[Array, "size size"]:
        """Where both points take part."""
        return self.part[:, None] & self.part[None, :]

    def whole(self) -> Float[Array, "size size"]:
        """The matrix; 0 where a point takes no part."""
        given = triton.load(self.ref, mask=self.both, other=0)
        return jnp.where(self.both, given * self.inverse[:, None] - self.shift[:, None], 0)

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """One row."""
        given = triton.load(self.ref.at[_scalar(index), :], mask=self.part, other=0)
        return jnp.where(self.part, given * self.inverse - self.shift, 0)


class FusedMatrix(NamedTuple):
    """The matrix of one problem; see `matrices.Matrix`."""

    tile: Tile
    diagonal: Float[Array, " size"]

    def times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """K alpha; sums of products, so never in TF32 or bfloat16."""
        return _product(self.tile.whole(), alpha)

    def absolute_times(self, alpha: Float[Array, " size"]) -> Float[Array, " size"]:
        """|K| alpha."""
        return _product(jnp.abs(self.tile.whole()), alpha)

    def row(self, index: Int[Array, "1"]) -> Float[Array, " size"]:
        """One row of K."""
        return self.tile.row(index)

    def at(self, values: Float[Array, " size"], index: Int[Array, "1"]) -> Float[Array, "1"]:
        """One entry of a vector, whose entries lie in the registers of different threads."""
        here = _indices(values.shape[0]) == index
        return jnp.sum(jnp.where(here, values, 0), axis=0, keepdims=True)

    def any(self, flags: Bool[Array, "1"]) -> Bool[Array, ""]:
        """The flag as a scalar."""
        return _scalar(flags.astype(jnp.int32)) > 0

    def solve_reduced(
        self, free: Bool[Array, " size"], rhs: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """As `free_set.solve_reduced`, without moving the free set into slots of its own."""
        system = reduced_system(self, free)
        at_p = jnp.sum(jnp.where(system.reference, rhs, 0), axis=0, keepdims=True)
        b = system.scale * (rhs - at_p)
        inverse, _ = inverse_and_pivot(damped(self, system), system.movable)
        x = _product(inverse, b)
        x = x + _product(inverse, b - _product(scaled(self, system), x))
        y = system.scale * x
        total = jnp.sum(y, axis=0, keepdims=True)
        return jnp.where(system.reference, -total, y)


class System(NamedTuple):
    """The scaled system D R D of a free set; see `free_set.Reduction`."""

    reference: Bool[Array, " size"]
    movable: Bool[Array, " size"]
    scale: Float[Array, " size"]
    to_reference: Float[Array, " size"]
    offset: Float[Array, "1"]


def reduced_system(matrix: FusedMatrix, free: Bool[Array, " size"]) -> System:
    """The system of a free set."""
    p = free_set.reference_index(matrix.diagonal, free)
    reference = free & (_indices(free.shape[0]) == p)
    to_p, K_pp = matrix.row(p), matrix.at(matrix.diagonal, p)
    movable, scale = free_set.movable_and_scale(matrix.diagonal, free & ~reference, to_p, K_pp)
    return System(reference, movable, scale, to_p, K_pp)


def scaled(matrix: FusedMatrix, system: System) -> Float[Array, "size size"]:
    """D R D, with rows of the identity for points that do not move."""
    to_p, d = system.to_reference, system.scale
    R = matrix.tile.whole() - to_p[:, None] - to_p[None, :] + system.offset[:, None]
    both = system.movable[:, None] & system.movable[None, :]
    index = _indices(d.shape[0])
    still = (index[:, None] == index[None, :]) & ~system.movable[:, None]
    return jnp.where(both, R * (d[:, None] * d[None, :]), still.astype(d.dtype))


def damped(matrix: FusedMatrix, system: System) -> Float[Array, "size size"]:
    """D R D with `free_set.damping` added to its diagonal."""
    size = system.scale.shape[0]
    index = _indices(size)
    amount = free_set.damping(size, system.scale.dtype)
    return scaled(matrix, system) + jnp.where(index[:, None] == index[None, :], amount, 0)


def as_given(ref: Any, part: Bool[Array, " size"], dtype: Any) -> FusedMatrix:
    """The matrix in memory without change of units."""
    tile = Tile(ref, part, jnp.ones((1,), dtype), jnp.zeros((1,), dtype))
    return FusedMatrix(tile, _diagonal(tile.whole()))


class Conditioned(NamedTuple):
    """The matrix of one problem, and what the start needs; see `conditioning.Conditioned`."""

    matrix: FusedMatrix
    unit: Float[Array, "1"]
    row_sums: Float[Array, " size"]
    underflow: Float[Array, "1"]
    finite: Bool[Array, "1"]
    one_sign: Bool[Array, "1"]


def conditioned(ref: Any, part: Bool[Array, " size"], dtype: Any) -> Conditioned:
    """As `conditioning.conditioned`, for a symmetric K in memory, which is left as it is."""
    one, zero = jnp.ones((1,), dtype), jnp.zeros((1,), dtype)
    given = Tile(ref, part, one, zero)
    K = given.whole()
    # 0 times infinity and 0 times NaN are NaN, which equals nothing.
    finite = _total(0 * K) == 0
    unit, inverse = conditioning.units(_largest(jnp.abs(K)), finite)
    small = conditioning.may_underflow(_diagonal(K), unit)
    # A K that is not finite becomes 0, by leaving out all its points.
    part = part & finite
    tile = Tile(ref, part, inverse, zero)
    K = tile.whole()
    row_sums = jnp.sum(K, axis=1)
    shift, tried = conditioning.common_value(_diagonal(K), part, row_sums)
    moved, error = conditioning.less(K, shift, tile.both)
    shifted = tried & (_largest(error) == 0)
    shift = jnp.where(shifted, shift, zero)
    K = jnp.where(shifted[:, None], moved, K)
    matrix = FusedMatrix(Tile(ref, part, inverse, shift), _diagonal(K))
    least = -_largest(-conditioning.expected_sign(shift)[:, None] * K)
    any_small = jnp.sum(small.astype(jnp.int32), axis=0, keepdims=True) > 0
    underflow = jnp.where(any_small, conditioning.underflow_bound(inverse), 0)
    return Conditioned(matrix, unit, jnp.sum(K, axis=1), underflow, finite, least >= 0)


def _product(A: Float[Array, "size size"], v: Float[Array, " size"]) -> Float[Array, " size"]:
    return jnp.sum(A * v[None, :], axis=1)


def _diagonal(A: Float[Array, "size size"]) -> Float[Array, " size"]:
    index = _indices(A.shape[0])
    return jnp.sum(jnp.where(index[:, None] == index[None, :], A, 0), axis=1)


def _largest(A: Float[Array, "size size"]) -> Float[Array, "1"]:
    return jnp.max(jnp.max(A, axis=1), axis=0, keepdims=True)


def _total(A: Float[Array, "size size"]) -> Float[Array, "1"]:
    return jnp.sum(jnp.sum(A, axis=1), axis=0, keepdims=True)


def _indices(size: int) -> Int[Array, " size"]:
    return lax.iota(jnp.int32, size)


def _scalar(x: Array) -> Array:
    return jnp.reshape(x, ())
