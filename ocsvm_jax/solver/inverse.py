"""Inverses of many small positive definite matrices, and the smallest pivot of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Up to this size elimination in plain JAX is faster than LAPACK, whose overhead exceeds the work.
_ELIMINATION_SIZE = 64


def inverse_and_pivot(
    A: Float[Array, "lanes size size"], steps: Int[Array, ""]
) -> tuple[Float[Array, "lanes size size"], Float[Array, " lanes"]]:
    """The inverse of each matrix, and its smallest pivot.

    The pivot of a matrix that is not positive definite is not positive, or NaN.

    Args:
      A: (lanes, size, size) symmetric matrices.
      steps: number of leading rows and columns outside which A is diagonal.
    """
    if A.shape[1] <= _ELIMINATION_SIZE:
        alone = A.shape[0] == 1
        return _by_elimination_alone(A, steps) if alone else _by_elimination(A, steps)
    return lax.platform_dependent(
        A, cpu=lambda A: one_by_one(_by_cholesky, A), default=jax.vmap(_by_cholesky)
    )


def one_by_one(function: Callable[..., Any], *arrays: Any) -> Any:
    """`vmap` without batched LAPACK calls, for a CPU.

    Such a call in jaxlib holds one of XLA's threads while it waits for work that it gives to other
    threads. When as many calls run at once as there are threads, they wait for one another forever.
    """
    return lax.map(lambda one: function(*one), arrays)


def _by_cholesky(
    A: Float[Array, "size size"],
) -> tuple[Float[Array, "size size"], Float[Array, ""]]:
    """The inverse through L^-T L^-1, and the smallest squared pivot."""
    L = lax.linalg.cholesky(A, symmetrize_input=False)
    eye = jnp.eye(A.shape[0], dtype=A.dtype)
    L_inverse = lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)
    inverse = jnp.matmul(L_inverse.T, L_inverse, precision=lax.Precision.HIGHEST)
    return inverse, jnp.min(jnp.diagonal(L)) ** 2


def _by_elimination_alone(
    A: Float[Array, "1 size size"], steps: Int[Array, ""]
) -> tuple[Float[Array, "1 size size"], Float[Array, "1"]]:
    """Gauss-Jordan elimination of one matrix, with as few kernels per step as possible."""
    size = A.shape[1]
    rows = jnp.arange(size, dtype=jnp.int32)

    def eliminate(
        k: Array, state: tuple[Float[Array, "size size"], Float[Array, ""]]
    ) -> tuple[Float[Array, "size size"], Float[Array, ""]]:
        A, smallest = state
        pivot = A[k, k]
        here = rows == k
        scaled = jnp.where(here, 1, A[k]) / pivot
        factor = jnp.where(here, 0, A[:, k])
        others = jnp.where(here[None, :], 0, A) - factor[:, None] * scaled[None, :]
        return jnp.where(here[:, None], scaled[None, :], others), jnp.minimum(smallest, pivot)

    inverse, pivot = lax.fori_loop(0, steps, eliminate, (A[0], A[0, 0, 0]))
    outside = (rows >= steps)[:, None] & jnp.eye(size, dtype=bool)
    inverse = jnp.where(outside, 1 / jnp.where(outside, inverse, 1), inverse)
    return inverse[None], pivot[None]


class _Elimination(NamedTuple):
    """A, and the row and column that the next step needs, so that it can update A in place."""

    A: Float[Array, "size size lanes"]
    scaled: Float[Array, "1 size lanes"]  # the pivot's row, divided by the pivot
    factor: Float[Array, "size 1 lanes"]  # the multiple of it that each other row subtracts
    smallest: Float[Array, " lanes"]  # smallest pivot so far


def _by_elimination(
    A: Float[Array, "lanes size size"], steps: Int[Array, ""]
) -> tuple[Float[Array, "lanes size size"], Float[Array, " lanes"]]:
    """Gauss-Jordan elimination without pivoting, which is stable for positive definite matrices.

    The lanes are the last axis, so that each rank-one update runs over them in SIMD registers.
    """
    size = A.shape[1]
    A = jnp.moveaxis(A, 0, -1)
    rows = jnp.arange(size, dtype=jnp.int32)

    def prepare(k: Array, A: Array, smallest: Array) -> _Elimination:
        row = lax.dynamic_index_in_dim(A, k, axis=0, keepdims=True)
        column = lax.dynamic_index_in_dim(A, k, axis=1, keepdims=True)
        pivot = lax.dynamic_index_in_dim(row, k, axis=1, keepdims=True)
        scaled = jnp.where((rows == k)[None, :, None], 1 / pivot, row / pivot)
        factor = jnp.where((rows == k)[:, None, None], 0, column)
        return _Elimination(A, scaled, factor, jnp.minimum(smallest, pivot[0, 0]))

    def eliminate(k: Array, s: _Elimination) -> _Elimination:
        in_row, in_column = (rows == k)[:, None, None], (rows == k)[None, :, None]
        others = jnp.where(in_column, 0, s.A) - s.factor * s.scaled
        A = jnp.where(in_row, s.scaled, others)
        return prepare(jnp.minimum(k + 1, steps - 1), A, s.smallest)

    start = prepare(jnp.int32(0), A, A[0, 0])
    A, _, _, pivot = lax.fori_loop(0, steps, eliminate, start)
    outside = (rows >= steps)[:, None, None] & jnp.eye(size, dtype=bool)[:, :, None]
    A = jnp.where(outside, 1 / jnp.where(outside, A, 1), A)
    return jnp.moveaxis(A, -1, 0), pivot
