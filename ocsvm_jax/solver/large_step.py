"""One step of the solver for many points: one product with columns of K."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ocsvm_jax.solver import working_set
from ocsvm_jax.solver.large_state import (
    KernelAccess,
    Settings,
    State,
    closing_is_due,
    incomplete,
    magnitude,
    measured,
    tolerance,
)

# The restricted problem is solved down to this fraction of the gap it starts with.
_INNER_ACCURACY = 0.05
# Number of columns of a product, in working sets. After a good start a round moves few indices; a
# fresh gradient takes as many columns as possible, since wide products are faster.
_NARROW, _WIDE = 0.25, 4


class _Move(NamedTuple):
    """The columns whose weighted sum a step adds to g."""

    indices: Int[Array, " width"]
    weight: Float[Array, " width"]
    used: Int[Array, ""]  # number of leading columns to add
    alpha: Float[Array, " width"]  # new alpha at the indices


def step(access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State) -> State:
    """One product: a part of a fresh gradient, or a round.

    Args:
      access: gives products with K.
      C: (n,) upper bounds on alpha.
      settings: tolerance, working set and bound on the rounds.
      s: the state before.
    """
    n, q = C.shape[0], settings.working_set
    widths = sorted({min(max(int(w * q), 1), n) for w in (_NARROW, 1, _WIDE)})
    fresh = incomplete(s)
    move = lax.cond(
        fresh,
        lambda: _share(s, widths[-1]),
        lambda: _restricted_move(access, C, settings, s, widths[-1]),
    )
    # Above these numbers of columns, the next width is as fast as several products of this one.
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
    """The next support vectors to add to a fresh gradient."""
    slot = s.added + jnp.arange(width, dtype=jnp.int32)
    index = s.order[jnp.minimum(slot, s.order.shape[0] - 1)]
    alpha = s.alpha[index]
    weight = jnp.where(slot < s.num_support, alpha, 0)
    return _Move(index, weight, s.num_support - s.added, alpha)


def _share_added(
    access: KernelAccess, C: Float[Array, " n"], s: State, g: Float[Array, " n"], width: Array
) -> State:
    # The rounding error of a sum grows with the square root of the number of its terms.
    terms = s.num_support.astype(C.dtype)
    rounding = 0.5 * jnp.finfo(C.dtype).eps * (1 + 0.125 * jnp.sqrt(terms))
    s = s._replace(g=g, added=s.added + width, rounding=rounding, fruitless=jnp.int32(0))
    s = measured(access, C, s)
    return s._replace(best_gap=s.gap)


def _restricted_move(
    access: KernelAccess, C: Float[Array, " n"], settings: Settings, s: State, width: int
) -> _Move:
    """The solution on a working set: the worst violators, or in the closing round all free ones."""
    q = settings.working_set
    closing = closing_is_due(C, settings, s)
    W = lax.cond(
        closing,
        lambda: working_set.closing(s.alpha, s.g, C, s.gap, q),
        lambda: working_set.violators(s.alpha, s.g, C, s.gap, q),
    )
    # A negative tolerance asks for the default of the dtype, as exact as possible.
    tol = jnp.maximum(_INNER_ACCURACY * s.gap, 0.25 * tolerance(settings, s))
    tol = jnp.where(closing, -1, tol)
    K = access.square(W) - s.offset
    alpha = working_set.solve_restricted(K, s.alpha[W], s.g[W], C[W], tol, access.one_sign)
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
    """The state after a round with the new gradient g, or the old alpha if closing did harm."""
    W, change, eps = move.indices, move.weight, jnp.finfo(C.dtype).eps
    closing = closing_is_due(C, settings, s)
    rounding = s.rounding + _rounding_of(s, W, change)
    new = s._replace(alpha=s.alpha.at[W].set(move.alpha), g=g, rounding=rounding)
    new = measured(access, C, new)
    # The change of the objective in a form that does not cancel, to compare with the rounding of g.
    # The mean of g is subtracted, which is exact since the change of alpha sums to zero.
    level = jnp.sum(s.alpha * s.g)
    terms = 0.5 * change * ((s.g[W] - level) + (g[W] - level))
    noise = 4 * eps * jnp.sum(jnp.abs(change) * magnitude(access, new)[W])
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
    """The rounding error that the update of g for a change of alpha adds.

    The errors of the terms of a product add up in quadrature. They are relative to the
    contribution of all of alpha, whose terms sum to `whole`.
    """
    whole = jnp.sum(s.alpha * s.root)
    share = jnp.where(whole > 0, s.root[W] / jnp.where(whole > 0, whole, 1), 1)
    return jnp.finfo(change.dtype).eps * (2 * jnp.linalg.norm(share * change) + 0.5)
