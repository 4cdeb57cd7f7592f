"""Gauss-Jordan elimination of one symmetric matrix whose tile lies in a program's registers."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


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
        # The matrix stays symmetric but for the sign of the blocks between rows that are done and
        # rows that are not, so that the column need not be read.
        column = jnp.where(here, 0, jnp.where(s.done, -row, row))
        multiple = jnp.where(here, 1, row) / pivot
        others = jnp.where(here[None, :], 0, s.A) - column[:, None] * multiple[None, :]
        A = jnp.where(here[:, None], multiple[None, :], others)
        done = s.done | here
        return _Elimination(A, done, first(which & ~done))

    start = _Elimination(A, index < 0, first(which))
    return lax.while_loop(lambda s: s.k < size, eliminate, start).A
