"""Linear systems on the free set: the Newton step of the iteration and the implicit derivative.

On the free set F the optimality system is `K_FF x - rho 1 = r`, `1'x = t`. Subtracting the equation
of one free index p, the reference, from all others eliminates rho, and `x_p = t - (sum of the
others)` eliminates x_p. The remaining matrix is symmetric positive semi-definite, with entries

    R_ij = K_ij - K_ip - K_pj + K_pp = (phi_i - phi_p)'(phi_j - phi_p).

It is scaled to a diagonal of ones before it is factorised. Each entry depends on three points only,
so a row whose entries are far larger than the others costs the other rows no digits. Subtracting
means over F would.

The free set is usually much smaller than n. Its indices are first gathered into a matrix of the
smallest of a few fixed sizes that holds it, which makes the O(m^3) work small under static shapes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax import devices
from ocsvm_jax.solver import kkt
from ocsvm_jax.solver.inverse import inverse_and_pivot

# Up to this n, n^2 comparisons find the free indices faster than n sequential writes.
_FEW = 128
# An accelerator gathers nothing for up to so many points, in matrices of so many entries together.
_ONE_SIZE, _IN_CACHE = 64, 2**20


class Reduction(NamedTuple):
    """Maps a problem to its reduced system and back; batches have a leading axis of lanes.

    The slots hold the free indices in order. The remaining slots hold arbitrary indices.
    """

    slots: Int[Array, " n"]  # the index in each slot
    position: Int[Array, " n"]  # the slot of each free index
    free: Bool[Array, " n"]
    reference: Bool[Array, " n"]  # true at p
    scale: Float[Array, " n"]  # diagonal of D; 0 at p, at points that coincide with p, and off F
    to_reference: Float[Array, " n"]  # K_ip
    offset: Float[Array, ""]  # K_pp
    coincide: Bool[Array, ""]  # whether another free point coincides with p


class ReducedSystem(NamedTuple):
    """D R D on the gathered indices, with rows of the identity where `scale` is 0."""

    matrix: Float[Array, "size size"]
    inverse: Float[Array, "size size"]
    singular: Bool[Array, ""]


def gathered_sizes(n: int) -> tuple[int, ...]:
    """Static sizes into which the free set of n points is gathered: 32, 128, ..., n."""
    sizes = []
    size = 32
    while size < 0.75 * n:
        sizes.append(size)
        size *= 4
    return (*sizes, n)


def at_smallest_size(free: Bool[Array, "lanes n"], function: Callable[[int], Any]) -> Any:
    """function(size) for the smallest of `gathered_sizes` that holds the free set of every lane."""
    lanes, n = free.shape
    sizes = gathered_sizes(n)
    if not devices.on_cpu() and n <= _ONE_SIZE and lanes * n * n <= _IN_CACHE:
        # Few small matrices take the time of their launches, whatever their size, and the choice
        # waits for the host. All that `function` does would be compiled once per size.
        sizes = (n,)
    largest = jnp.max(jnp.sum(free, axis=1, dtype=jnp.int32))
    branch = jnp.sum(jnp.asarray(sizes[:-1], dtype=jnp.int32) < largest, dtype=jnp.int32)
    return lax.switch(branch, [partial(function, size) for size in sizes])


def matvec(A: Float[Array, "m n"], v: Float[Array, " n"]) -> Float[Array, " m"]:
    """A v at full precision; the default is bfloat16 on a TPU and TF32 on recent GPUs."""
    return jnp.matmul(A, v, precision=lax.Precision.HIGHEST)


def project(values: Float[Array, " size"], valid: Bool[Array, " size"]) -> Float[Array, " size"]:
    """Zeroes the entries outside the set and subtracts the mean of those inside."""
    inside = jnp.where(valid, values, 0)
    count = jnp.maximum(jnp.sum(valid, dtype=values.dtype), 1)
    return jnp.where(valid, inside - jnp.sum(inside) / count, 0)


def reduction(
    K: Float[Array, "n n"], diagonal: Float[Array, " n"], free: Bool[Array, " n"]
) -> Reduction:
    """The `Reduction` of one problem.

    Args:
      K: (n, n) Gram matrix.
      diagonal: (n,) its diagonal.
      free: (n,) the free set.
    """
    n = K.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    position = jnp.cumsum(free, dtype=jnp.int32) - 1
    if n <= _FEW:
        here = free[None, :] & (position[None, :] == index[:, None])
        slots = jnp.sum(jnp.where(here, index[None, :], 0), axis=1, dtype=jnp.int32)
    else:
        slots = kkt.first_true(free)
    p = reference_index(diagonal, free)[0]
    reference = free & (index == p)
    to_p, K_pp = K[p], diagonal[p]
    movable, length = lengths(diagonal, free & ~reference, to_p, K_pp)
    scale = length**-0.5
    position = jnp.maximum(position, 0)
    coincide = jnp.any(free & ~reference & ~movable)
    return Reduction(slots, position, free, reference, scale, to_p, K_pp, coincide)


def reference_index(diagonal: Float[Array, " n"], free: Bool[Array, " n"]) -> Int[Array, "1"]:
    """The reference p, whose diagonal is the smallest: so are its entries, which round least."""
    own = jnp.where(free, jnp.abs(diagonal), jnp.inf)
    return kkt.first_where_equal(own, jnp.min(own, axis=0, keepdims=True))


def lengths(
    diagonal: Float[Array, " n"],
    others: Bool[Array, " n"],
    to_p: Float[Array, " n"],
    K_pp: Float[Array, "..."],
) -> tuple[Bool[Array, " n"], Float[Array, " n"]]:
    """Which free points are apart from the reference, and R_ii there, infinite elsewhere.

    Args:
      diagonal: (n,) of K.
      others: (n,) the free set without p.
      to_p: (n,) row p of K.
      K_pp: its entry p.
    """
    length = diagonal - 2 * to_p + K_pp
    rounded_from = jnp.abs(diagonal) + jnp.abs(K_pp) + 2 * jnp.abs(to_p)
    movable = others & (length > 8 * jnp.finfo(diagonal.dtype).eps * rounded_from)
    return movable, jnp.where(movable, length, jnp.inf)


def on_slots(part: Reduction, *values: Float[Array, " n"]) -> list[Float[Array, " n"]]:
    """Moves values from indices to slots, with 0 in the slots left over."""
    # One gather for all values: on a CPU a gather takes as long to compile as two other kernels.
    gathered = jnp.stack(values)[:, part.slots]
    used = jnp.arange(part.slots.shape[0], dtype=jnp.int32) < jnp.sum(part.free, dtype=jnp.int32)
    return list(jnp.where(used[None, :], gathered, 0))


def reduced_systems(
    K: Float[Array, "lanes n n"],
    parts: Reduction,
    scale: Float[Array, "lanes n"],
    to_reference: Float[Array, "lanes n"],
    size: int,
) -> ReducedSystem:
    """Inverts D R D of each lane on its free set, gathered into `size` slots.

    A multiple of the rounding unit is added to the diagonal so that a singular matrix (duplicate
    points, or a linear kernel with fewer dimensions than points) still has an inverse; `singular`
    reports it.

    Args:
      K: (lanes, n, n) Gram matrices.
      parts: the `Reduction` of each lane.
      scale: (lanes, n) `parts.scale`, on the slots.
      to_reference: (lanes, n) `parts.to_reference`, on the slots.
      size: one of `gathered_sizes(n)`.
    """

    def scaled(K: Float[Array, "n n"], part: Reduction, d: Array, to_p: Array) -> Array:
        at, d, to_p = part.slots[:size], d[:size], to_p[:size]
        R = K[at[:, None], at[None, :]] - to_p[:, None] - to_p[None, :] + part.offset
        both = (d > 0)[:, None] & (d > 0)[None, :]
        R = jnp.where(both, R * (d[:, None] * d[None, :]), 0)
        return R + jnp.diag((d == 0).astype(K.dtype))

    matrix = jax.vmap(scaled)(K, parts, scale, to_reference)
    amount = damping(size, K.dtype)
    damped = matrix + amount * jnp.eye(size, dtype=K.dtype)[None]
    steps = jnp.max(jnp.sum(parts.free, axis=1, dtype=jnp.int32))
    inverse, pivot = inverse_and_pivot(damped, steps)
    return ReducedSystem(matrix, inverse, is_singular(pivot, amount) | parts.coincide)


def damping(size: Any, dtype: Any) -> Any:
    """What is added to the diagonal of D R D, so that a singular one has an inverse too."""
    return 4 * size * float(jnp.finfo(dtype).eps)


def is_singular(pivot: Float[Array, "..."], damping: Any) -> Bool[Array, "..."]:
    """Whether D R D is singular, by its smallest pivot after the damping.

    A pivot of NaN, from a matrix that is not positive semi-definite, counts as singular too.
    """
    return ~(pivot > 250 * damping)


def solve_reduced(
    K: Float[Array, "lanes n n"],
    diagonal: Float[Array, "lanes n"],
    free: Bool[Array, "lanes n"],
    rhs: Float[Array, "lanes n"],
) -> Float[Array, "lanes n"]:
    """Solves for y with (K y - rhs)_i equal over the free set and sum(y) = 0; y is 0 off the set.

    The solution is refined once. If the system is singular, y is approximate.

    Args:
      K: (lanes, n, n) Gram matrices.
      diagonal: (lanes, n) their diagonals.
      free: (lanes, n) the free sets.
      rhs: (lanes, n) right-hand sides.
    """
    n = K.shape[1]
    parts = jax.vmap(reduction)(K, diagonal, free)
    at_p = jnp.sum(jnp.where(parts.reference, rhs, 0), axis=1, keepdims=True)
    b = parts.scale * (rhs - at_p)
    scale, to_reference, b = jax.vmap(on_slots)(parts, parts.scale, parts.to_reference, b)

    def solve(size: int) -> Float[Array, "lanes n"]:
        system = reduced_systems(K, parts, scale, to_reference, size)
        product = jax.vmap(matvec)
        right = b[:, :size]
        x = product(system.inverse, right)
        x = x + product(system.inverse, right - product(system.matrix, x))
        return jnp.pad(x, ((0, 0), (0, n - size)))

    x = jnp.take_along_axis(at_smallest_size(free, solve), parts.position, axis=1)
    y = parts.scale * x
    return jnp.where(parts.reference, -jnp.sum(y, axis=1, keepdims=True), y)


def projected_inverse(
    inverse: Float[Array, "size size"],
    scale: Float[Array, " size"],
    reference: Bool[Array, " size"],
) -> Float[Array, "size size"]:
    """The pseudo-inverse of P K P on the slots, P = I - 11'/m, if the system is regular.

    It maps rhs to the y of `solve_reduced` and does not depend on the reference.

    Args:
      inverse: (size, size) inverse of D R D.
      scale: (size,) the diagonal of D.
      reference: (size,) true at the slot of p.
    """
    return with_reference(scale[:, None] * inverse * scale[None, :], reference)


def pseudo_inverse(
    matrix: Float[Array, "size size"],
    scale: Float[Array, " size"],
    reference: Bool[Array, " size"],
    used: Bool[Array, " size"],
) -> Float[Array, "size size"]:
    """The pseudo-inverse of P K P on the slots, of any rank, by eigendecomposition of D R D.

    The minimum-norm solution differs from any other by null vectors of R. They are projected out
    in the norm of alpha, not in the norm scaled by D.

    Args:
      matrix: (size, size) D R D.
      scale: (size,) the diagonal of D.
      reference: (size,) true at the slot of p.
      used: (size,) true at the slots that hold a free index.
    """
    size, dtype = matrix.shape[0], matrix.dtype
    movable = scale > 0
    R = jnp.where(movable[:, None] & movable[None, :], matrix, 0)
    values, vectors = jnp.linalg.eigh(R)
    cutoff = 10 * size * jnp.finfo(dtype).eps * jnp.max(jnp.abs(values))
    seen = values > cutoff
    weights = jnp.where(seen, 1 / jnp.where(seen, values, 1), 0)
    # A point that coincides with the reference is a null vector by itself, of arbitrary length.
    # Its length is chosen so that other null vectors do not drown it at any scale of K.
    longest = jnp.max(scale)
    d = jnp.where(movable, scale, jnp.where(longest > 0, longest, 1))
    vectors = jnp.where((used & ~reference)[:, None], d[:, None] * vectors, 0)
    some = _product(vectors * weights[None, :], vectors.T)
    # Null vectors in terms of alpha, of length one; the other columns are zero.
    null = jnp.where(seen[None, :], 0, vectors)
    null = jnp.where(reference[:, None], -jnp.sum(null, axis=0)[None, :], null)
    length = jnp.sqrt(jnp.sum(null**2, axis=0))
    null = null / jnp.where(length > 0, length, 1)[None, :]
    values, directions = jnp.linalg.eigh(_product(null, null.T))
    unseen = jnp.where(values > 100 * size * jnp.finfo(dtype).eps, directions, 0)
    off = jnp.eye(size, dtype=dtype) - _product(unseen, unseen.T)
    return _product(_product(off, with_reference(some, reference)), off)


def with_reference(
    inverse: Float[Array, "m m"], reference: Bool[Array, " m"]
) -> Float[Array, "m m"]:
    """Adds the row and column of the reference, so that all rows and columns sum to zero."""
    rows = jnp.where(reference[:, None], -jnp.sum(inverse, axis=0)[None, :], inverse)
    return jnp.where(reference[None, :], -jnp.sum(rows, axis=1)[:, None], rows)


def on_indices(part: Reduction, matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Moves a matrix from slots back to indices, with zeros off the free set."""
    both = part.free[:, None] & part.free[None, :]
    return jnp.where(both, matrix[part.position[:, None], part.position[None, :]], 0)


def _product(A: Float[Array, "m k"], B: Float[Array, "k n"]) -> Any:
    return jnp.matmul(A, B, precision=lax.Precision.HIGHEST)
