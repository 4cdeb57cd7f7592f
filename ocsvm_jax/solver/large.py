"""The solver for many points, without a Gram matrix: working-set decomposition on the device.

Each round picks the few hundred indices that violate optimality most, solves the dual restricted
to them with the dense solver of dual.py, and updates the gradient of all points with one product
of kernel columns (Joachims 1999, with a working set of hundreds where LIBSVM's has two). The
caller provides that product and the kernel matrix of a working set; the solver knows no kernel, and
its memory is O(n + working_set^2).

The loop can be left and entered again: `begin`, then `advance` by a number of steps at a time while
`running` is true, then `finish`. A step is one product: a round, or a part of a gradient that is
recomputed from alpha. Between the calls the host can report progress and be interrupted.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, working_set
from ocsvm_jax.solver.conditioning import common_value
from ocsvm_jax.solver.large_state import (
    KernelAccess,
    Settings,
    State,
    claimed,
    closing_is_due,
    incomplete,
    magnitude,
    refreshed,
    tolerance,
)
from ocsvm_jax.solver.large_step import step
from ocsvm_jax.solver.solution import OCSVMSolution, Status

# Rounds without progress in gap and objective after which the gradient is recomputed.
_PATIENCE = 5
# Fresh gradients before a solve counts as stalled. One is computed when the updated gradient claims
# convergence, and when rounding has eaten all progress.
_REFRESHES = 4
# Number of columns whose mean determines the start.
_START_SAMPLE = 512
# Number of points that decide whether K lies around one number.
_SAMPLE = 64


def begin(access: KernelAccess, C: Float[Array, " n"]) -> State:
    """The state of a cold start: alpha is filled from the points farthest from a sample of all.

    Args:
      access: gives products with K.
      C: (n,) upper bounds on alpha.
    """
    n = C.shape[0]
    sample = jnp.linspace(0, n - 1, min(_START_SAMPLE, n)).astype(jnp.int32)
    even = jnp.full(sample.shape, 1 / sample.shape[0], C.dtype)
    closeness = access.product(sample, even, jnp.zeros((), C.dtype))
    return begin_at(access, working_set.fill(closeness, C))


def begin_at(access: KernelAccess, alpha: Float[Array, " n"]) -> State:
    """The state of a start from a feasible alpha (n,)."""
    n = alpha.shape[0]
    sample = jnp.linspace(0, n - 1, min(_SAMPLE, n)).astype(jnp.int32)
    some = access.square(sample)
    whole = jnp.ones(sample.shape, bool)
    value, common = common_value(jnp.diagonal(some), whole, jnp.sum(some, axis=1))
    offset = jnp.where(common, value, 0)
    zero, unknown = jnp.int32(0), jnp.asarray(jnp.inf, alpha.dtype)
    state = State(
        alpha=alpha,
        g=alpha,
        offset=offset,
        root=jnp.sqrt(jnp.abs(access.diagonal() - offset)),
        order=jnp.zeros(alpha.shape, jnp.int32),
        num_support=zero,
        added=zero,
        gap=unknown,
        best_gap=unknown,
        rounding=0 * offset,
        bound=unknown,
        seen=0 * offset,
        rounds=zero,
        fruitless=zero,
        refreshes=jnp.int32(-1),
        closed=jnp.bool_(False),
    )
    return refreshed(state)


def running(C: Float[Array, " n"], settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether `advance` has anything left to do.

    Args:
      C: (n,) upper bounds on alpha.
      settings: tolerance, working set and bound on the rounds.
      s: the current state.
    """
    converged = (s.bound <= tolerance(settings, s)) & ~closing_is_due(C, settings, s)
    ended = (s.rounds >= settings.max_rounds) | (s.refreshes > _REFRESHES)
    return incomplete(s) | ~(converged | ended | ~jnp.isfinite(s.gap))


def advance(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State, steps: Int[Array, ""]
) -> State:
    """Takes up to `steps` steps.

    Args:
      access: gives products with K.
      C: (n,) upper bounds on alpha.
      settings: tolerance, working set and bound on the rounds.
      s: the state to start from.
      steps: how many steps to take, fewer if the solve ends.
    """

    def body(carry: tuple[State, Array]) -> tuple[State, Array]:
        s, left = carry
        to_confirm = claimed(settings, s) & ~closing_is_due(C, settings, s)
        doubtful = ~incomplete(s) & (to_confirm | (s.fruitless >= _PATIENCE))
        s = lax.cond(doubtful, refreshed, lambda s: s, s)
        return step(access, C, settings, s), left - 1

    more = lambda carry: running(C, settings, carry[0]) & (carry[1] > 0)  # noqa: E731
    return lax.while_loop(more, body, (s, steps))[0]


def reached(settings: Settings, s: State) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The gap, and the tolerance it is compared with."""
    return s.gap, tolerance(settings, s)


def finish(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State
) -> OCSVMSolution:
    """The solution and its status.

    Args:
      access: gives products with K.
      C: (n,) upper bounds on alpha.
      settings: tolerance, working set and bound on the rounds.
      s: the last state.
    """
    weights = kkt.rho_weights(s.alpha, s.g, C, magnitude(access, s))
    rho = jnp.sum(weights * s.g) + s.offset * jnp.sum(s.alpha)
    unfinished = jnp.where(s.rounds < settings.max_rounds, Status.STALLED, Status.OUT_OF_STEPS)
    ended = jnp.where(s.bound <= tolerance(settings, s), Status.CONVERGED, unfinished)
    finite = jnp.isfinite(s.gap) & jnp.isfinite(rho)
    status = jnp.where(finite, ended, Status.INVALID).astype(jnp.int32)
    return OCSVMSolution(s.alpha, rho, kkt.free_set(s.alpha, C), s.bound, s.rounds, status)


def solve_large(access: KernelAccess, C: Float[Array, " n"], settings: Settings) -> OCSVMSolution:
    """Solves the dual of n points with upper bounds C (sum at least 1), as one traceable function.

    Args:
      access: gives products with K; called inside traced loops.
      C: (n,) upper bounds; zero where a point takes no part.
      settings: tolerance, working set (even, at most n) and bound on the rounds.

    Returns:
      The solution; `num_steps` is the number of rounds. If K is not finite, the status is INVALID.
    """
    state = begin(access, C)
    forever = jnp.int32(jnp.iinfo(jnp.int32).max)
    return finish(access, C, settings, advance(access, C, settings, state, forever))
