"""The forward iteration: solves many duals at once, exactly. Derivatives are handled elsewhere.

Each round runs sequential minimal optimisation (SMO, two variables per step, second-order choice of
the pair; Fan, Chen and Lin 2005) until the active set is nearly right, then Newton steps on the
free set, each cut at the first bound it meets, until one is not cut. SMO finds the active set in
about ten steps but then creeps; a Newton step lands on the solution for the active set at once.
Neither ever raises the objective. Rounds repeat until the gap, computed from a fresh gradient and
including its rounding error, is within the tolerance.

Nothing here is relative to the largest entry of K, which a single far row can make arbitrarily
large. Tolerances are relative to the scale of K that the support sees, and curvatures depend on
their two points alone.

The arrays of the iteration are (n, lanes), one problem per lane: a reduction over n then runs
through SIMD registers side by side, and an expensive part (a Newton step) can be skipped when no
lane needs it, which `vmap` of a single solve could not do.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, newton, smo
from ocsvm_jax.solver.conditioning import conditioned
from ocsvm_jax.solver.problem import (
    Problem,
    gradient,
    magnitude,
    make_problem,
    objective,
    scale_seen,
    start,
)
from ocsvm_jax.solver.solution import Status

# SMO hands over to Newton at this gap, relative to the scale seen: most active sets are right then.
_HANDOVER = 3e-4
# The default tolerance, relative to the scale seen, and the part of it that the iteration aims for.
_TOLERANCE = {"float64": 1e-10, "float32": 4e-6}
_GOAL = {"float64": 1e-3, "float32": 0.25}
# Points with k(x, x) below this fraction of the scale seen count as being of another scale.
_ALIKE = 1e-3
# Rounds without progress in gap and objective after which a lane counts as stalled.
_PATIENCE = 3


class _Round(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    gap: Float[Array, "1 lanes"]  # an upper bound, see `_measure`
    tol: Float[Array, "1 lanes"]
    goal: Float[Array, "1 lanes"]  # at most tol
    noise: Float[Array, "1 lanes"]  # rounding error of the objective
    objective: Float[Array, "1 lanes"]
    handover: Float[Array, "1 lanes"]
    steps: Int[Array, "1 lanes"]
    fruitless: Int[Array, "1 lanes"]  # consecutive rounds without progress
    running: Bool[Array, "1 lanes"]


class DualState(NamedTuple):
    """The state that the iteration reached, one row per problem."""

    alpha: Float[Array, "lanes n"]
    g: Float[Array, "lanes n"]
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


class LaneSolution(NamedTuple):
    """Solved duals, one row per problem."""

    alpha: Float[Array, "lanes n"]
    rho: Float[Array, " lanes"]
    rho_weights: Float[Array, "lanes n"]  # rho is the mean of K alpha under these
    shift: Float[Array, " lanes"]  # can be subtracted from K without rounding, see `conditioned`
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


def solve_lanes(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    max_steps: int,
) -> LaneSolution:
    """Solves the dual of each lane.

    Args:
      K: (lanes, n, n) Gram matrices.
      C: (lanes, n) upper bounds on alpha; points with C = 0 take no part.
      tol: (lanes,) bounds on the gap, in units of K. A negative one asks for the default: 1e-10
        (float64) or 4e-6 (float32) times the scale of K alpha that the support sees
        (`scale_seen`).
      max_steps: bound on the two-variable steps of each lane.

    Returns:
      The solutions. A lane whose K is not finite ends as INVALID.
    """
    lanes, n = C.shape
    given = conditioned(K, C > 0)
    linear, total = jnp.zeros((n, lanes), K.dtype), jnp.ones((1, lanes), K.dtype)
    tol, underflow = (tol / given.unit)[None, :], given.underflow[None, :]
    one_sign = given.one_sign[None, :]
    problem = make_problem(given.K, linear, C.T, total, tol, underflow, one_sign)
    state = refine(problem, start(problem, given.row_sums.T), max_steps)
    m = magnitude(problem, state.alpha.T, state.g.T)
    weights = kkt.rho_weights(state.alpha.T, state.g.T, problem.C, m)
    rho = jnp.sum(weights * state.g.T, axis=0) + given.shift * jnp.sum(state.alpha, axis=1)
    status = jnp.where(given.finite, state.status, jnp.int32(Status.INVALID))
    return LaneSolution(
        alpha=state.alpha,
        rho=given.unit * rho,
        rho_weights=weights.T,
        shift=given.unit * given.shift,
        gap=_in_given_units(given.unit, state.gap),
        num_steps=state.num_steps,
        status=status,
    )


def _in_given_units(unit: Float[Array, " lanes"], gap: Float[Array, " lanes"]) -> Array:
    """unit * gap, kept above 0 where the product underflows: a gap is an upper bound."""
    least = jnp.where(gap > 0, jnp.finfo(gap.dtype).tiny, -jnp.inf)
    return jnp.maximum(unit * gap, least)


def refine(problem: Problem, alpha: Float[Array, "n lanes"], max_steps: int) -> DualState:
    """Solves each lane, starting from a feasible alpha.

    Args:
      problem: the duals.
      alpha: (n, lanes) feasible.
      max_steps: bound on the two-variable steps of each lane.
    """
    state = _start(problem, alpha)
    state = lax.while_loop(
        lambda s: jnp.any(s.running), lambda s: _round(problem, s, max_steps), state
    )
    status = jnp.where(
        state.gap <= state.tol,
        jnp.int32(Status.CONVERGED),
        jnp.where(
            state.steps >= max_steps, jnp.int32(Status.OUT_OF_STEPS), jnp.int32(Status.STALLED)
        ),
    )
    return DualState(state.alpha.T, state.g.T, state.gap[0], state.steps[0], status[0])


def _start(problem: Problem, alpha: Float[Array, "n lanes"]) -> _Round:
    # Derived from alpha so that the zeros vary over a mesh as the lanes do: a loop under shard_map
    # requires it.
    none = (0 * alpha[:1]).astype(jnp.int32)
    g = gradient(problem, alpha)
    # Good enough for the first hand-over; no result is judged by this scale.
    scale = jnp.sum(alpha * (jnp.abs(problem.diagonal) + jnp.abs(g)), axis=0, keepdims=True)
    unknown, zero = jnp.full_like(scale, jnp.inf) + 0 * scale, 0 * scale
    return _Round(
        alpha=alpha,
        g=g,
        gap=unknown,
        tol=zero,
        goal=zero,
        noise=zero,
        objective=unknown,
        handover=jnp.maximum(_HANDOVER * scale, problem.tol),
        steps=none,
        fruitless=none,
        running=none == 0,
    )


def _measure(
    problem: Problem, alpha: Float[Array, "n lanes"], g: Float[Array, "n lanes"]
) -> dict[str, Float[Array, "1 lanes"]]:
    """An upper bound on the gap, the tolerance and the goal for it, and the objective's noise.

    The bound takes every g at the unfavourable end of its rounding error. Where that error is
    large, as with a far row whose entries cancel, no smaller gap can be claimed.
    """
    eps = jnp.finfo(g.dtype).eps
    m = magnitude(problem, alpha, g)
    seen = scale_seen(problem, alpha, m)
    # The rounding error of a sum of n terms grows with the square root of n. Most devices treat
    # subnormal numbers as zero.
    units = eps * (1 + 0.125 * math.sqrt(g.shape[0]))
    rounding = units * m
    rounding = jnp.where(m > 0, jnp.maximum(rounding, jnp.finfo(g.dtype).tiny), 0)
    rounding = rounding + problem.underflow
    default = _TOLERANCE[g.dtype.name] * _resolved(problem, alpha, g, seen)
    goal = jnp.maximum(_GOAL[g.dtype.name] * default, 5 * units * seen)
    asked = problem.tol >= 0
    return {
        "gap": kkt.gap_bound(alpha, g, problem.C, rounding),
        "tol": jnp.where(asked, problem.tol, default),
        # Not below the point where the bound is mostly its own rounding error.
        "goal": jnp.where(asked, problem.tol, jnp.minimum(default, goal)),
        "noise": eps * seen,
    }


def _resolved(
    problem: Problem,
    alpha: Float[Array, "n lanes"],
    g: Float[Array, "n lanes"],
    seen: Float[Array, "1 lanes"],
) -> Float[Array, "1 lanes"]:
    """The scale that the default tolerance is relative to.

    This is the scale seen, if it is comparable with that of most points. Where the support has
    huge terms that cancel, the scale seen dwarfs the kernel values of all other points, and a gap
    that is small against it would prove nothing. The scale is then |alpha' g|, what remains of the
    terms.
    """
    value = jnp.abs(jnp.sum(alpha * g, axis=0, keepdims=True))
    part = problem.C > 0
    alike = part & (jnp.abs(problem.diagonal) >= _ALIKE * seen)
    most = 2 * jnp.sum(alike, axis=0, keepdims=True) >= jnp.sum(part, axis=0, keepdims=True)
    return jnp.where(most | (value >= _ALIKE * seen), seen, value)


def _round(problem: Problem, state: _Round, max_steps: int) -> _Round:
    """SMO down to the hand-over gap, then Newton steps, judged by a fresh gradient."""
    # Each round may take only some of the steps, so that a slow lane reaches Newton repeatedly.
    limit = jnp.minimum(state.steps + problem.C.shape[0] + 50, max_steps)
    reached = smo.run(
        problem,
        state.alpha,
        state.g,
        active=state.running,
        target=state.handover,
        steps=state.steps,
        limit=limit,
    )
    alpha, g = newton.run(problem, reached.alpha, state.running)
    found = {"alpha": alpha, "g": g, "objective": objective(problem, alpha, g)}
    found |= _measure(problem, alpha, g)
    gap, value, noise = found["gap"], found["objective"], found["noise"]
    progress = (gap < 0.9 * state.gap) | (value < state.objective - 2 * noise)
    fruitless = jnp.where(progress, 0, state.fruitless + 1)
    better = state.running & (progress | (gap <= state.gap))
    kept = {name: jnp.where(better, new, getattr(state, name)) for name, new in found.items()}
    # Within the tolerance, one round that gains nothing is enough.
    patience = jnp.where(kept["gap"] <= kept["tol"], 1, _PATIENCE)
    going = (gap > found["goal"]) & (fruitless < patience) & (reached.steps < max_steps)
    return _Round(
        handover=jnp.maximum(
            jnp.minimum(0.03 * state.handover, 0.1 * gap), 0.5 * found["goal"] + noise
        ),
        steps=reached.steps,
        fruitless=fruitless,
        running=state.running & going,
        **kept,
    )
