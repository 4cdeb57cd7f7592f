"""Many points, no Gram matrix: working-set decomposition on the device.

Each round picks the few hundred indices that violate optimality most, solves the dual restricted
to them with the dense solver of dual.py, and updates the gradient of all points with one product
of kernel columns (Joachims 1999, with a working set of hundreds where LIBSVM's has two). The
solver is handed that product and the square of a working set; it knows no kernel, and memory is
O(n + working_set^2).

The loop can be left and entered again: `begin`, then `advance` a number of turns at a time, until
`running` says no more, then `finish`. A turn is one product: a round, or a share of a gradient that
is computed from alpha. The host can report progress between the calls, and be interrupted there.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, working_set
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
from ocsvm_jax.solver.large_turn import turn
from ocsvm_jax.solver.problem import common_value
from ocsvm_jax.solver.solution import OCSVMSolution, Status

# Rounds without progress, in the gap and in the objective, before the gradient is computed afresh.
_PATIENCE = 5
# Fresh gradients before a solve counts as stalled; each is computed because the updated one claims
# convergence or because rounding has eaten all progress.
_REFRESHES = 4
# The start is made from the mean of so many columns.
_START_SAMPLE = 512
# So many points tell whether K lies around one number.
_SAMPLE = 64


def begin(access: KernelAccess, C: Float[Array, " n"]) -> State:
    """The state of a cold start: alpha filled from the points farthest from a sample of all."""
    n = C.shape[0]
    sample = jnp.linspace(0, n - 1, min(_START_SAMPLE, n)).astype(jnp.int32)
    even = jnp.full(sample.shape, 1 / sample.shape[0], C.dtype)
    closeness = access.product(sample, even, jnp.zeros((), C.dtype))
    return begin_at(access, working_set.fill(closeness, C))


def begin_at(access: KernelAccess, alpha: Float[Array, " n"]) -> State:
    """The state of a start from a feasible alpha."""
    n = alpha.shape[0]
    sample = jnp.linspace(0, n - 1, min(_SAMPLE, n)).astype(jnp.int32)
    some = access.square(sample)[None]
    value, common = common_value(some, jnp.ones((1, sample.shape[0]), bool), jnp.sum(some, axis=2))
    offset = jnp.where(common, value, 0)[0]
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
    """Whether `advance` has anything left to do."""
    converged = (s.bound <= tolerance(settings, s)) & ~closing_is_due(C, settings, s)
    ended = (s.rounds >= settings.max_rounds) | (s.refreshes > _REFRESHES)
    return incomplete(s) | ~(converged | ended | ~jnp.isfinite(s.gap))


def advance(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State, turns: Int[Array, ""]
) -> State:
    """Up to `turns` turns."""

    def body(carry: tuple[State, Array]) -> tuple[State, Array]:
        s, left = carry
        to_confirm = claimed(settings, s) & ~closing_is_due(C, settings, s)
        doubtful = ~incomplete(s) & (to_confirm | (s.fruitless >= _PATIENCE))
        s = lax.cond(doubtful, refreshed, lambda s: s, s)
        return turn(access, C, settings, s), left - 1

    more = lambda carry: running(C, settings, carry[0]) & (carry[1] > 0)  # noqa: E731
    return lax.while_loop(more, body, (s, turns))[0]


def reached(settings: Settings, s: State) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The gap, and the tolerance it is held against."""
    return s.gap, tolerance(settings, s)


def finish(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State
) -> OCSVMSolution:
    """The solution, and how it ended."""
    weights = kkt.rho_weights(s.alpha, s.g, C, magnitude(access, s))
    rho = jnp.sum(weights * s.g) + s.offset * jnp.sum(s.alpha)
    unfinished = jnp.where(s.rounds < settings.max_rounds, Status.STALLED, Status.OUT_OF_STEPS)
    ended = jnp.where(s.bound <= tolerance(settings, s), Status.CONVERGED, unfinished)
    finite = jnp.isfinite(s.gap) & jnp.isfinite(rho)
    status = jnp.where(finite, ended, Status.INVALID).astype(jnp.int32)
    return OCSVMSolution(s.alpha, rho, kkt.free_set(s.alpha, C), s.bound, s.rounds, status)


def solve_large(access: KernelAccess, C: Float[Array, " n"], settings: Settings) -> OCSVMSolution:
    """Solves the dual of n points with upper bounds C (sum at least 1), in one traceable piece.

    Args:
      access: to K; called inside traced loops.
      C: (n,) upper bounds; zero where a point takes no part.
      settings: tolerance, working set (even, at most n) and bound on the rounds.

    Returns:
      The solution, its `num_steps` the number of rounds. Where K is not finite, the status is
      INVALID.
    """
    state = begin(access, C)
    forever = jnp.int32(jnp.iinfo(jnp.int32).max)
    return finish(access, C, settings, advance(access, C, settings, state, forever))
