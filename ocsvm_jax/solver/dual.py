"""The forward iteration: many duals at once, exactly. It does not know it will be differentiated.

Each round runs sequential minimal optimisation (SMO, two variables a step, second-order choice of
the pair; Fan, Chen and Lin 2005) until the active set is nearly right, then Newton steps on the
free set, each cut at the first bound it meets, until one is not cut. SMO finds the active set in
some ten steps but creeps along it; a Newton step lands on the solution of the active set at once.
Both only ever lower the objective. Rounds repeat until the gap, from a gradient computed from alpha
and with its rounding, is within the tolerance.

Nothing here is relative to the largest entry of K, which a single far row can make as large as it
likes: tolerances go by what the support sees, curvatures by the two points they belong to.

The arrays of the iteration are (n, lanes), one problem a lane: a reduction over n then runs through
SIMD registers side by side, and what costs time (a Newton step) can be skipped when no lane needs
it, which `vmap` of a single solve could not do.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, newton, smo
from ocsvm_jax.solver.problem import (
    Problem,
    conditioned,
    gradient,
    magnitude,
    make_problem,
    objective,
    scale_seen,
    start,
)
from ocsvm_jax.solver.solution import Status

# SMO hands over to Newton at this gap relative to the scale seen: most active sets are right then.
_HANDOVER = 3e-4
# The default tolerance, relative to the scale seen; and how much further the iteration tries to go.
_TOLERANCE = {"float64": 1e-10, "float32": 4e-6}
_GOAL = {"float64": 1e-3, "float32": 0.25}
# Points with k(x, x) below this part of the scale seen are of another scale.
_ALIKE = 1e-3
# Rounds without progress, in the gap and in the objective, before a lane is called stalled.
_PATIENCE = 3


class _Round(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    gap: Float[Array, "1 lanes"]  # an upper bound, see `_measure`
    tol: Float[Array, "1 lanes"]
    goal: Float[Array, "1 lanes"]  # at most tol
    noise: Float[Array, "1 lanes"]  # what rounding does to the objective
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
    rho_weights: Float[Array, "lanes n"]  # rho is the mean of K alpha under these
    shift: Float[Array, " lanes"]  # that K can lose without rounding, see `conditioned`
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

    The default is 1e-10 (float64) or 4e-6 (float32) times the scale of K alpha that the support
    sees (`scale_seen`). Points with C = 0 take no part. A lane whose K is not finite ends as
    INVALID.
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
    """unit * gap; an underflow must not turn a bound into 0."""
    least = jnp.where(gap > 0, jnp.finfo(gap.dtype).tiny, -jnp.inf)
    return jnp.maximum(unit * gap, least)


def refine(problem: Problem, alpha: Float[Array, "n lanes"], max_steps: int) -> DualState:
    """Solves each lane from a feasible alpha."""
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
    # Zeros that vary over a mesh as the lanes do, which a loop under shard_map asks for.
    none = (0 * alpha[:1]).astype(jnp.int32)
    g = gradient(problem, alpha)
    # A scale that is good enough for the first hand-over; nothing is judged by it.
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
    """An upper bound on the gap, what it is held against, and the noise of the objective.

    The bound takes every g at the unfavourable end of its own rounding. Where that is coarse, as
    beside a far row whose entries cancel, no gap below it can be claimed.
    """
    eps = jnp.finfo(g.dtype).eps
    m = magnitude(problem, alpha, g)
    seen = scale_seen(problem, alpha, m)
    # The rounding of a sum of n terms grows with the square root of n. What is too small for a
    # normal number counts as zero on most devices.
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
        # Not where the bound would hold little but its rounding.
        "goal": jnp.where(asked, problem.tol, jnp.minimum(default, goal)),
        "noise": eps * seen,
    }


def _resolved(
    problem: Problem,
    alpha: Float[Array, "n lanes"],
    g: Float[Array, "n lanes"],
    seen: Float[Array, "1 lanes"],
) -> Float[Array, "1 lanes"]:
    """The scale seen, where it says something of the decision values of most points.

    A support of huge terms that cancel sees a scale beside which those of all other points are
    nothing, and a gap within it nothing proves. What is left of the terms is the scale then.
    """
    value = jnp.abs(jnp.sum(alpha * g, axis=0, keepdims=True))
    part = problem.C > 0
    alike = part & (jnp.abs(problem.diagonal) >= _ALIKE * seen)
    most = 2 * jnp.sum(alike, axis=0, keepdims=True) >= jnp.sum(part, axis=0, keepdims=True)
    return jnp.where(most | (value >= _ALIKE * seen), seen, value)


def _round(problem: Problem, state: _Round, max_steps: int) -> _Round:
    """SMO to the hand-over gap, a Newton step, and a fresh gradient to judge them by."""
    # A share of the steps each round, so that a slow tail is handed to Newton again and again.
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
