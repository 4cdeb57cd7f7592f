"""The dual solved in extended precision, by a textbook active-set method, to judge hard problems.

NumPy's longdouble has 64 bits of mantissa on x86 (elsewhere it may be float64: see `EXTENDED`).
Nothing here is shared with the solver: each free set is solved by elimination with complete
pivoting of the whole bordered system, equilibrated, and an answer counts only once the optimality
conditions hold in that precision. The problem is convex, so the conditions are a proof, whatever
point the search began from.
"""

from typing import NamedTuple

import numpy as np

EXTENDED = np.finfo(np.longdouble).eps < 1e-18


class Exact(NamedTuple):
    alpha: np.ndarray  # longdouble
    rho: np.longdouble
    f: np.ndarray  # of the points themselves
    gap: float  # what is left of the violation, in units of K
    scale: float  # alpha' |K| alpha


def measure(K: np.ndarray, alpha: np.ndarray, C: np.ndarray) -> tuple[float, np.ndarray]:
    """(KKT gap, what each (K alpha)_i is summed from), in extended precision."""
    K, alpha = K.astype(np.longdouble), alpha.astype(np.longdouble)
    g, sizes = K @ alpha, np.abs(K) @ alpha
    grow, shrink = alpha < C, alpha > 0
    if not grow.any() or not shrink.any():
        return 0.0, sizes
    return float(np.max(g[shrink]) - np.min(g[grow])), sizes


def solve(K: np.ndarray, C: np.ndarray, start: np.ndarray, max_turns: int = 150) -> Exact | None:
    """The solution, or None where the search did not end; from any alpha near feasible.

    A turn: step to the solution of the free set, cut at the first bound, which is then left; where
    the free set is solved, the worst violator is let go.
    """
    K, C = K.astype(np.longdouble), C.astype(np.longdouble)
    K = (K + K.T) / 2
    alpha = np.clip(start.astype(np.longdouble), 0, C)
    eps = np.finfo(np.longdouble).eps
    for _ in range(max_turns):
        g, sizes = K @ alpha, np.abs(K) @ alpha
        free = (alpha > 0) & (alpha < C)
        step = _newton(K, g, np.flatnonzero(free), 1 - np.sum(alpha))
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(step > 0, C - alpha, alpha) / np.abs(step)
        room = np.where(step == 0, np.inf, room)
        blocked = np.min(room, initial=np.inf)
        t = min(blocked, 1)
        moved = np.clip(alpha + t * step, 0, C)
        hits = (room <= t) & (blocked <= 1)
        alpha = np.where(hits, np.where(step > 0, C, 0), moved)
        if np.any(hits):
            continue
        g, sizes = K @ alpha, np.abs(K) @ alpha
        free = (alpha > 0) & (alpha < C)
        noise = 64 * len(K) ** 0.5 * eps * sizes
        low, high = np.where(alpha < C, g, np.inf), np.where(alpha > 0, g, -np.inf)
        i, j = np.argmin(low), np.argmax(high)
        if high[j] - low[i] <= noise[i] + noise[j]:
            rho = _offset(g, sizes, alpha, C)
            scale = float(alpha @ sizes)
            return Exact(alpha, rho, g - rho, float(high[j] - low[i]), scale)
        # Two indices leave their bounds (or stay free) by the exact step of this pair.
        curvature = K[i, i] + K[j, j] - 2 * K[i, j]
        length = (high[j] - low[i]) / max(curvature, eps * (abs(K[i, i]) + abs(K[j, j])))
        length = min(length, C[i] - alpha[i], alpha[j])
        if length <= 0:
            return None
        alpha[i] = C[i] if length == C[i] - alpha[i] else alpha[i] + length
        alpha[j] = 0 if length == alpha[j] else alpha[j] - length
    return None


def _offset(g, sizes, alpha, C):
    """The g that the free indices share, or the middle of what the conditions leave."""
    free = (alpha > 0) & (alpha < C)
    if np.any(free):
        return g[free][np.argmin(sizes[free])]
    ends = [np.max(g[alpha > 0])]
    if np.any((alpha == 0) & (C > 0)):
        ends.append(np.min(g[(alpha == 0) & (C > 0)]))
    return np.sum(ends) / len(ends)


def only_rounding_is_free(alpha, C, dtype):
    """Whether the bounds, but for their own rounding, already make the sum.

    The rest of the sum, a few rounding units, then goes to any one point, however far, and that
    point alone sets rho.
    """
    left = float(np.sum(alpha[(alpha > 0) & (alpha < C)]))
    return 0 < left < 4 * len(alpha) * np.finfo(dtype).eps


def farthest_wrong(expected, C, f, sizes, counted):
    """How far from the boundary, relative to `sizes`, the farthest point on the wrong side lies.

    Where no alpha is free, every rho of an interval solves the dual, and signs differ at its ends
    only, for the points that lie there: the end counts that suits the decision values f better.
    """
    worst = []
    for f_end in _ends(expected, C):
        wrong = counted & ((f < 0) != (f_end < 0))
        worst.append(np.max(np.abs(f_end[wrong]) / np.maximum(sizes[wrong], 1e-300), initial=0))
    return float(min(worst))


def _ends(expected, C):
    """The decision values at each end of the interval of rho that solves the dual."""
    g, alpha = expected.f + expected.rho, expected.alpha
    if np.any((alpha > 0) & (alpha < C)):
        return [expected.f]
    lower, zero = np.max(g[alpha > 0]), (alpha == 0) & (C > 0)
    return [g - lower] + ([g - np.min(g[zero])] if np.any(zero) else [])


def _newton(K, g, F, missing):
    """The step on F to K alpha = rho there, with the sum corrected by `missing`; zero elsewhere."""
    step = np.zeros(len(K), np.longdouble)
    if len(F) == 0:
        return step
    p = F[np.argmin(np.abs(np.diag(K)[F]))]
    rest = F[p != F]
    step[p] = missing
    if len(rest) == 0:
        return step
    R = K[np.ix_(rest, rest)] - K[rest, p][:, None] - K[p, rest][None, :] + K[p, p]
    right = -(g[rest] - g[p]) - missing * (K[rest, p] - K[p, p])
    length = np.maximum(np.diag(R), np.finfo(np.longdouble).tiny) ** np.longdouble(-0.5)
    x = _eliminate(length[:, None] * R * length[None, :], length * right)
    step[rest] = length * x
    step[p] = missing - np.sum(step[rest])
    return step


def _eliminate(A, b):
    """A x = b of a positive semi-definite A with ones on its diagonal, by diagonal pivoting.

    What is left of a rank-deficient A once its pivots are rounding is not moved.
    """
    A, b = A.copy(), b.copy()
    n = len(b)
    order = np.arange(n)
    rank = n
    for k in range(n):
        m = k + int(np.argmax(np.diag(A)[k:]))
        if A[m, m] <= 1e3 * n * np.finfo(np.longdouble).eps:
            rank = k
            break
        if m != k:
            A[[k, m]] = A[[m, k]]
            A[:, [k, m]] = A[:, [m, k]]
            b[[k, m]] = b[[m, k]]
            order[[k, m]] = order[[m, k]]
        factor = A[k + 1 :, k] / A[k, k]
        A[k + 1 :, k:] -= factor[:, None] * A[k, k:][None, :]
        b[k + 1 :] -= factor * b[k]
    x = np.zeros(n, np.longdouble)
    for k in range(rank - 1, -1, -1):
        x[k] = (b[k] - A[k, k + 1 : rank] @ x[k + 1 : rank]) / A[k, k]
    out = np.zeros(n, np.longdouble)
    out[order] = x
    return out
