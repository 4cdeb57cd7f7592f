"""Linear systems on the free set: the Newton step of the iteration and the implicit derivative.

On the free set F the optimality system is `K_FF x - rho 1 = r`, `1'x = t`. Taking the equation of
one free index p, the reference, off all others eliminates rho, and `x_p = t - (sum of the others)`
eliminates x_p: what is left is symmetric positive semi-definite, with the entries

    R_ij = K_ij - K_ip - K_pj + K_pp = (phi_i - phi_p)'(phi_j - phi_p).

It is scaled to a diagonal of ones before it is factorised. So each entry is computed from what
three points have to do with one another, and a row whose entries are far larger than those of the
others costs the others no digits; to subtract means over F would.

The free set is usually much smaller than n. Its indices are first gathered into a matrix of the
smallest of a few fixed sizes that holds it, which makes the O(m^3) work small under static shapes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt
from ocsvm_jax.solver.inverse import inverse_and_pivot


class ReducedSystem(NamedTuple):
    """The inverse of D R D on gathered indices; a lanes axis leads where there are many."""

    indices: Int[Array, " size"]  # the free indices first, then zeros
    valid: Bool[Array, " size"]
    reference: Bool[Array, " size"]  # true at p
    movable: Bool[Array, " size"]  # valid, neither p nor a point that coincides with it
    position: Int[Array, " n"]  # where index i was gathered to
    free: Bool[Array, " n"]
    scale: Float[Array, " size"]  # the diagonal of D, positive
    matrix: Float[Array, "size size"]  # D R D, the identity on what is not movable
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
    """Entries outside the set are zeroed, inside it the mean is taken off."""
    inside = jnp.where(valid, values, 0)
    count = jnp.maximum(jnp.sum(valid, dtype=values.dtype), 1)
    return jnp.where(valid, inside - jnp.sum(inside) / count, 0)


def reduced_systems(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"], size: int
) -> ReducedSystem:
    """Inverts D R D of each lane on its free set, gathered into `size` slots.

    A multiple of the rounding unit is added to the diagonal so that a singular matrix (duplicate
    points, a linear kernel with fewer dimensions than points) still has an inverse; `singular`
    reports it.
    """
    parts = jax.vmap(lambda k, f: _scaled(k, f, size))(K, free)
    damping = 4 * size * float(jnp.finfo(K.dtype).eps)
    damped = parts.matrix + damping * jnp.eye(size, dtype=K.dtype)[None]
    steps = jnp.max(jnp.sum(parts.valid, axis=1, dtype=jnp.int32))
    inverse, pivot = inverse_and_pivot(damped, steps)
    # NaN, from a matrix that is not positive semi-definite, counts as singular too.
    singular = ~(pivot > 250 * damping)
    coincide = jnp.any(parts.valid & ~parts.reference & ~parts.movable, axis=1)
    return parts._replace(inverse=inverse, singular=singular | coincide)


def _scaled(K: Float[Array, "n n"], free: Bool[Array, " n"], size: int) -> ReducedSystem:
    """Gathers the free set to the front and forms D R D; the inverse is still to come."""
    n = K.shape[0]
    position = jnp.cumsum(free, dtype=jnp.int32) - 1
    slot = jnp.arange(size, dtype=jnp.int32)
    here = free[None, :] & (position[None, :] == slot[:, None])
    indices = jnp.sum(jnp.where(here, jnp.arange(n, dtype=jnp.int32)[None, :], 0), axis=1)
    valid = slot < jnp.sum(free, dtype=jnp.int32)
    G = K[indices[:, None], indices[None, :]]
    # The smallest diagonal makes the smallest entries, which round off least.
    diagonal = jnp.abs(jnp.diagonal(G))
    own = jnp.where(valid, diagonal, jnp.inf)
    p = kkt.first_where_equal(own, jnp.min(own, keepdims=True))[0]
    reference = valid & (slot == p)
    to_p, K_pp = G[p], G[p, p]
    R = G - to_p[:, None] - to_p[None, :] + K_pp
    length = jnp.diagonal(R)
    rounded_from = diagonal + jnp.abs(K_pp) + 2 * jnp.abs(to_p)
    apart = length > 8 * jnp.finfo(K.dtype).eps * rounded_from
    movable = valid & ~reference & apart
    scale = jnp.where(movable, length, jnp.where(rounded_from > 0, rounded_from, 1)) ** -0.5
    both = movable[:, None] & movable[None, :]
    R = jnp.where(both, R * (scale[:, None] * scale[None, :]), 0)
    matrix = R + jnp.diag((~movable).astype(K.dtype))
    position = jnp.maximum(position, 0)
    no = jnp.bool_(False)
    return ReducedSystem(
        indices, valid, reference, movable, position, free, scale, matrix, matrix, no
    )


def solve_reduced(system: ReducedSystem, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
    """y with (K y - rhs)_i equal over the free set and sum(y) = 0, refined once; zero off the set.

    Of a regular system; of a singular one, some y that comes near it.
    """
    values = rhs[system.indices]
    differences = values - jnp.sum(jnp.where(system.reference, values, 0))
    b = jnp.where(system.movable, system.scale * differences, 0)
    x = matvec(system.inverse, b)
    x = x + matvec(system.inverse, b - matvec(system.matrix, x))
    y = jnp.where(system.movable, system.scale * x, 0)
    y = jnp.where(system.reference, -jnp.sum(y), y)
    return jnp.where(system.free, y[system.position], 0)


def projected_inverse(system: ReducedSystem) -> Float[Array, "n n"]:
    """The matrix of `solve_reduced`, on all n indices: the pseudo-inverse of P K P, P = I - 11'/m.

    Of a regular system; then it is unique, whatever the reference.
    """
    both = system.movable[:, None] & system.movable[None, :]
    scaled = system.scale[:, None] * system.inverse * system.scale[None, :]
    return scatter(_with_reference(jnp.where(both, scaled, 0), system), system)


def pseudo_inverse(system: ReducedSystem) -> Float[Array, "n n"]:
    """The pseudo-inverse of P K P, whatever its rank, by eigendecomposition of D R D.

    The minimum-norm solution differs from any other by directions that K does not see; these are
    the null vectors of R, taken off here in the norm of alpha, not of D.
    """
    size, dtype = system.matrix.shape[0], system.matrix.dtype
    at = system.valid & ~system.reference
    R = jnp.where(system.movable[:, None] & system.movable[None, :], system.matrix, 0)
    values, vectors = jnp.linalg.eigh(R)
    cutoff = 10 * size * jnp.finfo(dtype).eps * jnp.max(jnp.abs(values))
    seen = values > cutoff
    weights = jnp.where(seen, 1 / jnp.where(seen, values, 1), 0)
    vectors = jnp.where(at[:, None], system.scale[:, None] * vectors, 0)
    some = _product(vectors * weights[None, :], vectors.T)
    # Null vectors of length one, in terms of alpha; zero columns beside them.
    null = jnp.where(seen[None, :], 0, vectors)
    null = jnp.where(system.reference[:, None], -jnp.sum(null, axis=0)[None, :], null)
    length = jnp.sqrt(jnp.sum(null**2, axis=0))
    null = null / jnp.where(length > 0, length, 1)[None, :]
    values, directions = jnp.linalg.eigh(_product(null, null.T))
    unseen = jnp.where(values > 100 * size * jnp.finfo(dtype).eps, directions, 0)
    off = jnp.eye(size, dtype=dtype) - _product(unseen, unseen.T)
    return scatter(_product(_product(off, _with_reference(some, system)), off), system)


def _with_reference(
    inverse: Float[Array, "size size"], system: ReducedSystem
) -> Float[Array, "size size"]:
    """A matrix on the other indices, completed so that what it gives and takes sums to zero."""
    rows = jnp.where(system.reference[:, None], -jnp.sum(inverse, axis=0)[None, :], inverse)
    return jnp.where(system.reference[None, :], -jnp.sum(rows, axis=1)[:, None], rows)


def scatter(inverse: Float[Array, "size size"], system: ReducedSystem) -> Float[Array, "n n"]:
    """Puts a matrix on gathered indices back on all n, zero off the free set."""
    everywhere = inverse[system.position[:, None], system.position[None, :]]
    return jnp.where(system.free[:, None] & system.free[None, :], everywhere, 0)


def _product(A: Float[Array, "m k"], B: Float[Array, "k n"]) -> Any:
    return jnp.matmul(A, B, precision=lax.Precision.HIGHEST)
