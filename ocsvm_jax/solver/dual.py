"""The forward iteration: many duals at once, exactly. It does not know it will be differentiated.

Each round runs sequential minimal optimisation (SMO, two variables a step, second-order choice of
the pair; Fan, Chen and Lin 2005) until the active set is nearly right, then one Newton step on the
free set, cut at the first bound it meets. SMO finds the active set in some ten steps but creeps
along it; the Newton step lands on the solution of the active set at once. Both only ever lower the
objective. Rounds repeat until the gap, from a freshly computed gradient, is within the tolerance.

The arrays of the iteration are (n, lanes), one problem a lane: a reduction over n then runs through
SIMD registers side by side, and what costs time (a Newton step) can be skipped when no lane needs
it, which `vmap` of a single solve could not do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import free_set, kkt, smo
from ocsvm_jax.solver.problem import (
    Problem,
    gradient,
    make_problem,
    objective,
    shifted_gram,
    start,
)
from ocsvm_jax.solver.solution import Status

# SMO hands over to Newton at this gap relative to the spread of K: most active sets are right then.
_HANDOVER = 3e-4
# Rounds without progress, in the gap and in the objective, before a lane is called stalled.
_PATIENCE = 3


class _Round(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    gap: Float[Array, "1 lanes"]
    objective: Float[Array, "1 lanes"]
    handover: Float[Array, "1 lanes"]
    steps: Int[Array, "1 lanes"]
    fruitless: Int[Array, "1 lanes"]  # consecutive rounds without progress
    running: Bool[Array, "1 lanes"]


class DualState(NamedTuple):
    """What the iteration reached, one row a problem."""

    alpha: Float[Array, "lanes n"]
    g: Float[Array, "lanes n"]
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


class LaneSolution(NamedTuple):
    """A solved dual, one row a problem."""

    alpha: Float[Array, "lanes n"]
    rho: Float[Array, " lanes"]
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


def solve_lanes(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    max_steps: int,
) -> LaneSolution:
    """Solves each lane's dual; `tol` bounds the gap in units of K, negative asks for the default.

    The default is 1e-10 (float64) or 1e-6 (float32) times the largest entry of the shifted K.
    Points with C = 0 take no part. A lane whose K is not finite ends as INVALID.
    """
    lanes, n = C.shape
    shifted = shifted_gram(K, C > 0)
    linear, total = jnp.zeros((n, lanes), K.dtype), jnp.ones((1, lanes), K.dtype)
    problem = make_problem(shifted.K, linear, C.T, total, tol[None, :])
    alpha = start(problem, shifted.closeness.T, shifted.row_sums.T)
    state = refine(problem, alpha, max_steps)
    weights = kkt.rho_weights(state.alpha.T, state.g.T, problem.C)
    rho = jnp.sum(weights * state.g.T, axis=0) + shifted.mean
    status = jnp.where(shifted.finite, state.status, jnp.int32(Status.INVALID))
    return LaneSolution(state.alpha, rho, state.gap, state.num_steps, status)


def refine(problem: Problem, alpha: Float[Array, "n lanes"], max_steps: int) -> DualState:
    """Solves each lane from a feasible alpha."""
    state = _start(problem, alpha)
    state = lax.while_loop(
        lambda s: jnp.any(s.running), lambda s: _round(problem, s, max_steps), state
    )
    status = jnp.where(
        state.gap <= problem.tol,
        jnp.int32(Status.CONVERGED),
        jnp.where(
            state.steps >= max_steps, jnp.int32(Status.OUT_OF_STEPS), jnp.int32(Status.STALLED)
        ),
    )
    return DualState(state.alpha.T, state.g.T, state.gap[0], state.steps[0], status[0])


def _start(problem: Problem, alpha: Float[Array, "n lanes"]) -> _Round:
    C = problem.C
    g = gradient(problem, alpha)
    index, _, gap = kkt.violation(alpha, g, C)
    # Zeros that vary over a mesh as the lanes do, which a loop under shard_map asks for.
    none = 0 * index
    return _Round(
        alpha=alpha,
        g=g,
        gap=gap,
        objective=objective(problem, alpha, g),
        handover=jnp.maximum(_HANDOVER * problem.spread, problem.tol),
        steps=none,
        fruitless=none,
        running=none == 0,
    )


def _round(problem: Problem, state: _Round, max_steps: int) -> _Round:
    """SMO to the hand-over gap, a Newton step, and a fresh gradient to judge them by."""
    # A share of the steps each round, so that a slow tail is handed to Newton again and again.
    limit = jnp.minimum(state.steps + 4 * problem.C.shape[0] + 100, max_steps)
    reached = smo.run(
        problem,
        state.alpha,
        state.g,
        active=state.running,
        target=state.handover,
        steps=state.steps,
        limit=limit,
    )
    alpha, g = _newton(problem, reached.alpha, state.running)
    _, _, gap = kkt.violation(alpha, g, problem.C)
    value = objective(problem, alpha, g)
    noise = 2 * jnp.finfo(g.dtype).eps * problem.spread
    progress = (gap < 0.9 * state.gap) | (value < state.objective - noise)
    fruitless = jnp.where(progress, 0, state.fruitless + 1)
    keep = state.running
    better = keep & (progress | (gap <= state.gap))
    return _Round(
        alpha=jnp.where(better, alpha, state.alpha),
        g=jnp.where(better, g, state.g),
        gap=jnp.where(better, gap, state.gap),
        objective=jnp.where(better, value, state.objective),
        handover=jnp.maximum(jnp.minimum(0.03 * state.handover, 0.1 * gap), problem.tol + noise),
        steps=reached.steps,
        fruitless=fruitless,
        running=keep & (gap > problem.tol) & (fruitless < _PATIENCE) & (reached.steps < max_steps),
    )


def _newton(
    problem: Problem, alpha: Float[Array, "n lanes"], running: Bool[Array, "1 lanes"]
) -> tuple[Float[Array, "n lanes"], Float[Array, "n lanes"]]:
    """One Newton step on the free set, cut at the first bound, kept only where it does not harm."""
    K, C = problem.K, problem.C
    n = C.shape[0]
    g = gradient(problem, alpha)
    free = kkt.free_set(alpha, C) & running

    def direction(size: int):
        def solve() -> Array:
            systems = free_set.reduced_systems(K, free.T, size)
            return jax.vmap(free_set.solve_reduced)(systems, -g.T).T

        return solve

    sizes = free_set.gathered_sizes(n)
    branch = free_set.size_branch(n, free.T)
    p = lax.switch(branch, [direction(size) for size in sizes])
    moved = _step_to_bound(alpha, p, C)
    # The sum is restored on the free set: rounding must not accumulate over rounds.
    free = kkt.free_set(moved, C)
    count = jnp.maximum(jnp.sum(free, axis=0, keepdims=True).astype(g.dtype), 1)
    off = (problem.total - jnp.sum(moved, axis=0, keepdims=True)) / count
    moved = jnp.where(free, jnp.clip(moved + off, 0, C), moved)
    g_moved = gradient(problem, moved)
    # The difference of the objectives, in a form that does not cancel.
    change = 0.5 * jnp.sum((moved - alpha) * (g + g_moved), axis=0, keepdims=True)
    slack = 4 * jnp.finfo(g.dtype).eps * problem.spread
    accept = running & (change <= slack) & jnp.all(jnp.isfinite(moved), axis=0, keepdims=True)
    return jnp.where(accept, moved, alpha), jnp.where(accept, g_moved, g)


def _step_to_bound(
    alpha: Float[Array, "n lanes"], p: Float[Array, "n lanes"], C: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """alpha + t p, t <= 1 the largest that stays in the box; what meets its bound is set to it."""
    distance = jnp.where(p > 0, C - alpha, jnp.where(p < 0, alpha, jnp.inf))
    t_bound = distance / jnp.where(p == 0, 1, jnp.abs(p))
    t = jnp.minimum(jnp.min(t_bound, axis=0, keepdims=True), 1)
    bound = jnp.where(p > 0, C, 0)
    return jnp.where(t_bound <= t, bound, jnp.clip(alpha + t * p, 0, C))
