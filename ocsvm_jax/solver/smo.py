"""Sequential minimal optimisation (SMO): two variables per step, one problem or many at once.

The second-order choice of the pair is that of Fan, Chen and Lin (2005). A step consists of about
twenty small XLA kernels, and on small problems its time is proportional to their number; on a GPU a
whole solve is one kernel (the package `fused`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt
from ocsvm_jax.solver.problem import Problem


class Smo(NamedTuple):
    """The state of the iteration."""

    alpha: Float[Array, "n *lanes"]
    g: Float[Array, "n *lanes"]
    steps: Int[Array, "1 *lanes"]
    running: Bool[Array, "1 *lanes"]


def run(
    problem: Problem,
    alpha: Float[Array, "n *lanes"],
    g: Float[Array, "n *lanes"],
    *,
    active: Bool[Array, "1 *lanes"],
    target: Float[Array, "1 *lanes"],
    steps: Int[Array, "1 *lanes"],
    limit: Int[Array, "1 *lanes"],
) -> Smo:
    """Runs each active lane until its gap is at most `target`, no pair can move, or at `limit`.

    Args:
      problem: the duals.
      alpha: (n, *lanes) feasible.
      g: (n, *lanes) gradient at alpha; it is updated, never recomputed.
      active: (1, *lanes) false for lanes to leave as they are.
      target: (1, *lanes) gap at which to stop.
      steps: (1, *lanes) steps taken so far; counting continues from there.
      limit: (1, *lanes) number of steps at which to stop.
    """
    start = Smo(alpha, g, steps, active)
    return lax.while_loop(
        lambda s: problem.matrix.any(s.running), lambda s: _step(problem, s, target, limit), start
    )


def _step(problem: Problem, s: Smo, target: Array, limit: Array) -> Smo:
    """Moves weight from j to i, the pair with the largest guaranteed decrease, up to a bound.

    A lane that needs no step, or can take none, stops running.
    """
    matrix, C, alpha, g = problem.matrix, problem.C, s.alpha, s.g
    rows = lax.broadcasted_iota(jnp.int32, C.shape, 0)
    at, row = matrix.at, matrix.row
    i, low, gap = kkt.violation(alpha, g, C)
    K_i, excess = row(i), g - low
    newton = excess / _curvature(matrix.diagonal, matrix.diagonal_at(i), K_i)
    gain = jnp.where((alpha > 0) & (excess > 0), excess * newton, -1)
    j = kkt.first_where_equal(gain, jnp.max(gain, axis=0, keepdims=True))
    alpha_i, alpha_j = at(alpha, i), at(alpha, j)
    room = matrix.bound_at(C, i) - alpha_i
    wanted = s.running & (gap > target) & (s.steps < limit)
    step = jnp.where(wanted, jnp.minimum(at(newton, j), jnp.minimum(room, alpha_j)), 0)
    moved = (alpha_i + step != alpha_i) | (alpha_j - step != alpha_j)
    # An alpha that reaches a bound is set to that bound exactly; see kkt.py.
    grown = jnp.where(step >= room, C, kkt.snapped(alpha + step, C))
    shrunk = jnp.where(step >= alpha_j, 0, alpha - step)
    at_i, at_j = (rows == i) & wanted, (rows == j) & wanted
    return Smo(
        alpha=jnp.where(at_i, grown, jnp.where(at_j, shrunk, alpha)),
        g=g + step * (K_i - row(j)),
        steps=s.steps + wanted.astype(jnp.int32),
        running=wanted & moved,
    )


def _curvature(K_jj: Array, K_ii: Array, K_ij: Array) -> Array:
    """|phi_i - phi_j|^2, or its rounding error if larger, which depends on these points alone."""
    size = jnp.abs(K_jj) + jnp.abs(K_ii)
    info = jnp.finfo(size.dtype)
    return jnp.maximum(K_jj + K_ii - 2 * K_ij, info.eps * size + info.tiny)
