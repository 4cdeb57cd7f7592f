"""The optimality conditions of the dual, from their definition, in NumPy float64.

With g = K alpha: some rho has g_i >= rho where alpha_i can grow and g_i <= rho where it can shrink.
"""

import numpy as np

from ocsvm_jax.solver import Status


def upper_bounds(n: int, nu: float, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """C_i = w_i / (nu * sum w)."""
    w = np.ones(n) if sample_weight is None else np.asarray(sample_weight, np.float64)
    return w / (float(nu) * np.sum(w))


def rho_interval(K: np.ndarray, alpha: np.ndarray, C: np.ndarray) -> tuple[float, float]:
    """[largest g where alpha can shrink, smallest g where it can grow]; an empty side is infinite.

    An alpha counts as at its upper bound up to the rounding of that bound in alpha's dtype.
    """
    g = K.astype(np.float64) @ alpha.astype(np.float64)
    at_upper = alpha >= C * (1 - 8 * float(np.finfo(alpha.dtype).eps))
    lower = np.max(g[alpha > 0], initial=-np.inf)
    upper = np.min(g[~at_upper], initial=np.inf)
    return float(lower), float(upper)


def gap(K: np.ndarray, alpha: np.ndarray, C: np.ndarray) -> float:
    """By how much the conditions are violated; zero or negative at a solution."""
    lower, upper = rho_interval(K, alpha, C)
    return 0.0 if np.isinf(upper) else lower - upper


def rounding(K: np.ndarray, dtype: np.dtype | type) -> float:
    """What rounding in `dtype` does to a gap: some units of eps * |K| in each g."""
    return 8 * float(np.finfo(dtype).eps) * float(np.max(np.abs(K)))


def assert_solves(K, nu, w, solution, *, tol: float | None = None) -> None:
    """Feasible, honest about its gap, and as optimal as its status says."""
    dtype = solution.alpha.dtype
    eps = float(np.finfo(dtype).eps)
    n = len(w)
    C = upper_bounds(n, nu, w)
    excess = abs(np.sum(solution.alpha, dtype=float) - 1)
    assert excess <= 4 * n * eps
    assert np.all(solution.alpha >= 0)
    assert np.all(solution.alpha <= C * (1 + 4 * n * eps))
    assert np.all(solution.alpha[w == 0] == 0)
    assert np.all((solution.alpha > 0)[solution.free])

    slack = rounding(K, dtype)
    true_gap = gap(K, solution.alpha, C)
    assert true_gap <= max(float(solution.gap), 0) + slack
    spread = float(np.max(np.abs(K - np.mean(K, dtype=float))))
    tol = (1e-10 if dtype == np.float64 else 1e-6) * spread if tol is None else tol
    if solution.status == Status.CONVERGED:
        assert true_gap <= tol + slack
    elif solution.status == Status.STALLED:
        # Only rounding may keep the iteration from its tolerance.
        assert true_gap <= 8 * n * slack
    lower, upper = sorted(rho_interval(K, solution.alpha, C))
    slack += excess * float(np.max(np.abs(K)))
    assert lower - slack <= solution.rho <= upper + slack
