"""The parts of a decomposition: its start, the indices that a round takes, their solution."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ocsvm_jax.solver import dual, kkt
from ocsvm_jax.solver.problem import in_units, make_problem


def fill(closeness: Float[Array, " n"], C: Float[Array, " n"]) -> Float[Array, " n"]:
    """Fills the boxes of the points least close, until the sum is 1."""
    n = C.shape[0]
    order = jnp.argsort(closeness)
    ordered = C[order]
    # Rounding of a sum that ends near 1, added up in a tree. A point it alone keeps from its bound
    # is put there: one that is free sets rho.
    rounding = 4 * (1 + math.log2(n)) * jnp.finfo(C.dtype).eps
    whole = (jnp.cumsum(ordered) <= 1 + rounding) | (jnp.sum(ordered) <= 1 + rounding)
    place = jnp.arange(n, dtype=jnp.int32)
    last = jnp.min(jnp.where(whole, jnp.int32(n), place))
    rest = 1 - jnp.sum(jnp.where(place < last, ordered, 0))
    rest = jnp.where(rest <= rounding, 0, rest)
    alpha = jnp.where(
        place < last, ordered, jnp.where(place == last, jnp.minimum(rest, ordered), 0)
    )
    return jnp.zeros_like(C).at[order].set(alpha)


def violators(
    alpha: Float[Array, " n"],
    g: Float[Array, " n"],
    C: Float[Array, " n"],
    gap: Float[Array, ""],
    q: int,
) -> Int[Array, " q"]:
    """The q/2 indices of lowest g that can grow; of the rest, q/2 of highest g that can shrink."""
    can_grow = jnp.where(alpha < C, g, jnp.inf)
    grow = _top(_below(-can_grow), gap, q // 2)
    taken = jnp.zeros(alpha.shape, bool).at[grow].set(True)
    can_shrink = jnp.where((alpha > 0) & ~taken, g, -jnp.inf)
    # An index already taken would be counted twice; one that cannot move is harmless.
    shrink = _top(jnp.where(taken, -jnp.inf, _below(can_shrink)), gap, q // 2)
    return jnp.concatenate([grow, shrink])


def _below(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """How far each lies from the largest, finite: the least of all numbers for an infinite one."""
    least = -jnp.finfo(values.dtype).max
    return jnp.where(jnp.isinf(values), least, jnp.maximum(values - jnp.max(values), least))


def closing(
    alpha: Float[Array, " n"],
    g: Float[Array, " n"],
    C: Float[Array, " n"],
    gap: Float[Array, ""],
    q: int,
) -> Int[Array, " q"]:
    """The free indices, at most q, then those whose g lies farthest on the wrong side of rho."""
    free = kkt.free_set(alpha, C)
    rho = jnp.sum(kkt.rho_weights(alpha, g, C, jnp.ones_like(g)) * g)
    wrong = jnp.where(alpha < C, rho - g, g - rho)
    return _top(jnp.where(free, jnp.inf, jnp.where(C > 0, wrong, -jnp.inf)), gap, q)


def _top(worth: Float[Array, " n"], unit: Float[Array, ""], count: int) -> Int[Array, " count"]:
    """The indices of the largest `worth`, told apart as float32 tells worth / unit apart.

    Of float64, XLA sorts all of an array on a CPU: 4 ms for 16,000 entries, where float32 takes .1.
    """
    most = float(jnp.finfo(jnp.float32).max)
    scaled = worth / jnp.maximum(unit, jnp.finfo(worth.dtype).tiny)
    coarse = jnp.where(jnp.isinf(worth), worth, jnp.clip(scaled, -most, most))
    return lax.top_k(coarse.astype(jnp.float32), count)[1].astype(jnp.int32)


def solve_restricted(
    K: Float[Array, "q q"],
    alpha: Float[Array, " q"],
    g: Float[Array, " q"],
    C: Float[Array, " q"],
    tol: Float[Array, ""],
    one_sign: bool,
) -> Float[Array, " q"]:
    """The dual over a working set with all else held, from alpha; tol as of `dual.solve_lanes`."""
    # In units that neither over- nor underflow.
    K, _, inverse = in_units(K[None])
    tol = jnp.where(tol < 0, tol, tol * inverse[0])
    linear = g * inverse[0] - jnp.matmul(K[0], alpha, precision=lax.Precision.HIGHEST)
    column = lambda v: v[:, None]  # noqa: E731
    total = jnp.sum(alpha).reshape(1, 1)
    tol, signs = tol.reshape(1, 1), (0 * total == 0) & one_sign
    problem = make_problem(K, column(linear), column(C), total, tol, 0 * total, signs)
    return dual.refine(problem, column(alpha), max_steps=20 * alpha.shape[0]).alpha[0]
