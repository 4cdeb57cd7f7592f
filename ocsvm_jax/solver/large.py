"""Many points, no Gram matrix: working-set decomposition on the device.

Each round picks the few hundred indices that violate optimality most, solves the dual restricted
to them with the dense solver of dual.py, and updates the gradient of all points with one block of
kernel columns (Joachims 1999, with a working set of hundreds where LIBSVM's has two). Memory is
O(n * working set). The solver is handed a function that returns kernel columns and knows no kernel.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import dual, kkt
from ocsvm_jax.solver.problem import make_problem
from ocsvm_jax.solver.solution import OCSVMSolution, Status

KernelColumns = Callable[[Int[Array, " q"]], Float[Array, "n q"]]

# The restricted problem is solved this much further than the gap it starts with.
_INNER_ACCURACY = 0.05
# Rounds without progress, in the gap and in the objective, before the gradient is computed afresh.
_PATIENCE = 5
# Fresh gradients before a solve counts as stalled; each is computed because the updated one claims
# convergence or because rounding has eaten all progress.
_REFRESHES = 4


class _State(NamedTuple):
    alpha: Float[Array, " n"]
    g: Float[Array, " n"]
    gap: Float[Array, ""]
    best_gap: Float[Array, ""]  # since g was last computed from alpha
    rounds: Int[Array, ""]
    fruitless: Int[Array, ""]  # consecutive rounds without progress
    refreshes: Int[Array, ""]
    fresh: Bool[Array, ""]  # whether g was computed from alpha, not updated


def solve_large(
    columns: KernelColumns,
    C: Float[Array, " n"],
    *,
    tol: Float[Array, ""],
    working_set: int,
    max_rounds: int,
) -> OCSVMSolution:
    """Solves the dual of n points with upper bounds C (sum at least 1) to a gap of `tol`.

    Args:
      columns: maps q indices to the (n, q) kernel columns; called inside traced loops.
      C: (n,) upper bounds; zero where a point takes no part.
      tol: bound on the KKT gap, in units of K.
      working_set: indices per round, even; at most n.
      max_rounds: bound on the rounds, counted in `num_steps`.

    Returns:
      The solution; its gap is that of a freshly computed gradient. Where K is not finite, the
      status is INVALID.
    """
    q = working_set
    offset, alpha = _start(columns, C, q)

    def shifted(index: Int[Array, " q"]) -> Float[Array, "n q"]:
        return columns(index) - offset

    g = _fresh_gradient(shifted, alpha, q)
    gap = kkt.violation(alpha, g, C)[2][0]
    zero = jnp.int32(0)
    state = _State(alpha, g, gap, gap, zero, zero, zero, jnp.bool_(True))

    def running(s: _State) -> Bool[Array, ""]:
        done = (s.fresh & (s.gap <= tol)) | ~jnp.isfinite(s.gap)
        return ~done & (s.rounds < max_rounds) & (s.refreshes <= _REFRESHES)

    def body(s: _State) -> _State:
        doubtful = (s.gap <= tol) | (s.fruitless >= _PATIENCE)
        return lax.cond(doubtful, refresh, lambda s: _round(shifted, C, tol, q, s), s)

    def refresh(s: _State) -> _State:
        g = _fresh_gradient(shifted, s.alpha, q)
        gap = kkt.violation(s.alpha, g, C)[2][0]
        return s._replace(
            g=g,
            gap=gap,
            best_gap=gap,
            fruitless=jnp.int32(0),
            refreshes=s.refreshes + 1,
            fresh=jnp.bool_(True),
        )

    state = lax.while_loop(running, body, state)
    state = lax.cond(state.fresh, lambda s: s, refresh, state)
    rho = jnp.sum(kkt.rho_weights(state.alpha, state.g, C) * state.g) + offset
    free = kkt.free_set(state.alpha, C)
    status = _status(state, rho, tol, max_rounds)
    return OCSVMSolution(state.alpha, rho, free, state.gap, state.rounds, status)


def _status(
    s: _State, rho: Float[Array, ""], tol: Float[Array, ""], max_rounds: int
) -> Int[Array, ""]:
    unfinished = jnp.where(s.rounds < max_rounds, Status.STALLED, Status.OUT_OF_STEPS)
    ended = jnp.where(s.gap <= tol, Status.CONVERGED, unfinished)
    finite = jnp.isfinite(s.gap) & jnp.isfinite(rho)
    return jnp.where(finite, ended, Status.INVALID).astype(jnp.int32)


def _start(
    columns: KernelColumns, C: Float[Array, " n"], q: int
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """The constant taken off K, and alpha filled from the points farthest from a sample of all."""
    n = C.shape[0]
    sample = jnp.linspace(0, n - 1, min(q, n)).astype(jnp.int32)
    block = columns(sample)
    order = jnp.argsort(jnp.mean(block, axis=1))
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
    return jnp.mean(block), jnp.zeros_like(C).at[order].set(alpha)


def _fresh_gradient(
    columns: KernelColumns, alpha: Float[Array, " n"], q: int
) -> Float[Array, " n"]:
    """K alpha, over the support vectors alone, q of them at a time."""
    n = alpha.shape[0]
    order = jnp.argsort(alpha == 0, stable=True).astype(jnp.int32)
    blocks = (jnp.sum(alpha > 0, dtype=jnp.int32) + q - 1) // q

    def add(k: Array, g: Float[Array, " n"]) -> Float[Array, " n"]:
        slot = k * q + jnp.arange(q, dtype=jnp.int32)
        index = order[jnp.minimum(slot, n - 1)]
        weight = jnp.where(slot < n, alpha[index], 0)
        return g + _product(columns(index), weight)

    return lax.fori_loop(0, blocks, add, jnp.zeros_like(alpha))


def _product(K: Float[Array, "n q"], v: Float[Array, " q"]) -> Float[Array, " n"]:
    return jnp.matmul(K, v, precision=lax.Precision.HIGHEST)


def _working_set(
    alpha: Float[Array, " n"], g: Float[Array, " n"], C: Float[Array, " n"], q: int
) -> Int[Array, " q"]:
    """The q/2 indices of lowest g that can grow; of the rest, q/2 of highest g that can shrink."""
    _, grow = lax.top_k(jnp.where(alpha < C, -g, -jnp.inf), q // 2)
    taken = jnp.zeros(alpha.shape, bool).at[grow].set(True)
    worth = jnp.where((alpha > 0) & ~taken, g, -jnp.inf)
    # An index already taken would be counted twice; one that can not move is harmless.
    _, shrink = lax.top_k(
        jnp.where(taken, -jnp.inf, jnp.maximum(worth, -jnp.finfo(g.dtype).max)), q // 2
    )
    return jnp.concatenate([grow, shrink]).astype(jnp.int32)


def _round(
    columns: KernelColumns, C: Float[Array, " n"], tol: Float[Array, ""], q: int, s: _State
) -> _State:
    W = _working_set(s.alpha, s.g, C, q)
    K_W = columns(W)
    K_WW, alpha_W = K_W[W], s.alpha[W]
    linear = s.g[W] - _product(K_WW, alpha_W)
    inner_tol = jnp.maximum(_INNER_ACCURACY * s.gap, 0.5 * tol)
    column = lambda v: v[:, None]  # noqa: E731
    problem = make_problem(
        K_WW[None],
        column(linear),
        column(C[W]),
        jnp.sum(alpha_W).reshape(1, 1),
        inner_tol.reshape(1, 1),
    )
    solved = dual.refine(problem, column(alpha_W), max_steps=20 * q)
    moved = solved.alpha[0]
    alpha = s.alpha.at[W].set(moved)
    g = s.g + _product(K_W, moved - alpha_W)
    gap = kkt.violation(alpha, g, C)[2][0]
    # The decrease of the objective, in a form that does not cancel, against the rounding of g.
    change = moved - alpha_W
    decrease = -0.5 * jnp.sum(change * (s.g[W] + g[W]))
    noise = 4 * jnp.finfo(g.dtype).eps * jnp.max(jnp.abs(K_WW)) * jnp.sum(jnp.abs(change))
    progress = (gap < 0.9 * s.best_gap) | (decrease > noise)
    return _State(
        alpha=alpha,
        g=g,
        gap=gap,
        best_gap=jnp.minimum(gap, s.best_gap),
        rounds=s.rounds + 1,
        fruitless=jnp.where(progress, 0, s.fruitless + 1),
        refreshes=s.refreshes,
        fresh=jnp.bool_(False),
    )
