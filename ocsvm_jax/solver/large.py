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

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import dual, kkt
from ocsvm_jax.solver.problem import conditioned, in_units, make_problem
from ocsvm_jax.solver.solution import OCSVMSolution, Status

# The restricted problem is solved this much further than the gap it starts with.
_INNER_ACCURACY = 0.05
# Rounds without progress, in the gap and in the objective, before the gradient is computed afresh.
_PATIENCE = 5
# Fresh gradients before a solve counts as stalled; each is computed because the updated one claims
# convergence or because rounding has eaten all progress.
_REFRESHES = 4
# A fresh gradient takes this many working sets a turn, while there are so many support vectors
# left: wider products are the faster ones.
_WIDE = 4
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
    sample = jnp.linspace(0, n - 1, min(q, n)).astype(jnp.int32)
    even = jnp.full(sample.shape, 1 / sample.shape[0], C.dtype)
    return begin_at(access, _fill(access.product(sample, even, jnp.zeros((), C.dtype)), C))


def begin_at(access: KernelAccess, alpha: Float[Array, " n"]) -> State:
    """The state of a start from a feasible alpha."""
    n = alpha.shape[0]
    sample = jnp.linspace(0, n - 1, min(_SAMPLE, n)).astype(jnp.int32)
    some = conditioned(access.square(sample)[None], jnp.ones((1, sample.shape[0]), bool))
    offset = some.unit[0] * some.shift[0]
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
        doubtful = claimed | (s.fruitless >= _PATIENCE)
        # 0: a share of the fresh gradient; 1: begin one; 2: a round.
        branch = jnp.where(_incomplete(s), 0, jnp.where(doubtful, 1, 2))
        turn = [
            lambda s: _add_share(access, C, settings.working_set, s),
            _refresh,
            lambda s: _round(access, C, settings, s),
        ]
        return lax.switch(branch, turn, s), left - 1

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


def _fill(closeness: Float[Array, " n"], C: Float[Array, " n"]) -> Float[Array, " n"]:
    """Fills the boxes of the points least close, until the sum is 1."""
    n = C.shape[0]
    order = jnp.argsort(closeness)
    ordered = C[order]
    # Rounding of a sum that ends near 1, added up in a tree. A point it alone keeps from its bound
    # is put there: one that is free sets rho.
    rounding = 4 * (1 + math.log2(n)) * jnp.finfo(C.dtype).eps
    whole = (jnp.cumsum(ordered) <= 1 + rounding) | (jnp.sum(ordered) <= 1 + rounding)
    place = jnp.arange(n, dtype=jnp.int32)
    last = jnp.min(jnp.where(whole, jnp.int32(n), place))
    rest = 1 - jnp.sum(jnp.where(place < last, ordered, 0))
    rest = jnp.where(rest <= rounding, 0, rest)
    alpha = jnp.where(
        place < last, ordered, jnp.where(place == last, jnp.minimum(rest, ordered), 0)
    )
    return jnp.zeros_like(C).at[order].set(alpha)


def _refresh(s: State) -> State:
    """Begins to compute the gradient from alpha, over its support vectors."""
    return s._replace(
        g=jnp.zeros_like(s.alpha),
        order=jnp.argsort(s.alpha == 0, stable=True).astype(jnp.int32),
        num_support=jnp.sum(s.alpha > 0, dtype=jnp.int32),
        added=jnp.int32(0),
        refreshes=s.refreshes + 1,
    )


def _add_share(access: KernelAccess, C: Float[Array, " n"], q: int, s: State) -> State:
    n = C.shape[0]

    def add(width: int, s: State) -> State:
        slot = s.added + jnp.arange(width, dtype=jnp.int32)
        index = s.order[jnp.minimum(slot, n - 1)]
        weight = jnp.where(slot < s.num_support, s.alpha[index], 0)
        return s._replace(g=s.g + access.product(index, weight, s.offset), added=s.added + width)

    narrow, wide = min(q, n), min(_WIDE * q, n)
    # A wide product takes as long as so many narrow ones.
    much = s.num_support - s.added > (_WIDE - 1) * narrow
    s = lax.cond(much, partial(add, wide), partial(add, narrow), s)
    # The rounding of a sum grows with the square root of its terms.
    terms = s.num_support.astype(C.dtype)
    rounding = 0.5 * jnp.finfo(C.dtype).eps * (1 + 0.125 * jnp.sqrt(terms))
    s = _measured(access, C, s._replace(rounding=rounding, fruitless=jnp.int32(0)))
    return s._replace(best_gap=s.gap)


def _working_set(
    alpha: Float[Array, " n"], g: Float[Array, " n"], C: Float[Array, " n"], q: int
) -> Int[Array, " q"]:
    """The q/2 indices of lowest g that can grow; of the rest, q/2 of highest g that can shrink."""
    _, grow = lax.top_k(jnp.where(alpha < C, -g, -jnp.inf), q // 2)
    taken = jnp.zeros(alpha.shape, bool).at[grow].set(True)
    worth = jnp.where((alpha > 0) & ~taken, g, -jnp.inf)
    # An index already taken would be counted twice; one that cannot move is harmless.
    _, shrink = lax.top_k(
        jnp.where(taken, -jnp.inf, jnp.maximum(worth, -jnp.finfo(g.dtype).max)), q // 2
    )
    return jnp.concatenate([grow, shrink]).astype(jnp.int32)


def _closing_set(
    alpha: Float[Array, " n"], g: Float[Array, " n"], C: Float[Array, " n"], q: int
) -> Int[Array, " q"]:
    """The free indices, at most q, then those whose g lies farthest on the wrong side of rho."""
    free = kkt.free_set(alpha, C)
    rho = jnp.sum(kkt.rho_weights(alpha, g, C, jnp.ones_like(g)) * g)
    wrong = jnp.where(alpha < C, rho - g, g - rho)
    _, W = lax.top_k(jnp.where(free, jnp.inf, jnp.where(C > 0, wrong, -jnp.inf)), q)
    return W.astype(jnp.int32)


def _round(access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State) -> State:
    """Solves the dual on a working set: the worst violators, at the end all free indices."""
    q, eps = settings.working_set, jnp.finfo(C.dtype).eps
    closing = _closing(C, settings, s)
    choices = (_closing_set(s.alpha, s.g, C, q), _working_set(s.alpha, s.g, C, q))
    W = jnp.where(closing, *choices)
    # A negative tolerance is the default of the dtype: as exact as can be.
    tol = jnp.maximum(_INNER_ACCURACY * s.gap, 0.25 * _tolerance(settings, s))
    tol = jnp.where(closing, -1, tol)
    moved = _solve_restricted(access, W, s.alpha[W], s.g[W], C[W], s.offset, tol)
    change = moved - s.alpha[W]
    alpha = s.alpha.at[W].set(moved)
    g = s.g + access.product(W, change, s.offset)
    new = s._replace(alpha=alpha, g=g, rounding=s.rounding + _rounding_of(s, W, change))
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


def _solve_restricted(
    access: KernelAccess,
    W: Int[Array, " q"],
    alpha: Float[Array, " q"],
    g: Float[Array, " q"],
    C: Float[Array, " q"],
    offset: Float[Array, ""],
    tol: Float[Array, ""],
) -> Float[Array, " q"]:
    """The dual over W with all else held, from alpha."""
    K = access.square(W) - offset
    # In units that neither over- nor underflow.
    K, _, inverse = in_units(K[None])
    tol = jnp.where(tol < 0, tol, tol * inverse[0])
    linear = g * inverse[0] - jnp.matmul(K[0], alpha, precision=lax.Precision.HIGHEST)
    column = lambda v: v[:, None]  # noqa: E731
    total = jnp.sum(alpha).reshape(1, 1)
    problem = make_problem(K, column(linear), column(C), total, tol.reshape(1, 1), 0 * total)
    return dual.refine(problem, column(alpha), max_steps=20 * W.shape[0]).alpha[0]
