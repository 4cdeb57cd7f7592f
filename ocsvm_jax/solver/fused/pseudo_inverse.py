"""The pseudo-inverse of P K P on a free set of any rank, inside the program of one problem.

Elimination takes the largest remaining pivot each time and stops where the rest is rounding. Where
it has eliminated B and left D, the tableau holds R_BB^-1 and W = R_BB^-1 R_BD. The first solves
the system with x_D = 0; the columns of (-W, 1) span the null space. Its vectors, in terms of alpha,
are made orthogonal one after the other and projected out, which leaves the solution of minimum
norm.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver.free_set import with_reference
from ocsvm_jax.solver.fused.elimination import update
from ocsvm_jax.solver.fused.system import System
from ocsvm_jax.solver.fused.tile import indices, product
from ocsvm_jax.solver.kkt import first_where_equal

# Pivots and lengths below this many rounding units a row count as 0.
_ROUNDING = 10


class _Tableau(NamedTuple):
    A: Float[Array, "slots slots"]
    diagonal: Float[Array, " slots"]
    done: Bool[Array, " slots"]


class _Projection(NamedTuple):
    inverse: Float[Array, "slots slots"]
    null: Float[Array, "slots slots"]  # the projector on the null vectors so far
    left: Bool[Array, " slots"]


def pseudo_inverse(R: Float[Array, "slots slots"], of: System) -> Float[Array, "slots slots"]:
    """The pseudo-inverse of P K P on the slots; see `free_set.pseudo_inverse`.

    Args:
      R: (slots, slots) D R D.
      of: the system it belongs to.
    """
    tableau = _eliminated(R, of.movable)
    done = tableau.done
    both = done[:, None] & done[None, :]
    some = jnp.where(both, tableau.A * (of.scale[:, None] * of.scale[None, :]), 0)
    start = _Projection(with_reference(some, of.reference), 0 * R, of.used & ~of.reference & ~done)
    end = lax.while_loop(
        lambda s: jnp.max(s.left.astype(jnp.int32), axis=0) > 0,
        lambda s: _projected(s, tableau, of),
        start,
    )
    return end.inverse


def _eliminated(R: Float[Array, "slots slots"], which: Bool[Array, " slots"]) -> _Tableau:
    """Gauss-Jordan elimination with the largest pivot first, until no pivot is left."""
    size = R.shape[0]
    index = indices(size)
    limit = _ROUNDING * size * float(jnp.finfo(R.dtype).eps)

    def largest(s: _Tableau) -> Float[Array, "1"]:
        return jnp.max(jnp.where(which & ~s.done, s.diagonal, 0), axis=0, keepdims=True)

    def eliminate(s: _Tableau) -> _Tableau:
        pivot = largest(s)
        left = which & ~s.done
        here = left & (index == first_where_equal(jnp.where(left, s.diagonal, 0), pivot))
        row = jnp.sum(jnp.where(here[:, None], s.A, 0), axis=0)
        column, multiple = update(row, pivot, here, s.done)
        diagonal = s.diagonal - column * multiple
        A = s.A - column[:, None] * multiple[None, :]
        return _Tableau(A, diagonal, s.done | here)

    own = jnp.sum(jnp.where(index[:, None] == index[None, :], R, 0), axis=1)
    return lax.while_loop(
        lambda s: jnp.max(largest(s), axis=0) > limit, eliminate, _Tableau(R, own, index < 0)
    )


def _projected(s: _Projection, tableau: _Tableau, of: System) -> _Projection:
    """One null vector more projected out, on both sides."""
    index = indices(s.left.shape[0])
    j = _first(s.left)
    here = index == j
    column = jnp.sum(jnp.where(here[None, :], tableau.A, 0), axis=1)
    # A point that coincides with the reference has no scale and moves against the reference alone.
    moves = jnp.sum(jnp.where(here & of.movable, 1, 0), axis=0, dtype=jnp.int32, keepdims=True) > 0
    own = jnp.where(moves, of.scale, 1)
    v = jnp.where(here, own, jnp.where(tableau.done & moves, -of.scale * column, 0))
    v = jnp.where(of.reference, -jnp.sum(v, axis=0, keepdims=True), v)
    v = v / _length(v)
    for _ in range(2):  # once more for what rounding left
        v = v - product(s.null, v)
    length = _length(v)
    # Nothing is left of a vector that depends on the others.
    limit = _ROUNDING * index.shape[0] * float(jnp.finfo(v.dtype).eps)
    v = jnp.where(length > limit, v / jnp.where(length > limit, length, 1), 0)
    Zv = product(s.inverse, v)
    inner = jnp.sum(v * Zv, axis=0, keepdims=True)
    half = Zv - 0.5 * inner * v
    inverse = s.inverse - v[:, None] * half[None, :] - half[:, None] * v[None, :]
    return _Projection(inverse, s.null + v[:, None] * v[None, :], s.left & ~here)


def _first(which: Bool[Array, " slots"]) -> Int[Array, "1"]:
    size = which.shape[0]
    return jnp.min(jnp.where(which, indices(size), size - 1), axis=0, keepdims=True)


def _length(v: Float[Array, " slots"]) -> Float[Array, "1"]:
    return jnp.sqrt(jnp.sum(v * v, axis=0, keepdims=True))
