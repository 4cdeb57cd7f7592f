"""The forward iteration: many duals at once, exactly. It does not know it will be differentiated.

Each round runs sequential minimal optimisation (SMO, two variables a step, second-order choice of
the pair; Fan, Chen and Lin 2005) until the active set is nearly right, then one Newton step on the
free set, cut at the first bound it meets. SMO finds the active set in some ten steps but creeps
along it; the Newton step lands on the solution of the active set at once. Both only ever lower the
objective. Rounds repeat until the gap, from a freshly computed gradient, is within the tolerance.

The arrays of the iteration are (n, lanes), one problem a lane: a reduction over n then runs through
SIMD registers side by side, and what costs time (a Newton step) can be skipped when no lane needs
it, which `vmap` of a single solve could not do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import free_set, kkt
from ocsvm_jax.solver.solution import Status

# SMO hands over to Newton at this gap relative to the spread of K: most active sets are right then.
_HANDOVER = 3e-4
# Rounds without progress, in the gap and in the objective, before a lane is called stalled.
_PATIENCE = 3


class Problem(NamedTuple):
    """Minimise 1/2 alpha' K alpha + linear' alpha over sum(alpha) = total, 0 <= alpha <= C."""

    K: Float[Array, "lanes n n"]  # shifted by a constant, see `shift`
    linear: Float[Array, "n lanes"]
    C: Float[Array, "n lanes"]
    total: Float[Array, "1 lanes"]
    tol: Float[Array, "1 lanes"]
    diagonal: Float[Array, "n lanes"]
    spread: Float[Array, "1 lanes"]


class _Smo(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    i: Int[Array, "1 lanes"]  # the most violating index that can grow
    low: Float[Array, "1 lanes"]  # its g
    gap: Float[Array, "1 lanes"]
    steps: Int[Array, "1 lanes"]
    running: Bool[Array, "1 lanes"]


class _Round(NamedTuple):
    alpha: Float[Array, "n lanes"]
    g: Float[Array, "n lanes"]
    gap: Float[Array, "1 lanes"]
    objective: Float[Array, "1 lanes"]
    handover: Float[Array, "1 lanes"]
    steps: Int[Array, "1 lanes"]
    fruitless: Int[Array, "1 lanes"]  # consecutive rounds without progress
    running: Bool[Array, "1 lanes"]


class DualState(NamedTuple):
    """What the iteration reached, one row a problem."""

    alpha: Float[Array, "lanes n"]
    g: Float[Array, "lanes n"]
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


class LaneSolution(NamedTuple):
    """A solved dual, one row a problem."""

    alpha: Float[Array, "lanes n"]
    rho: Float[Array, " lanes"]
    gap: Float[Array, " lanes"]
    num_steps: Int[Array, " lanes"]
    status: Int[Array, " lanes"]


def meaningful(K: Float[Array, "n n"], part: Bool[Array, " n"]) -> Float[Array, "n n"]:
    """K with nothing in it that has no meaning for the dual.

    Only the symmetric part has one, and taking it makes the derivatives of every order symmetric.
    What stands beside points that take no part has none: the mean of the rest takes its place.
    """
    both = part[:, None] & part[None, :]
    K = jnp.where(both, 0.5 * (K + K.T), 0)
    count = jnp.maximum(jnp.sum(part, dtype=K.dtype), 1)
    return jnp.where(both, K, lax.stop_gradient(jnp.sum(K)) / count**2)


def shift(K: Float[Array, "*lanes n n"]) -> Float[Array, "*lanes n n"]:
    """K minus its mean, which moves rho by that mean and nothing else, since sum(alpha) = 1.

    Where all entries are close to one value (a small gamma) the subtraction is exact, and g keeps
    the digits that decide the active set, which rounding at the size of K would drown.
    """
    return K - jnp.mean(K, axis=(-2, -1), keepdims=True)


def solve_lanes(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    max_steps: int,
) -> LaneSolution:
    """Solves each lane's dual; `tol` bounds the gap in units of K, negative asks for the default.

    The default is 1e-10 (float64) or 1e-6 (float32) times the largest entry of the shifted K.
    Points with C = 0 take no part. A lane whose K is not finite ends as INVALID.
    """
    lanes, n = C.shape
    K = jax.vmap(meaningful)(K, C > 0)
    finite = jnp.isfinite(jnp.sum(jnp.abs(K), axis=(1, 2)))
    # On NaN the iteration would not end.
    K = jnp.where(finite[:, None, None], K, 0)
    linear, total = jnp.zeros((n, lanes), K.dtype), jnp.ones((1, lanes), K.dtype)
    problem = make_problem(shift(K), linear, C.T, total, tol[None, :])
    state = refine(problem, _fill(problem), max_steps)
    weights = kkt.rho_weights(state.alpha.T, state.g.T, problem.C)
    rho = jnp.sum(weights * state.g.T, axis=0) + jnp.mean(K, axis=(1, 2))
    status = jnp.where(finite, state.status, jnp.int32(Status.INVALID))
    return LaneSolution(state.alpha, rho, state.gap, state.num_steps, status)


def make_problem(
    K: Float[Array, "lanes n n"],
    linear: Float[Array, "n lanes"],
    C: Float[Array, "n lanes"],
    total: Float[Array, "1 lanes"],
    tol: Float[Array, "1 lanes"],
) -> Problem:
    """Adds what the iteration needs of K; a negative `tol` becomes the default of the dtype."""
    spread = jnp.max(jnp.abs(K), axis=(1, 2))[None, :]
    default = (1e-10 if K.dtype == jnp.float64 else 1e-6) * spread
    diagonal = jnp.diagonal(K, axis1=1, axis2=2).T
    return Problem(K, linear, C, total, jnp.where(tol < 0, default, tol), diagonal, spread)


def refine(problem: Problem, alpha: Float[Array, "n lanes"], max_steps: int) -> DualState:
    """Solves each lane from a feasible alpha."""
    state = _start(problem, alpha)
    state = lax.while_loop(
        lambda s: jnp.any(s.running), lambda s: _round(problem, s, max_steps), state
    )
    status = jnp.where(
        state.gap <= problem.tol,
        jnp.int32(Status.CONVERGED),
        jnp.where(
            state.steps >= max_steps, jnp.int32(Status.OUT_OF_STEPS), jnp.int32(Status.STALLED)
        ),
    )
    return DualState(state.alpha.T, state.g.T, state.gap[0], state.steps[0], status[0])


def _gradient(problem: Problem, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    product = jnp.einsum("bij,jb->ib", problem.K, alpha, precision=lax.Precision.HIGHEST)
    return product + problem.linear


def _objective(
    problem: Problem, alpha: Float[Array, "n lanes"], g: Float[Array, "n lanes"]
) -> Float[Array, "1 lanes"]:
    return 0.5 * jnp.sum(alpha * (g + problem.linear), axis=0, keepdims=True)


def _fill(problem: Problem) -> Float[Array, "n lanes"]:
    """Fills the box of the points that lie farthest from the mean of all, until the sum is 1.

    The fill needs, for each point, the sum of C over the points before it in that order; comparing
    all pairs gives it without a sort, which XLA runs slowly on a CPU.
    """
    K, C = problem.K, problem.C
    n = C.shape[0]
    closeness = jnp.mean(K, axis=1).T
    earlier = closeness[None, :, :] < closeness[:, None, :]
    tie = closeness[None, :, :] == closeness[:, None, :]
    lower_index = jnp.tril(jnp.ones((n, n), bool), -1)[:, :, None]
    before = jnp.sum(jnp.where(earlier | (tie & lower_index), C[None, :, :], 0), axis=1)
    alpha = jnp.minimum(jnp.maximum(1 - before, 0), C)
    # What rounding left over must not make a point free.
    slack = n * jnp.finfo(K.dtype).eps * problem.total
    partly = (alpha > 0) & (alpha < C)
    snapped = jnp.where(alpha <= slack, 0, jnp.where(C - alpha <= slack, C, alpha))
    return jnp.where(partly, snapped, alpha)


def _start(problem: Problem, alpha: Float[Array, "n lanes"]) -> _Round:
    C = problem.C
    g = _gradient(problem, alpha)
    index, _, gap = kkt.violation(alpha, g, C)
    # Zeros that vary over a mesh as the lanes do, which a loop under shard_map asks for.
    none = 0 * index
    return _Round(
        alpha=alpha,
        g=g,
        gap=gap,
        objective=_objective(problem, alpha, g),
        handover=jnp.maximum(_HANDOVER * problem.spread, problem.tol),
        steps=none,
        fruitless=none,
        running=none == 0,
    )


def _round(problem: Problem, state: _Round, max_steps: int) -> _Round:
    """SMO to the hand-over gap, a Newton step, and a fresh gradient to judge them by."""
    smo = _run_smo(problem, state, max_steps)
    alpha, g = _newton(problem, smo.alpha, state.running)
    _, _, gap = kkt.violation(alpha, g, problem.C)
    objective = _objective(problem, alpha, g)
    noise = 2 * jnp.finfo(g.dtype).eps * problem.spread
    progress = (gap < 0.9 * state.gap) | (objective < state.objective - noise)
    fruitless = jnp.where(progress, 0, state.fruitless + 1)
    keep = state.running
    better = keep & (progress | (gap <= state.gap))
    return _Round(
        alpha=jnp.where(better, alpha, state.alpha),
        g=jnp.where(better, g, state.g),
        gap=jnp.where(better, gap, state.gap),
        objective=jnp.where(better, objective, state.objective),
        handover=jnp.maximum(jnp.minimum(0.03 * state.handover, 0.1 * gap), problem.tol + noise),
        steps=smo.steps,
        fruitless=fruitless,
        running=keep & (gap > problem.tol) & (fruitless < _PATIENCE) & (smo.steps < max_steps),
    )


def _run_smo(problem: Problem, state: _Round, max_steps: int) -> _Smo:
    # A share of the steps each round, so that a slow tail is handed to Newton again and again.
    limit = jnp.minimum(state.steps + 4 * problem.C.shape[0] + 100, max_steps)

    def running(gap: Array, steps: Array) -> Array:
        return state.running & (gap > state.handover) & (steps < limit)

    i, low, gap = kkt.violation(state.alpha, state.g, problem.C)
    smo = _Smo(state.alpha, state.g, i, low, gap, state.steps, running(gap, state.steps))

    def body(s: _Smo) -> _Smo:
        s, moved = _smo_step(problem, s)
        return s._replace(running=s.running & moved & running(s.gap, s.steps))

    return lax.while_loop(lambda s: jnp.any(s.running), body, smo)


def _smo_step(problem: Problem, s: _Smo) -> tuple[_Smo, Bool[Array, "1 lanes"]]:
    """Moves weight from j to i, the pair with the largest guaranteed decrease, up to a bound."""
    C, alpha, g = problem.C, s.alpha, s.g
    lanes = jnp.arange(C.shape[1])
    rows = jnp.broadcast_to(jnp.arange(C.shape[0], dtype=jnp.int32)[:, None], C.shape)
    K_i = problem.K[lanes, s.i[0]].T
    is_i = rows == s.i
    tiny = jnp.finfo(g.dtype).tiny
    floor = jnp.maximum(jnp.finfo(g.dtype).eps * problem.spread, tiny)
    diagonal_i = jnp.sum(jnp.where(is_i, problem.diagonal, 0), axis=0, keepdims=True)
    curvature = jnp.maximum(problem.diagonal + diagonal_i - 2 * K_i, floor)
    excess = g - s.low
    newton = excess / curvature
    gain = jnp.where((alpha > 0) & (excess > 0), excess * newton, -1)
    is_j = rows == kkt.first_where_equal(gain, jnp.max(gain, axis=0, keepdims=True))
    K_j = problem.K[lanes, jnp.sum(jnp.where(is_j, rows, 0), axis=0)].T

    pick = lambda values, at: jnp.sum(jnp.where(at, values, 0), axis=0, keepdims=True)  # noqa: E731
    alpha_i, alpha_j = pick(alpha, is_i), pick(alpha, is_j)
    room = pick(C, is_i) - alpha_i
    step = jnp.minimum(pick(newton, is_j), jnp.minimum(room, alpha_j))
    step = jnp.where(s.running, step, 0)
    moved = (alpha_i + step != alpha_i) | (alpha_j - step != alpha_j)
    # Whoever arrives at a bound is set to it exactly; see kkt.py.
    grown = jnp.where(step >= room, C, alpha + step)
    shrunk = jnp.where(step >= alpha_j, 0, alpha - step)
    alpha = jnp.where(is_i & s.running, grown, jnp.where(is_j & s.running, shrunk, alpha))
    g = g + step * (K_i - K_j)
    i, low, gap = kkt.violation(alpha, g, C)
    steps = s.steps + s.running.astype(jnp.int32)
    return s._replace(alpha=alpha, g=g, i=i, low=low, gap=gap, steps=steps), moved


def _newton(
    problem: Problem, alpha: Float[Array, "n lanes"], running: Bool[Array, "1 lanes"]
) -> tuple[Float[Array, "n lanes"], Float[Array, "n lanes"]]:
    """One Newton step on the free set, cut at the first bound, kept only where it does not harm."""
    K, C = problem.K, problem.C
    n = C.shape[0]
    g = _gradient(problem, alpha)
    free = kkt.free_set(alpha, C) & running

    def direction(size: int):
        def solve() -> Array:
            systems = free_set.reduced_systems(K, free.T, size)
            return jax.vmap(free_set.solve_reduced)(systems, -g.T).T

        return solve

    sizes = free_set.gathered_sizes(n)
    branch = free_set.size_branch(n, free.T)
    p = lax.switch(branch, [direction(size) for size in sizes])
    moved = _step_to_bound(alpha, p, C)
    # The sum is restored on the free set: rounding must not accumulate over rounds.
    free = kkt.free_set(moved, C)
    count = jnp.maximum(jnp.sum(free, axis=0, keepdims=True).astype(g.dtype), 1)
    off = (problem.total - jnp.sum(moved, axis=0, keepdims=True)) / count
    moved = jnp.where(free, jnp.clip(moved + off, 0, C), moved)
    g_moved = _gradient(problem, moved)
    # The difference of the objectives, in a form that does not cancel.
    change = 0.5 * jnp.sum((moved - alpha) * (g + g_moved), axis=0, keepdims=True)
    slack = 4 * jnp.finfo(g.dtype).eps * problem.spread
    accept = running & (change <= slack) & jnp.all(jnp.isfinite(moved), axis=0, keepdims=True)
    return jnp.where(accept, moved, alpha), jnp.where(accept, g_moved, g)


def _step_to_bound(
    alpha: Float[Array, "n lanes"], p: Float[Array, "n lanes"], C: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """alpha + t p, t <= 1 the largest that stays in the box; what meets its bound is set to it."""
    distance = jnp.where(p > 0, C - alpha, jnp.where(p < 0, alpha, jnp.inf))
    t_bound = distance / jnp.where(p == 0, 1, jnp.abs(p))
    t = jnp.minimum(jnp.min(t_bound, axis=0, keepdims=True), 1)
    bound = jnp.where(p > 0, C, 0)
    return jnp.where(t_bound <= t, bound, jnp.clip(alpha + t * p, 0, C))
