"""Many points, no Gram matrix: working-set decomposition on the device.

Each round picks the few hundred indices that violate optimality most, solves the dual restricted to
them with the dense solver of dual.py, and updates the gradient of all points with one block of kernel
columns (Joachims 1999, with a working set of hundreds where LIBSVM's has two). Memory is
O(n * working set). The solver is handed a function that returns kernel columns and knows no kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import dual, kkt
from ocsvm_jax.solver.solution import OCSVMSolution, Status

KernelColumns = Callable[[Int[Array, " q"]], Float[Array, "n q"]]

# The restricted problem is solved this much further than the gap it starts with.
_INNER_ACCURACY = 0.05
# Fresh gradients computed when the updated one claims convergence, before a solve counts as stalled.
_REFRESHES = 4


class _State(NamedTuple):
    alpha: Float[Array, " n"]
    g: Float[Array, " n"]
    gap: Float[Array, ""]
    rounds: Int[Array, ""]
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
      The solution; its gap is that of a freshly computed gradient.
    """
    q = working_set
    offset, alpha = _start(columns, C, q)

    def shifted(index: Int[Array, " q"]) -> Float[Array, "n q"]:
        return columns(index) - offset

    g = _fresh_gradient(shifted, alpha, q)
    zero = jnp.int32(0)
    gap = kkt.violation(alpha, g, C)[2][0]
    state = _State(alpha, g, gap, zero, zero, jnp.bool_(True))

    def running(s: _State) -> Bool[Array, ""]:
        done = s.fresh & (s.gap <= tol)
        return ~done & (s.rounds < max_rounds) & (s.refreshes <= _REFRESHES)

    def body(s: _State) -> _State:
        return lax.cond(s.gap <= tol, refresh, lambda s: _round(shifted, C, tol, q, s), s)

    def refresh(s: _State) -> _State:
        g = _fresh_gradient(shifted, s.alpha, q)
        gap = kkt.violation(s.alpha, g, C)[2][0]
        return s._replace(g=g, gap=gap, refreshes=s.refreshes + 1, fresh=jnp.bool_(True))

    state = lax.while_loop(running, body, state)
    state = lax.cond(state.fresh, lambda s: s, refresh, state)
    rho = jnp.sum(kkt.rho_weights(state.alpha, state.g, C) * state.g) + offset
    status = jnp.where(
        state.gap <= tol,
        jnp.int32(Status.CONVERGED),
        jnp.where(
            state.rounds >= max_rounds, jnp.int32(Status.OUT_OF_STEPS), jnp.int32(Status.STALLED)
        ),
    )
    free = kkt.free_set(state.alpha, C)
    return OCSVMSolution(state.alpha, rho, free, state.gap, state.rounds, status)


def _start(
    columns: KernelColumns, C: Float[Array, " n"], q: int
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """The constant that is taken off K, and alpha filled from the points far from a sample of all."""
    n = C.shape[0]
    sample = jnp.linspace(0, n - 1, min(q, n)).astype(jnp.int32)
    block = columns(sample)
    closeness = jnp.mean(block, axis=1)
    order = jnp.argsort(closeness)
    ordered = C[order]
    alpha = jnp.clip(1 - (jnp.cumsum(ordered) - ordered), 0, ordered)
    # What rounding left over must not make a point free.
    slack = n * jnp.finfo(C.dtype).eps * jnp.max(C)
    alpha = jnp.where(alpha <= slack, 0, jnp.where(ordered - alpha <= slack, ordered, alpha))
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
    """The q/2 indices of lowest g that can grow, and of the others the q/2 of highest g that can shrink."""
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
    problem = dual.make_problem(
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
    return s._replace(alpha=alpha, g=g, gap=gap, rounds=s.rounds + 1, fresh=jnp.bool_(False))
