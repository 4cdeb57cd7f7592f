"""The state of the solver for many points, and its access to K."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import kkt


class KernelAccess(NamedTuple):
    """Functions through which the solver sees K."""

    square: Callable[[Int[Array, " q"]], Float[Array, "q q"]]
    """K on a working set."""
    product: Callable[[Int[Array, " q"], Float[Array, " q"], Float[Array, ""]], Float[Array, " n"]]
    """(K - offset) v at all points, for a v given on the indices of a working set."""
    diagonal: Callable[[], Float[Array, " n"]]
    """k(x_i, x_i) for all points."""
    one_sign: bool = False
    """Whether no two entries of K - offset differ in sign, for any offset `begin` may choose."""


class Settings(NamedTuple):
    """Tolerance and limits of a solve; the size of the working set is static."""

    tol: Float[Array, ""]  # for the KKT gap, in units of K; if negative, -tol times the scale seen
    working_set: int
    max_rounds: Int[Array, ""] | int


class State(NamedTuple):
    """State of a solve; alpha is always feasible."""

    alpha: Float[Array, " n"]
    g: Float[Array, " n"]  # (K - offset) alpha, once `added` has reached `num_support`
    offset: Float[Array, ""]
    root: Float[Array, " n"]  # square root of |K_ii - offset|
    order: Int[Array, " n"]  # support vectors first, as of the last fresh gradient
    num_support: Int[Array, ""]  # number of support vectors then
    added: Int[Array, ""]  # number of them that g contains so far
    gap: Float[Array, ""]
    best_gap: Float[Array, ""]  # smallest since g was last computed from alpha
    rounding: Float[Array, ""]  # error of g, relative to the size of the terms it is summed from
    bound: Float[Array, ""]  # upper bound on the gap, rounding included
    seen: Float[Array, ""]  # scale of K as the support sees it
    rounds: Int[Array, ""]
    fruitless: Int[Array, ""]  # consecutive rounds without progress
    refreshes: Int[Array, ""]
    closed: Bool[Array, ""]  # whether the closing round, exact on the free set, has been run


def incomplete(s: State) -> Bool[Array, ""]:
    """Whether g still lacks support vectors."""
    return s.added < s.num_support


def tolerance(settings: Settings, s: State) -> Float[Array, ""]:
    """The tolerance that the gap is compared with, in units of K."""
    return jnp.where(settings.tol < 0, -settings.tol * s.seen, settings.tol)


def claimed(settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether, by the updated gradient, further rounds would gain nothing."""
    tol = tolerance(settings, s)
    return s.gap <= jnp.maximum(tol - (s.bound - s.gap), 0.5 * tol)


def magnitude(access: KernelAccess, s: State) -> Float[Array, " n"]:
    """An upper bound on |K - offset| alpha, the size of the terms that each g is summed from.

    It takes no further products. If all terms have one sign the size is |g|; otherwise the bound
    is that for a positive semi-definite kernel, |K_ij|^2 <= K_ii K_jj.
    """
    if access.one_sign:
        return jnp.abs(s.g)
    return jnp.maximum(jnp.abs(s.g), s.root * jnp.sum(s.alpha * s.root))


def measured(access: KernelAccess, C: Float[Array, " n"], s: State) -> State:
    """The state with gap, bound and scale recomputed from its alpha and g.

    Args:
      access: gives products with K.
      C: (n,) upper bounds on alpha.
      s: the state.
    """
    gap = kkt.violation(s.alpha, s.g, C)[2][0]
    bound = kkt.gap_bound(s.alpha, s.g, C, s.rounding * magnitude(access, s))[0]
    seen = jnp.maximum(jnp.sum(s.alpha * s.root) ** 2, jnp.abs(jnp.sum(s.alpha * s.g)))
    return s._replace(gap=gap, bound=bound, seen=seen)


def closing_is_due(C: Float[Array, " n"], settings: Settings, s: State) -> Bool[Array, ""]:
    """Whether the closing round is due: it is run once, if the free set fits a working set.

    Args:
      C: (n,) upper bounds on alpha.
      settings: tolerance, working set and bound on the rounds.
      s: the current state.
    """
    num_free = jnp.sum(kkt.free_set(s.alpha, C), dtype=jnp.int32)
    fits = (num_free > 1) & (num_free <= settings.working_set)
    return claimed(settings, s) & ~s.closed & fits


def refreshed(s: State) -> State:
    """The state at the start of recomputing the gradient from the support vectors of alpha."""
    return s._replace(
        g=jnp.zeros_like(s.alpha),
        order=kkt.first_true(s.alpha > 0),
        num_support=jnp.sum(s.alpha > 0, dtype=jnp.int32),
        added=jnp.int32(0),
        refreshes=s.refreshes + 1,
    )
