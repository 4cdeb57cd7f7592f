"""Gauss-Jordan elimination of one symmetric matrix whose tile lies in a program's registers."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def update(
    row: Float[Array, " size"],
    pivot: Float[Array, "..."],
    here: Bool[Array, " size"],
    done: Bool[Array, " size"],
) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
    """The vectors c and m for which A - c m' is the next tableau of a Gauss-Jordan elimination.

    The tableau is symmetric but for the sign of the blocks between rows that are done and rows that
    are not, so that its column need not be read. With c_k = p - 1 and m_k = 1 + 1 / p the row and
    the column of the pivot p come out right as well, without being set one by one.

    Args:
      row: (size,) row k.
      pivot: its entry k.
      here: (size,) true at k.
      done: (size,) the rows that are done.
    """
    column = jnp.where(here, pivot - 1, jnp.where(done, -row, row))
    return column, jnp.where(here, 1 + 1 / pivot, row / pivot)


class _Elimination(NamedTuple):
    A: Float[Array, "size size"]
    done: Bool[Array, " size"]
    k: Int[Array, ""]


def inverse(A: Float[Array, "size size"], which: Bool[Array, " size"]) -> Float[Array, "size size"]:
    """The inverse of a positive definite matrix.

    Args:
      A: (size, size), with rows and columns of the identity, damped or not, outside `which`; they
        are left as they are.
      which: (size,) the rows to eliminate.
    """
    size = A.shape[0]
    index = lax.iota(jnp.int32, size)

    def first(left: Bool[Array, " size"]) -> Int[Array, ""]:
        return jnp.min(jnp.where(left, index, size), axis=0)

    def eliminate(s: _Elimination) -> _Elimination:
        here = index == s.k
        row = jnp.sum(jnp.where(here[:, None], s.A, 0), axis=0)
        pivot = jnp.sum(jnp.where(here, row, 0), axis=0)
        column, multiple = update(row, pivot, here, s.done)
        A = s.A - column[:, None] * multiple[None, :]
        done = s.done | here
        return _Elimination(A, done, first(which & ~done))

    start = _Elimination(A, index < 0, first(which))
    return lax.while_loop(lambda s: s.k < size, eliminate, start).A
