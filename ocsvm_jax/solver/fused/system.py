"""The linear system of a free set, inside the program of one problem; see `solver.free_set`."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import free_set
from ocsvm_jax.solver.fused import elimination
from ocsvm_jax.solver.fused.tile import Tile, at, indices, placed, product, taken


class System(NamedTuple):
    """D R D on the slots.

    Attributes:
      slots: indices of points, all different: first the free ones in order, then others.
      used: the slots that hold a free index.
      reference: true at p.
      movable: the free points that are apart from p.
      scale: diagonal of D; 0 for all others.
      to_reference: K_ip.
      offset: K_pp.
      damping: what is added to the diagonal.
    """

    slots: Int[Array, " slots"]
    used: Bool[Array, " slots"]
    reference: Bool[Array, " slots"]
    movable: Bool[Array, " slots"]
    scale: Float[Array, " slots"]
    to_reference: Float[Array, " slots"]
    offset: Float[Array, "1"]
    damping: Float[Array, "1"]


def solve(
    tile: Tile, free: Bool[Array, " size"], rhs: Float[Array, " size"], num_slots: int
) -> Float[Array, " size"]:
    """As `free_set.solve_reduced`; NaN if the free set has more points than there are slots."""
    solved = partial(_solve, tile, free, rhs, num_slots)
    if num_slots >= free.shape[0]:
        return solved()
    fits = jnp.sum(free, axis=0, dtype=jnp.int32) <= num_slots
    return lax.cond(fits, solved, lambda: jnp.full_like(rhs, jnp.nan))


def _solve(
    tile: Tile, free: Bool[Array, " size"], rhs: Float[Array, " size"], num_slots: int
) -> Float[Array, " size"]:
    of = system_of(tile, free, num_slots)
    right = taken(rhs, of.slots)
    at_p = jnp.sum(jnp.where(of.reference, right, 0), axis=0, keepdims=True)
    b = jnp.where(of.movable, of.scale * (right - at_p), 0)
    inverse = elimination.inverse(damped(tile, of), of.movable)
    x = product(inverse, b)
    x = x + product(inverse, b - product(scaled(tile, of), x))
    y = of.scale * x
    y = jnp.where(of.reference, -jnp.sum(y, axis=0, keepdims=True), y)
    return placed(y, of.slots, free.shape[0])


def system_of(tile: Tile, free: Bool[Array, " size"], num_slots: int) -> System:
    """Gathers a free set of at most `num_slots` points."""
    index, slot = indices(free.shape[0]), indices(num_slots)
    count = jnp.sum(free, axis=0, dtype=jnp.int32, keepdims=True)
    before = jnp.cumsum(free, dtype=jnp.int32)
    position = jnp.where(free, before - 1, count + index - before)
    here = position[:, None] == slot[None, :]
    slots = jnp.sum(jnp.where(here, index[:, None], 0), axis=0, dtype=jnp.int32)
    used = slot < count
    diagonal = jnp.where(used, tile.entries(slots, slots), 0)
    p = free_set.reference_index(diagonal, used)
    reference = used & (slot == p)
    row = jnp.sum(jnp.where(slot == p, slots, 0), axis=0, dtype=jnp.int32, keepdims=True)
    to_p, K_pp = tile.entries(jnp.broadcast_to(row, slots.shape), slots), at(diagonal, p)
    movable, length = free_set.lengths(diagonal, used & ~reference, to_p, K_pp)
    return System(
        slots=slots,
        used=used,
        reference=reference,
        movable=movable,
        scale=jnp.where(movable, lax.rsqrt(length), 0),
        to_reference=to_p,
        offset=K_pp,
        damping=free_set.damping(jnp.maximum(count, 32).astype(length.dtype), length.dtype),
    )


def scaled(tile: Tile, of: System) -> Float[Array, "slots slots"]:
    """D R D, with rows of the identity for points that do not move."""
    rows, columns = pairs(of)
    to_p, d = of.to_reference, of.scale
    R = tile.entries(rows, columns) - to_p[:, None] - to_p[None, :] + of.offset[:, None]
    both = of.movable[:, None] & of.movable[None, :]
    still = _eye(d.shape[0]) & ~of.movable[:, None]
    return jnp.where(both, R * (d[:, None] * d[None, :]), still.astype(d.dtype))


def damped(tile: Tile, of: System) -> Float[Array, "slots slots"]:
    """D R D with the damping added to its diagonal."""
    return scaled(tile, of) + jnp.where(_eye(of.scale.shape[0]), of.damping[:, None], 0)


def pairs(of: System) -> tuple[Int[Array, "slots slots"], Int[Array, "slots slots"]]:
    """The row and the column of K of each entry."""
    shape = (of.slots.shape[0], of.slots.shape[0])
    rows = jnp.broadcast_to(of.slots[:, None], shape)
    return rows, jnp.broadcast_to(of.slots[None, :], shape)


def _eye(size: int) -> Bool[Array, "size size"]:
    index = indices(size)
    return index[:, None] == index[None, :]
