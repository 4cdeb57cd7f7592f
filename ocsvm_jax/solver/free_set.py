"""Linear systems on the free set: the Newton step of the iteration and the implicit derivative.

On the free set F of size m the optimality system is `K_FF x - rho 1 = r`, `1'x = t`. Eliminating
rho with the projector P = I_F - 1 1'/m leaves H y = P r with the reduced Hessian H = P K_FF P,
positive semi-definite even where K is only so on vectors that sum to zero. Adding s (I - P) makes
it regular without touching the solution; s, the mean eigenvalue of H, keeps its conditioning.

The free set is usually much smaller than n. Its indices are first gathered into a matrix of the
smallest of a few fixed sizes that holds it, which makes the O(m^3) work small under static shapes.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Up to this size elimination in plain JAX beats a call of LAPACK, whose overhead, and whose thread
# pool on a busy machine, cost more than the work.
_ELIMINATION_SIZE = 64


class ReducedSystem(NamedTuple):
    """The inverse of H + s (I - P) on gathered indices; a lanes axis leads where there are many."""

    indices: Int[Array, " size"]  # the free indices first, then zeros
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
    """Gathers the free set to the front; returns index, valid, position and H."""
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


def reduced_systems(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"], size: int
) -> ReducedSystem:
    """Inverts H + s (I - P) of each lane on its free set, gathered into `size` slots.

    A multiple of the rounding unit is added to the diagonal so that a singular H (duplicate points,
    a linear kernel with fewer dimensions than points) still has an inverse; `singular` reports it.
    """
    index, valid, position, H = jax.vmap(lambda k, f: gather_system(k, f, size))(K, free)
    matrix, s = jax.vmap(_regularized)(H, valid)
    damping = _damping(size, K.dtype) * s
    damped = matrix + damping[:, None, None] * jnp.eye(size, dtype=K.dtype)[None]
    if size <= _ELIMINATION_SIZE:
        steps = jnp.max(jnp.sum(valid, axis=1, dtype=jnp.int32))
        inverse, pivot = _invert_by_elimination(damped, steps)
    else:
        inverse, pivot = _invert_by_cholesky(damped)
    # NaN, from a matrix that is not positive semi-definite, counts as singular too.
    singular = ~(pivot > 250 * _damping(size, K.dtype) * s)
    return ReducedSystem(index, valid, position, free, matrix, inverse, singular)


def _damping(size: int, dtype: Any) -> float:
    return 4 * size * float(jnp.finfo(dtype).eps)


def _regularized(
    H: Float[Array, "size size"], valid: Bool[Array, " size"]
) -> tuple[Float[Array, "size size"], Float[Array, ""]]:
    """H + s (I - P), with ones in place of s on the slots that hold no index; and s."""
    count = jnp.sum(valid, dtype=H.dtype)
    s = jnp.trace(H) / jnp.maximum(count - 1, 1)
    s = jnp.where(s > 0, s, 1)
    both = valid[:, None] & valid[None, :]
    empty = jnp.diag((~valid).astype(H.dtype))
    return H + s * jnp.where(both, 1 / jnp.maximum(count, 1), empty), s


class _Elimination(NamedTuple):
    """What the next elimination needs of A stands beside it, so that it updates A in place."""

    A: Float[Array, "size size lanes"]
    scaled: Float[Array, "1 size lanes"]  # the pivot's row of the result
    factor: Float[Array, "size 1 lanes"]  # how often each other row takes it off
    smallest: Float[Array, " lanes"]  # of the pivots


def _invert_by_elimination(
    A: Float[Array, "lanes size size"], steps: Int[Array, ""]
) -> tuple[Float[Array, "lanes size size"], Float[Array, " lanes"]]:
    """Gauss-Jordan without pivoting, stable for these matrices; also the smallest pivot of each.

    `steps` leading rows are eliminated; what is left must be diagonal. The lanes come last, so that
    each rank-one update runs over them in SIMD registers.
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


def _invert_by_cholesky(
    A: Float[Array, "lanes size size"],
) -> tuple[Float[Array, "lanes size size"], Float[Array, " lanes"]]:
    """The inverse through L^-T L^-1, and the smallest squared pivot of each."""
    L = lax.linalg.cholesky(A, symmetrize_input=False)
    eye = jnp.broadcast_to(jnp.eye(A.shape[1], dtype=A.dtype), A.shape)
    L_inverse = lax.linalg.triangular_solve(L, eye, left_side=True, lower=True)
    inverse = jnp.einsum("bki,bkj->bij", L_inverse, L_inverse, precision=lax.Precision.HIGHEST)
    return inverse, jnp.min(jnp.diagonal(L, axis1=1, axis2=2), axis=1) ** 2


def solve_reduced(system: ReducedSystem, rhs: Float[Array, " n"]) -> Float[Array, " n"]:
    """H^+ P rhs of a regular system, refined once; zero off the free set."""
    b = project(rhs[system.indices], system.valid)
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
