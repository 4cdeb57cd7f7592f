"""The duals as the iteration sees them, one or many, and the starting point."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver.matrices import Matrix

# Iterations of the search for rho in the model of `start`.
_MODEL_ITERATIONS = 3


class Problem(NamedTuple):
    """Minimise 1/2 alpha' K alpha + linear' alpha over sum(alpha) = total, 0 <= alpha <= C."""

    matrix: Matrix  # K as returned by `conditioning.conditioned`
    linear: Float[Array, "n *lanes"]
    C: Float[Array, "n *lanes"]
    total: Float[Array, "1 *lanes"]
    tol: Float[Array, "1 *lanes"]  # bound on the gap; negative asks for the default of the dtype
    underflow: Float[Array, "1 *lanes"]  # bound on what underflow may have taken from an entry of K
    one_sign: Bool[Array, "1 *lanes"]  # whether all entries of K are known to have the same sign


def gradient(problem: Problem, alpha: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
    """K alpha + linear, at full precision."""
    return problem.matrix.times(alpha) + problem.linear


def magnitude(
    problem: Problem, alpha: Float[Array, "n *lanes"], g: Float[Array, "n *lanes"]
) -> Float[Array, "n *lanes"]:
    """|K| alpha + |linear|: the size of the terms of each g, to which its rounding is relative.

    Args:
      problem: the duals.
      alpha: (n, *lanes) feasible.
      g: (n, *lanes) their gradients.
    """
    matrix = problem.matrix
    # Most kernels have entries of one sign and do not need a pass over K.
    size = lax.cond(
        matrix.any(~problem.one_sign),
        lambda: matrix.absolute_times(alpha),
        lambda: jnp.abs(g - problem.linear),
    )
    return size + jnp.abs(problem.linear)


def scale_seen(
    problem: Problem, alpha: Float[Array, "n *lanes"], m: Float[Array, "n *lanes"]
) -> Float[Array, "1 *lanes"]:
    """The mean of the magnitudes m under alpha: the scale of g as the support sees it.

    Tolerances are relative to this scale, not to the largest entry of K: a far row has large
    entries, but its alpha is zero or tiny.

    Args:
      problem: the duals.
      alpha: (n, *lanes) feasible.
      m: (n, *lanes) as returned by `magnitude`.
    """
    return jnp.sum(alpha * m, axis=0, keepdims=True) / problem.total


def objective(
    problem: Problem, alpha: Float[Array, "n *lanes"], g: Float[Array, "n *lanes"]
) -> Float[Array, "1 *lanes"]:
    """The value of the dual at alpha, whose gradient is g."""
    return 0.5 * jnp.sum(alpha * (g + problem.linear), axis=0, keepdims=True)


def start(problem: Problem, row_sums: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
    """A feasible alpha near the solution: that of a separable model, if it keeps to the bounds.

    The model replaces the off-diagonal entries of row i of K by their mean c_i and the diagonal by
    d_i, which gives alpha_i = max(0, (rho - c_i) / d_i). Its rho is found as in a projection onto
    the simplex: first with all points, then without those whose alpha is negative (Michelot 1986).
    A few iterations suffice, since SMO follows. If an alpha exceeds its bound C, the boxes of the
    farthest points are filled instead.
    """
    C, diagonal = problem.C, problem.matrix.diagonal
    part = C > 0
    count = jnp.maximum(_sum(part.astype(C.dtype)), 2)
    c = (row_sums - diagonal) / (count - 1)
    mean = _sum(jnp.where(part, c, 0)) / count
    # The floor is for a K whose diagonal hardly differs from the rest, where the model is poor.
    tiny = jnp.finfo(C.dtype).tiny
    stiffness = 1 / jnp.maximum(diagonal - mean, 0.1 * (jnp.abs(diagonal) + jnp.abs(c)) + tiny)

    def level(active: Array) -> Array:
        weight = jnp.where(active, stiffness, 0)
        return (1 + _sum(weight * c)) / _sum(weight)

    # Derived from c so that it varies over a mesh as K does, even if C does not: a loop under
    # shard_map requires it.
    active = part & (c < jnp.inf)
    below = lambda _, active: active & (c < level(active))  # noqa: E731
    active = lax.fori_loop(0, _MODEL_ITERATIONS, below, active)
    rho = level(active)
    alpha = jnp.where(active, jnp.maximum((rho - c) * stiffness, 0), 0)
    alpha = alpha / _sum(alpha)
    # For a K whose entries are all 0 the model gives NaN, which the minimum on a GPU would skip.
    outside = part & ~(C - alpha > 0)
    inside = jnp.sum(outside, axis=0, dtype=jnp.int32, keepdims=True) == 0
    alpha = problem.matrix.unless(inside, alpha, lambda: _fill(problem, row_sums))
    return _of_sum_one(alpha, C)


def _fill(problem: Problem, row_sums: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
    """Fills the boxes of the points that lie farthest from the mean of all, until the sum is 1.

    For each point this needs the sum of C over the points before it in that order.
    """
    C = problem.C
    n = C.shape[0]
    before = problem.matrix.sums_before(row_sums, C)
    alpha = jnp.minimum(jnp.maximum(1 - before, 0), C)
    # A remainder that is due to rounding must not make a point free.
    slack = n * jnp.finfo(C.dtype).eps * problem.total
    partly = (alpha > 0) & (alpha < C)
    snapped = jnp.where(alpha <= slack, 0, jnp.where(C - alpha <= slack, C, alpha))
    return jnp.where(partly, snapped, alpha)


def _of_sum_one(
    alpha: Float[Array, "n *lanes"], C: Float[Array, "n *lanes"]
) -> Float[Array, "n *lanes"]:
    """alpha, corrected where its sum differs from 1 by more than rounding.

    The iteration keeps the sum it starts with, which must not depend on how XLA rounds in `_fill`.
    """
    total, room = _sum(alpha), _sum(C - alpha)
    wrong = jnp.abs(total - 1) > 4 * alpha.shape[0] * jnp.finfo(alpha.dtype).eps
    tiny = jnp.finfo(alpha.dtype).tiny
    more = alpha + (C - alpha) * (1 - total) / jnp.maximum(room, tiny)
    return jnp.where(wrong, jnp.where(total > 1, alpha / total, jnp.minimum(more, C)), alpha)


def _sum(values: Float[Array, "n *lanes"]) -> Float[Array, "1 *lanes"]:
    return jnp.sum(values, axis=0, keepdims=True)
