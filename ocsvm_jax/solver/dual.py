"""The forward solve of many duals at once, one problem per lane. Derivatives are handled elsewhere.

The arrays of the iteration are (n, lanes): a reduction over n then runs through SIMD registers side
by side, and an expensive part (a Newton step) can be skipped when no lane needs it, which `vmap` of
a single solve could not do.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ocsvm_jax.solver import kkt, rounds
from ocsvm_jax.solver.conditioning import conditioned
from ocsvm_jax.solver.matrices import lane_matrices
from ocsvm_jax.solver.problem import Problem, magnitude, start
from ocsvm_jax.solver.solution import Status


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
    problem = Problem(lane_matrices(given.K), linear, C.T, total, tol, underflow, one_sign)
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
        gap=in_given_units(given.unit, state.gap),
        num_steps=state.num_steps,
        status=status,
    )


def in_given_units(unit: Float[Array, " lanes"], gap: Float[Array, " lanes"]) -> Array:
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
    state = rounds.iterate(problem, alpha, max_steps)
    status = rounds.status_of(state, max_steps)
    return DualState(state.alpha.T, state.g.T, state.gap[0], state.steps[0], status[0])
