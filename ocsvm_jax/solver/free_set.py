"""Linear systems on the free set: the Newton step of the iteration and the implicit derivative.

On the free set F of size m the optimality system is `K_FF x - rho 1 = r`, `1'x = t`. Eliminating rho
with the projector P = I_F - 1 1'/m leaves H y = P r with the reduced Hessian H = P K_FF P, positive
semi-definite even where K is only so on vectors that sum to zero. Adding s (I - P) makes it regular
without touching the solution; s, the mean eigenvalue of H, keeps the conditioning that of H.

The free set is usually much smaller than n. Its indices are first gathered into a matrix of the
smallest of a few fixed sizes that holds it, which makes the O(m^3) work small under static shapes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class ReducedSystem(NamedTuple):
    """The inverse of H + s (I - P) on gathered indices, one problem."""

    index: Int[Array, " size"]  # the free indices first, then zeros
    valid: Bool[Array, " size"]
    position: Int[Array, " n"]  # where index i was gathered to
    free: Bool[Array, " n"]
    matrix: Float[Array, "size size"]
    inverse: Float[Array, "size size"]
    singular: Bool[Array, ""]


def gathered_sizes(n: int) -> tuple[int, ...]:
    """The static sizes a free set of an n-point problem is gathered into: 32, 128, ..., n."""
    sizes = []
    size = 32
    while size < 0.75 * n:
        sizes.append(size)
        size *= 4
    return (*sizes, n)


def size_branch(n: int, free: Bool[Array, "lanes n"]) -> Int[Array, ""]:
    """Which of `gathered_sizes(n)` holds the largest free set among the lanes."""
    largest = jnp.max(jnp.sum(free, axis=1, dtype=jnp.int32))
    limits = jnp.asarray(gathered_sizes(n)[:-1], dtype=jnp.int32)
    return jnp.sum(limits < largest, dtype=jnp.int32)


def matvec(A: Float[Array, "m n"], v: Float[Array, " n"]) -> Float[Array, " m"]:
    """A v at full precision: the default is bfloat16 on a TPU and TF32 on recent GPUs."""
    return jnp.matmul(A, v, precision=lax.Precision.HIGHEST)


def project(values: Float[Array, " size"], valid: Bool[Array, " size"]) -> Float[Array, " size"]:
    """P values: entries outside the set are zeroed, inside it the mean is taken off."""
    inside = jnp.where(valid, values, 0)
    count = jnp.maximum(jnp.sum(valid, dtype=values.dtype), 1)
    return jnp.where(valid, inside - jnp.sum(inside) / count, 0)


def gather_system(
    K: Float[Array, "n n"], free: Bool[Array, " n"], size: int
) -> tuple[Int[Array, " size"], Bool[Array, " size"], Int[Array, " n"], Float[Array, "size size"]]:
    """Gathers the free set to the front; returns index, valid, position and H (without s (I - P))."""
    n = K.shape[0]
    position = jnp.cumsum(free, dtype=jnp.int32) - 1
    slot = jnp.arange(size, dtype=jnp.int32)
    here = free[None, :] & (position[None, :] == slot[:, None])
    index = jnp.sum(jnp.where(here, jnp.arange(n, dtype=jnp.int32)[None, :], 0), axis=1)
    valid = slot < jnp.sum(free, dtype=jnp.int32)
    H = K[index[:, None], index[None, :]]
    H = jnp.where(valid[:, None] & valid[None, :], H, 0)
    count = jnp.maximum(jnp.sum(valid, dtype=K.dtype), 1)
    row = jnp.sum(H, axis=1) / count
    mean = jnp.sum(row) / count
    H = H - row[:, None] - row[None, :] + mean
    H = jnp.where(valid[:, None] & valid[None, :], H, 0)
    return index, valid, jnp.maximum(position, 0), H


def reduced_system(K: Float[Array, "n n"], free: Bool[Array, " n"], size: int) -> ReducedSystem:
    """Factorises H + s (I - P) on the free set, gathered into `size` slots.

    A multiple of the rounding unit is added to the diagonal so that a singular H (duplicate points,
    a linear kernel with fewer dimensions than points) still factorises; `singular` reports it.
    """
    index, valid, position, H = gather_system(K, free, size)
    eps = jnp.finfo(K.dtype).eps
    count = jnp.sum(valid, dtype=K.dtype)
    s = jnp.trace(H) / jnp.maximum(count - 1, 1)
    s = jnp.where(s > 0, s, 1)
    both = valid[:, None] & valid[None, :]
    eye = jnp.eye(size, dtype=K.dtype)
    complement = jnp.where(both, 1 / jnp.maximum(count, 1), jnp.where(valid[:, None], 0, eye))
    matrix = H + s * complement
    L = lax.linalg.cholesky(matrix + 4 * size * eps * s * eye, symmetrize_input=False)
    L_inverse = lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)
    inverse = jnp.matmul(L_inverse.T, L_inverse, precision=lax.Precision.HIGHEST)
    pivot = jnp.min(jnp.diagonal(L)) ** 2
    singular = ~(pivot > 1e3 * size * eps * s)
    return ReducedSystem(index, valid, position, free, matrix, inverse, singular)


def solve_reduced(system: ReducedSystem, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
    """H^+ P rhs for a regular system, with one step of iterative refinement; zero off the free set."""
    b = project(rhs[system.index], system.valid)
    x = matvec(system.inverse, b)
    x = x + matvec(system.inverse, b - matvec(system.matrix, x))
    x = project(x, system.valid)
    return jnp.where(system.free, x[system.position], 0)


def scatter(inverse: Float[Array, "size size"], system: ReducedSystem) -> Float[Array, "n n"]:
    """Puts a matrix on gathered indices back on all n, zero off the free set."""
    spread = inverse[system.position[:, None], system.position[None, :]]
    return jnp.where(system.free[:, None] & system.free[None, :], spread, 0)


def projected_inverse(system: ReducedSystem) -> Float[Array, "n n"]:
    """P (H + s (I - P))^-1 P on all n indices: the pseudo-inverse of a regular H."""
    rows = jax.vmap(project, in_axes=(0, None))(system.inverse, system.valid)
    both = jax.vmap(project, in_axes=(1, None), out_axes=1)(rows, system.valid)
    return scatter(both, system)


def pseudo_inverse(K: Float[Array, "n n"], system: ReducedSystem, size: int) -> Float[Array, "n n"]:
    """The pseudo-inverse of H, whatever its rank, by eigendecomposition."""
    *_, H = gather_system(K, system.free, size)
    values, vectors = jnp.linalg.eigh(H)
    cutoff = 10 * size * jnp.finfo(K.dtype).eps * jnp.max(jnp.abs(values))
    inverse_values = jnp.where(values > cutoff, 1 / jnp.where(values > cutoff, values, 1), 0)
    inverse = jnp.matmul(
        vectors * inverse_values[None, :], vectors.T, precision=lax.Precision.HIGHEST
    )
    return scatter(inverse, system)
