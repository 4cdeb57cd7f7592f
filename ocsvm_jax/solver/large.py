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

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt, working_set
from ocsvm_jax.solver.problem import common_value
from ocsvm_jax.solver.solution import OCSVMSolution, Status

# The restricted problem is solved this much further than the gap it starts with.
_INNER_ACCURACY = 0.05
# Rounds without progress, in the gap and in the objective, before the gradient is computed afresh.
_PATIENCE = 5
# Fresh gradients before a solve counts as stalled; each is computed because the updated one claims
# convergence or because rounding has eaten all progress.
_REFRESHES = 4
# Columns of a product, in working sets. A round moves few indices where the start was good; a fresh
# gradient takes as many columns as it can, since wider products are the faster ones.
_NARROW, _WIDE = 0.25, 4
# The start is made from the mean of so many columns.
_START_SAMPLE = 512
# So many points tell whether K lies around one number.
_SAMPLE = 64


class KernelAccess(NamedTuple):
    """All that the solver sees of K."""

    square: Callable[[Int[Array, " q"]], Float[Array, "q q"]]
    """K on a working set."""
    product: Callable[[Int[Array, " q"], Float[Array, " q"], Float[Array, ""]], Float[Array, " n"]]
    """(K - offset) v for all points, v given on the indices of a working set."""
    diagonal: Callable[[], Float[Array, " n"]]
    """k(x_i, x_i) of all points."""
    one_sign: bool = False
    """Whether no two entries of K - offset differ in sign, for any offset `begin` may choose."""


class Settings(NamedTuple):
    """What bounds a solve; the sizes are static."""

    tol: Float[Array, ""]  # of the KKT gap, in units of K; negative: -tol times the scale seen
    working_set: int
    max_rounds: Int[Array, ""] | int


class State(NamedTuple):
    """Where a solve stands; feasible at every moment."""

    alpha: Float[Array, " n"]
    g: Float[Array, " n"]  # (K - offset) alpha, once `added` has reached `num_support`
    offset: Float[Array, ""]
    root: Float[Array, " n"]  # the square root of |K_ii - offset|
    order: Int[Array, " n"]  # support vectors first, as of the last fresh gradient
    num_support: Int[Array, ""]  # how many they were
    added: Int[Array, ""]  # how many of them g holds
    gap: Float[Array, ""]
    best_gap: Float[Array, ""]  # since g was last computed from alpha
    rounding: Float[Array, ""]  # of g, relative to the size of what it is summed from
    bound: Float[Array, ""]  # the gap, with each g at the unfavourable end of its rounding
    seen: Float[Array, ""]  # the scale of K as the support sees it
    rounds: Int[Array, ""]
    fruitless: Int[Array, ""]  # consecutive rounds without progress
    refreshes: Int[Array, ""]
    closed: Bool[Array, ""]  # whether the closing round, exact on the free set, was run


def begin(access: KernelAccess, C: Float[Array, " n"], q: int) -> State:
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
    return _refresh(state)


def running(C: Float[Array, " n"], settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether `advance` has anything left to do."""
    converged = (s.bound <= _tolerance(settings, s)) & ~_closing(C, settings, s)
    ended = (s.rounds >= settings.max_rounds) | (s.refreshes > _REFRESHES)
    return _incomplete(s) | ~(converged | ended | ~jnp.isfinite(s.gap))


def advance(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State, turns: Int[Array, ""]
) -> State:
    """Up to `turns` turns."""

    def body(carry: tuple[State, Array]) -> tuple[State, Array]:
        s, left = carry
        claimed = _claimed(settings, s) & ~_closing(C, settings, s)
        doubtful = ~_incomplete(s) & (claimed | (s.fruitless >= _PATIENCE))
        s = lax.cond(doubtful, _refresh, lambda s: s, s)
        return _turn(access, C, settings, s), left - 1

    more = lambda carry: running(C, settings, carry[0]) & (carry[1] > 0)  # noqa: E731
    return lax.while_loop(more, body, (s, turns))[0]


def reached(settings: Settings, s: State) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The gap, and the tolerance it is held against."""
    return s.gap, _tolerance(settings, s)


def finish(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State
) -> OCSVMSolution:
    """The solution, and how it ended."""
    weights = kkt.rho_weights(s.alpha, s.g, C, _magnitude(access, s))
    rho = jnp.sum(weights * s.g) + s.offset * jnp.sum(s.alpha)
    unfinished = jnp.where(s.rounds < settings.max_rounds, Status.STALLED, Status.OUT_OF_STEPS)
    ended = jnp.where(s.bound <= _tolerance(settings, s), Status.CONVERGED, unfinished)
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
    state = begin(access, C, settings.working_set)
    forever = jnp.int32(jnp.iinfo(jnp.int32).max)
    return finish(access, C, settings, advance(access, C, settings, state, forever))


def _incomplete(s: State) -> Bool[Array, ""]:
    return s.added < s.num_support


def _tolerance(settings: Settings, s: State) -> Float[Array, ""]:
    return jnp.where(settings.tol < 0, -settings.tol * s.seen, settings.tol)


def _claimed(settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether the updated gradient leaves nothing to gain by further rounds."""
    tol = _tolerance(settings, s)
    return s.gap <= jnp.maximum(tol - (s.bound - s.gap), 0.5 * tol)


def _magnitude(access: KernelAccess, s: State) -> Float[Array, " n"]:
    """A bound on |K - offset| alpha, what each g is summed from.

    Without products of its own: where the terms have one sign it is |g|; else that of a positive
    semi-definite kernel, |K_ij|^2 <= K_ii K_jj.
    """
    if access.one_sign:
        return jnp.abs(s.g)
    return jnp.maximum(jnp.abs(s.g), s.root * jnp.sum(s.alpha * s.root))


def _measured(access: KernelAccess, C: Float[Array, " n"], s: State) -> State:
    """The state with its gap, its bound and its scale as of its alpha and g."""
    gap = kkt.violation(s.alpha, s.g, C)[2][0]
    bound = kkt.gap_bound(s.alpha, s.g, C, s.rounding * _magnitude(access, s))[0]
    seen = jnp.maximum(jnp.sum(s.alpha * s.root) ** 2, jnp.abs(jnp.sum(s.alpha * s.g)))
    return s._replace(gap=gap, bound=bound, seen=seen)


def _closing(C: Float[Array, " n"], settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether the closing round is due: it comes once, where the free set fits a working set."""
    num_free = jnp.sum(kkt.free_set(s.alpha, C), dtype=jnp.int32)
    fits = (num_free > 1) & (num_free <= settings.working_set)
    return _claimed(settings, s) & ~s.closed & fits


def _refresh(s: State) -> State:
    """Begins to compute the gradient from alpha, over its support vectors."""
    return s._replace(
        g=jnp.zeros_like(s.alpha),
        order=working_set.first_true(s.alpha > 0),
        num_support=jnp.sum(s.alpha > 0, dtype=jnp.int32),
        added=jnp.int32(0),
        refreshes=s.refreshes + 1,
    )


class _Move(NamedTuple):
    """What a turn adds to alpha, or takes of it into g."""

    indices: Int[Array, " width"]
    weight: Float[Array, " width"]
    used: Int[Array, ""]  # how many of them, the first ones, are to be added
    alpha: Float[Array, " width"]  # what alpha becomes there


def _turn(access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State) -> State:
    """One product: a share of a fresh gradient, or a round."""
    n, q = C.shape[0], settings.working_set
    widths = sorted({min(max(int(w * q), 1), n) for w in (_NARROW, 1, _WIDE)})
    fresh = _incomplete(s)
    move = lax.cond(
        fresh,
        lambda: _share(s, widths[-1]),
        lambda: _restricted_move(access, C, settings, s, widths[-1]),
    )
    # One more of the next width takes as long as this one.
    most = jnp.asarray([widths[0], *((_WIDE - 1) * w for w in widths[1:-1])], jnp.int32)
    branch = jnp.sum(most < move.used, dtype=jnp.int32) if len(widths) > 1 else jnp.int32(0)
    product = [
        lambda w=w: access.product(move.indices[:w], move.weight[:w], s.offset) for w in widths
    ]
    g = s.g + lax.switch(branch, product)
    return lax.cond(
        fresh,
        lambda: _share_added(access, C, s, g, jnp.asarray(widths, jnp.int32)[branch]),
        lambda: _judged(access, C, settings, s, move, g),
    )


def _share(s: State, width: int) -> _Move:
    """The next support vectors of a fresh gradient."""
    slot = s.added + jnp.arange(width, dtype=jnp.int32)
    index = s.order[jnp.minimum(slot, s.order.shape[0] - 1)]
    alpha = s.alpha[index]
    weight = jnp.where(slot < s.num_support, alpha, 0)
    return _Move(index, weight, s.num_support - s.added, alpha)


def _share_added(
    access: KernelAccess, C: Float[Array, " n"], s: State, g: Float[Array, " n"], width: Array
) -> State:
    # The rounding of a sum grows with the square root of its terms.
    terms = s.num_support.astype(C.dtype)
    rounding = 0.5 * jnp.finfo(C.dtype).eps * (1 + 0.125 * jnp.sqrt(terms))
    s = s._replace(g=g, added=s.added + width, rounding=rounding, fruitless=jnp.int32(0))
    s = _measured(access, C, s)
    return s._replace(best_gap=s.gap)


def _restricted_move(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State, width: int
) -> _Move:
    """The solution on a working set: the worst violators, at the end all free indices."""
    q = settings.working_set
    closing = _closing(C, settings, s)
    W = lax.cond(
        closing,
        lambda: working_set.closing(s.alpha, s.g, C, s.gap, q),
        lambda: working_set.violators(s.alpha, s.g, C, s.gap, q),
    )
    # A negative tolerance is the default of the dtype: as exact as can be.
    tol = jnp.maximum(_INNER_ACCURACY * s.gap, 0.25 * _tolerance(settings, s))
    tol = jnp.where(closing, -1, tol)
    K = access.square(W) - s.offset
    alpha = working_set.solve_restricted(K, s.alpha[W], s.g[W], C[W], tol)
    still = alpha == s.alpha[W]
    order = jnp.argsort(still, stable=True)
    slot = jnp.arange(width, dtype=jnp.int32)
    at = order[jnp.minimum(slot, q - 1)]
    index, count = W[at], jnp.sum(~still, dtype=jnp.int32)
    weight = jnp.where(slot < count, alpha[at] - s.alpha[index], 0)
    return _Move(index, weight, count, alpha[at])


def _judged(
    access: KernelAccess,
    C: Float[Array, " n"],
    settings: Settings,
    s: State,
    move: _Move,
    g: Float[Array, " n"],
) -> State:
    """The state after a round, whose gradient is g."""
    W, change, eps = move.indices, move.weight, jnp.finfo(C.dtype).eps
    closing = _closing(C, settings, s)
    rounding = s.rounding + _rounding_of(s, W, change)
    new = s._replace(alpha=s.alpha.at[W].set(move.alpha), g=g, rounding=rounding)
    new = _measured(access, C, new)
    # The decrease of the objective, in a form that does not cancel, against the rounding of g.
    # From its mean, since the change sums to zero but for rounding.
    level = jnp.sum(s.alpha * s.g)
    terms = 0.5 * change * ((s.g[W] - level) + (g[W] - level))
    noise = 4 * eps * jnp.sum(jnp.abs(change) * _magnitude(access, new)[W])
    progress = (new.gap < 0.9 * s.best_gap) | (-jnp.sum(terms) > noise)
    keep = ~closing | (new.gap <= s.gap)
    kept = jax.tree.map(lambda now, before: jnp.where(keep, now, before), new, s)
    return kept._replace(
        best_gap=jnp.minimum(new.gap, s.best_gap),
        rounds=s.rounds + 1,
        fruitless=jnp.where(progress, 0, s.fruitless + 1),
        closed=s.closed | closing,
    )


def _rounding_of(s: State, W: Int[Array, " q"], change: Float[Array, " q"]) -> Float[Array, ""]:
    """What the update of g for a change of alpha adds to its rounding.

    Errors of a product's terms add up in quadrature; they are relative to what all of alpha, whose
    roots sum to `whole`, contributes.
    """
    whole = jnp.sum(s.alpha * s.root)
    share = jnp.where(whole > 0, s.root[W] / jnp.where(whole > 0, whole, 1), 1)
    return jnp.finfo(change.dtype).eps * (2 * jnp.linalg.norm(share * change) + 0.5)
