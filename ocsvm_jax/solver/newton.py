"""Newton steps on the free set, many lanes at once: each lands on the solution of a face."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver import free_set, kkt
from ocsvm_jax.solver.problem import Problem, gradient


class _Face(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    cut: Bool[Array, "1 lanes"]


def run(
    problem: Problem, alpha: Float[Array, "n lanes"], running: Bool[Array, "1 lanes"]
) -> tuple[Float[Array, "n lanes"], Float[Array, "n lanes"]]:
    """Newton steps on the free set until one is not cut at a bound: each cut frees it of an index.

    What is left is the solution of a face. SMO alone would creep towards it where the points that
    are free differ much in size.
    """
    start = _Face(alpha, gradient(problem, alpha), running)
    end = lax.while_loop(lambda s: jnp.any(s.cut), lambda s: _newton_step(problem, s), start)
    return end.alpha, end.g


def _newton_step(problem: Problem, s: _Face) -> _Face:
    """One Newton step, cut at the first bound, kept only where it does not harm."""
    K, C, alpha, g = problem.K, problem.C, s.alpha, s.g
    free = kkt.free_set(alpha, C) & s.cut
    p = free_set.solve_reduced(K, problem.diagonal.T, free.T, -g.T).T
    stepped, cut = _step_to_bound(alpha, p, C)
    moved = _sum_restored(problem, stepped)
    g_moved = gradient(problem, moved)
    # The difference of the objectives, in a form that does not cancel; g is taken from its mean,
    # since the sums of both alphas are 1 but for rounding.
    step, size = moved - alpha, jnp.abs(g) + jnp.abs(problem.diagonal * alpha)
    level = jnp.sum(alpha * g, axis=0, keepdims=True) / problem.total
    terms = 0.5 * step * ((g - level) + (g_moved - level))
    change = jnp.sum(terms, axis=0, keepdims=True)
    slack = 4 * jnp.finfo(g.dtype).eps * jnp.sum(jnp.abs(step) * size, axis=0, keepdims=True)
    accept = s.cut & (change <= slack) & jnp.all(jnp.isfinite(moved), axis=0, keepdims=True)
    return _Face(jnp.where(accept, moved, alpha), jnp.where(accept, g_moved, g), accept & cut)


def _sum_restored(problem: Problem, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """alpha with what rounding took from its sum put back: it must not accumulate over rounds.

    It is shared out among the free indices of small diagonal, whose g it moves least: the entries
    of a far row are so large that it would be moved by far more than what was put right.
    """
    free = kkt.free_set(alpha, problem.C)
    size = jnp.where(free, jnp.abs(problem.diagonal), jnp.inf)
    near = free & (size <= 4 * jnp.min(size, axis=0, keepdims=True))
    count = jnp.maximum(jnp.sum(near, axis=0, keepdims=True).astype(alpha.dtype), 1)
    off = (problem.total - jnp.sum(alpha, axis=0, keepdims=True)) / count
    return jnp.where(near, jnp.clip(alpha + off, 0, problem.C), alpha)


def _step_to_bound(
    alpha: Float[Array, "n lanes"], p: Float[Array, "n lanes"], C: Float[Array, "n lanes"]
) -> tuple[Float[Array, "n lanes"], Bool[Array, "1 lanes"]]:
    """alpha + t p, t <= 1 the largest that stays in the box; and whether t < 1.

    What meets its bound is set to it.
    """
    distance = jnp.where(p > 0, C - alpha, jnp.where(p < 0, alpha, jnp.inf))
    t_bound = distance / jnp.where(p == 0, 1, jnp.abs(p))
    t = jnp.minimum(jnp.min(t_bound, axis=0, keepdims=True), 1)
    bound = jnp.where(p > 0, C, 0)
    moved = kkt.snapped(jnp.clip(alpha + t * p, 0, C), C)
    return jnp.where(t_bound <= t, bound, moved), t < 1
