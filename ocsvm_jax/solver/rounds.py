"""The rounds of the iteration: solves one dual or many at once, exactly.

Each round runs sequential minimal optimisation (SMO, two variables per step, second-order choice of
the pair; Fan, Chen and Lin 2005) until the active set is nearly right, then Newton steps on the
free set, each cut at the first bound it meets, until one is not cut. SMO finds the active set in
about ten steps but then creeps; a Newton step lands on the solution for the active set at once.
Neither ever raises the objective. Rounds repeat until the gap, computed from a fresh gradient and
including its rounding error, is within the tolerance.

Nothing here is relative to the largest entry of K, which a single far row can make arbitrarily
large. Tolerances are relative to the scale of K that the support sees, and curvatures depend on
their two points alone.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, newton, smo
from ocsvm_jax.solver.problem import Problem, gradient, magnitude, objective, scale_seen
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


class Rounds(NamedTuple):
    """The state of the iteration."""

    alpha: Float[Array, "n *lanes"]
    g: Float[Array, "n *lanes"]
    gap: Float[Array, "1 *lanes"]  # an upper bound, see `_measure`
    tol: Float[Array, "1 *lanes"]
    goal: Float[Array, "1 *lanes"]  # at most tol
    noise: Float[Array, "1 *lanes"]  # rounding error of the objective
    objective: Float[Array, "1 *lanes"]
    handover: Float[Array, "1 *lanes"]
    steps: Int[Array, "1 *lanes"]
    fruitless: Int[Array, "1 *lanes"]  # consecutive rounds without progress
    running: Bool[Array, "1 *lanes"]


def iterate(
    problem: Problem,
    alpha: Float[Array, "n *lanes"],
    max_steps: int,
    steps: Int[Array, "1 *lanes"] | None = None,
) -> Rounds:
    """Solves each problem, starting from a feasible alpha.

    Args:
      problem: the duals.
      alpha: (n, *lanes) feasible.
      max_steps: bound on the two-variable steps of each problem.
      steps: (1, *lanes) those taken before, none if left out.
    """
    return lax.while_loop(
        lambda s: problem.matrix.any(s.running),
        lambda s: _round(problem, s, max_steps),
        _start(problem, alpha, steps),
    )


def status_of(state: Rounds, max_steps: int) -> Int[Array, "1 *lanes"]:
    """How each solve ended: one of `Status`."""
    unfinished = jnp.where(
        state.steps >= max_steps, jnp.int32(Status.OUT_OF_STEPS), jnp.int32(Status.STALLED)
    )
    return jnp.where(state.gap <= state.tol, jnp.int32(Status.CONVERGED), unfinished)


def _start(
    problem: Problem, alpha: Float[Array, "n *lanes"], steps: Int[Array, "1 *lanes"] | None
) -> Rounds:
    g = gradient(problem, alpha)
    # Good enough for the first hand-over; no result is judged by this scale.
    scale = jnp.sum(alpha * (jnp.abs(problem.matrix.diagonal) + jnp.abs(g)), axis=0, keepdims=True)
    # Derived from alpha so that the zeros vary over a mesh as the lanes do: a loop under shard_map
    # requires it.
    unknown, zero = jnp.full_like(scale, jnp.inf) + 0 * scale, 0 * scale
    none = zero.astype(jnp.int32)
    return Rounds(
        alpha=alpha,
        g=g,
        gap=unknown,
        tol=zero,
        goal=zero,
        noise=zero,
        objective=unknown,
        handover=jnp.maximum(_HANDOVER * scale, problem.tol),
        steps=none if steps is None else steps,
        fruitless=none,
        running=none == 0,
    )


def _measure(
    problem: Problem, alpha: Float[Array, "n *lanes"], g: Float[Array, "n *lanes"]
) -> dict[str, Float[Array, "1 *lanes"]]:
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
    alpha: Float[Array, "n *lanes"],
    g: Float[Array, "n *lanes"],
    seen: Float[Array, "1 *lanes"],
) -> Float[Array, "1 *lanes"]:
    """The scale that the default tolerance is relative to.

    This is the scale seen, if it is comparable with that of most points. Where the support has
    huge terms that cancel, the scale seen dwarfs the kernel values of all other points, and a gap
    that is small against it would prove nothing. The scale is then |alpha' g|, what remains of the
    terms.
    """
    value = jnp.abs(jnp.sum(alpha * g, axis=0, keepdims=True))
    part = problem.C > 0
    alike = part & (jnp.abs(problem.matrix.diagonal) >= _ALIKE * seen)
    most = 2 * jnp.sum(alike, axis=0, keepdims=True) >= jnp.sum(part, axis=0, keepdims=True)
    return jnp.where(most | (value >= _ALIKE * seen), seen, value)


def _round(problem: Problem, state: Rounds, max_steps: int) -> Rounds:
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
    return Rounds(
        handover=jnp.maximum(
            jnp.minimum(0.03 * state.handover, 0.1 * gap), 0.5 * found["goal"] + noise
        ),
        steps=reached.steps,
        fruitless=fruitless,
        running=state.running & going,
        **kept,
    )
