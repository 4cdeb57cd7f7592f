"""Newton steps on the free set, for one problem or many: each solves a face of the box exactly."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver import kkt
from ocsvm_jax.solver.problem import Problem, gradient


class _Face(NamedTuple):
    alpha: Float[Array, "n *lanes"]
    g: Float[Array, "n *lanes"]
    cut: Bool[Array, "1 *lanes"]


def run(
    problem: Problem, alpha: Float[Array, "n *lanes"], running: Bool[Array, "1 *lanes"]
) -> tuple[Float[Array, "n *lanes"], Float[Array, "n *lanes"]]:
    """Takes Newton steps on the free set until one is not cut at a bound.

    Each cut removes an index from the free set. The last step reaches the minimum on the face that
    is left, towards which SMO alone would creep if the free points differ much in size.

    Args:
      problem: the duals.
      alpha: (n, *lanes) feasible.
      running: (1, *lanes) false for lanes to leave as they are.

    Returns:
      alpha and its gradient, (n, *lanes) each.
    """
    start = _Face(alpha, gradient(problem, alpha), running)
    end = lax.while_loop(
        lambda s: problem.matrix.any(s.cut), lambda s: _newton_step(problem, s), start
    )
    return end.alpha, end.g


def _newton_step(problem: Problem, s: _Face) -> _Face:
    """One Newton step, cut at the first bound, kept only where the objective does not rise."""
    matrix, C, alpha, g = problem.matrix, problem.C, s.alpha, s.g
    free = kkt.free_set(alpha, C) & s.cut
    p = matrix.solve_reduced(free, -g)
    stepped, cut = _step_to_bound(alpha, p, C)
    moved = _sum_restored(problem, stepped)
    g_moved = gradient(problem, moved)
    # The change of the objective in a form that does not cancel. The mean of g is subtracted,
    # which is exact since both alphas have the same sum.
    step, size = moved - alpha, jnp.abs(g) + jnp.abs(matrix.diagonal * alpha)
    level = jnp.sum(alpha * g, axis=0, keepdims=True) / problem.total
    terms = 0.5 * step * ((g - level) + (g_moved - level))
    change = jnp.sum(terms, axis=0, keepdims=True)
    slack = 4 * jnp.finfo(g.dtype).eps * jnp.sum(jnp.abs(step) * size, axis=0, keepdims=True)
    # Asked of p, since minimum and maximum on a GPU skip NaN: the clipped alpha may hold none.
    finite = jnp.sum(jnp.abs(p), axis=0, keepdims=True) < jnp.inf
    accept = s.cut & (change <= slack) & finite
    return _Face(jnp.where(accept, moved, alpha), jnp.where(accept, g_moved, g), accept & cut)


def _sum_restored(problem: Problem, alpha: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
    """alpha with its sum corrected for rounding, which must not accumulate over rounds.

    The correction is shared among the free indices of small diagonal, where it changes g least:
    the entries of a far row are so large that g would change by far more than the error corrected.
    """
    free = kkt.free_set(alpha, problem.C)
    size = jnp.where(free, jnp.abs(problem.matrix.diagonal), jnp.inf)
    near = free & (size <= 4 * jnp.min(size, axis=0, keepdims=True))
    count = jnp.maximum(jnp.sum(near, axis=0, keepdims=True).astype(alpha.dtype), 1)
    off = (problem.total - jnp.sum(alpha, axis=0, keepdims=True)) / count
    return jnp.where(near, jnp.clip(alpha + off, 0, problem.C), alpha)


def _step_to_bound(
    alpha: Float[Array, "n *lanes"], p: Float[Array, "n *lanes"], C: Float[Array, "n *lanes"]
) -> tuple[Float[Array, "n *lanes"], Bool[Array, "1 *lanes"]]:
    """alpha + t p with the largest t <= 1 that stays in the box, and whether t < 1.

    An alpha that reaches a bound is set to that bound exactly.
    """
    distance = jnp.where(p > 0, C - alpha, jnp.where(p < 0, alpha, jnp.inf))
    t_bound = distance / jnp.where(p == 0, 1, jnp.abs(p))
    t = jnp.minimum(jnp.min(t_bound, axis=0, keepdims=True), 1)
    bound = jnp.where(p > 0, C, 0)
    moved = kkt.snapped(jnp.clip(alpha + t * p, 0, C), C)
    return jnp.where(t_bound <= t, bound, moved), t < 1
