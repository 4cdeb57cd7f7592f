"""Rules that choose nu and gamma, or score rows, without labels; see benchmarks/choice.py.

A rule takes a `Case` and returns the index (gamma, nu) of a cell in its grid; an ensemble returns a
score for every test row, lower for more anomalous. Neither sees any labels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ocsvm_jax.path import finest_gamma

Cell = tuple[int, int]
TINY = 1e-37  # below it, densities in float32 are 0


class Case(NamedTuple):
    """One table, one split: what LIBSVM says at every cell of a grid.

    Expansions are sum(alpha k) at sum(alpha) = 1; "unseen" ones are of the model of the other
    folds, whose offset stands beside. `artificial` holds them for the points of each kind.
    """

    x: np.ndarray  # (n, d) training rows
    squares: np.ndarray  # (n, n) their squared distances
    nus: np.ndarray  # (p,)
    gammas: np.ndarray  # (g,)
    unseen: np.ndarray  # (g, p, n)
    unseen_rho: np.ndarray  # (g, p, n)
    of_fold: np.ndarray  # (g, p, folds, n) all training rows under each fold's model
    train: np.ndarray  # (g, p, n)
    rho: np.ndarray  # (g, p)
    test: np.ndarray  # (g, p, m)
    artificial: dict[str, np.ndarray]  # (g, p, a)
    artificial_rho: dict[str, np.ndarray]
    half_unseen: np.ndarray  # (g, n) at nu = 0.5, which the grid need not hold
    half_unseen_rho: np.ndarray
    coarsest: float  # the share rejected there by a kernel coarser than those of the grid


def least(criterion: np.ndarray) -> Cell:
    """The cell of the least value; NaN is the largest."""
    g, p = np.unravel_index(np.argmin(np.nan_to_num(criterion, nan=np.inf)), criterion.shape)
    return int(g), int(p)


def nearest(case: Case, gamma: float, nu: float = 0.5) -> Cell:
    """The cell nearest on logarithmic scales."""
    g = np.argmin(np.abs(np.log(case.gammas / gamma)))
    return int(g), int(np.argmin(np.abs(np.log(case.nus / nu))))


def per_cell(case: Case, value: Callable[[int, int], float]) -> np.ndarray:
    """The value of each cell."""
    shape = case.rho.shape
    return np.asarray([[value(g, p) for p in range(shape[1])] for g in range(shape[0])])


def uniform_error(kind: str, case: Case) -> Cell:
    """Least rejected + accepted artificial points (`uniform_outlier_error`)."""
    rejected = np.mean(case.unseen < case.unseen_rho, axis=-1)
    accepted = np.mean(case.artificial[kind] >= case.artificial_rho[kind], axis=-1)
    return least(rejected + accepted)


def mass_volume(kind: str, mass: float, case: Case) -> Cell:
    """Least area under the mass-volume curve from a mass on (`mass_volume_area`)."""

    def area(g: int, p: int) -> float:
        f = np.sort(case.unseen[g, p])
        levels = f[: len(f) - int(np.ceil(mass * len(f))) + 1]
        below = np.searchsorted(np.sort(case.artificial[kind][g, p]), levels)
        return float(np.mean(1 - below / case.artificial[kind].shape[-1]))

    return least(per_cell(case, area))


def excess_mass(kind: str, case: Case) -> Cell:
    """Largest area under the excess-mass curve (Goix 2016), t to 100 / the volume of all."""
    t = np.linspace(0, 100, 200)[:, None]

    def area(g: int, p: int) -> float:
        f = np.sort(case.unseen[g, p])
        mass = 1 - np.arange(len(f)) / len(f)
        below = np.searchsorted(np.sort(case.artificial[kind][g, p]), f)
        volume = 1 - below / case.artificial[kind].shape[-1]
        return -float(np.mean(np.maximum(np.max(mass - t * volume, axis=1), 0)))

    return least(per_cell(case, area))


def log_densities(case: Case) -> np.ndarray:
    """Of the unseen points; at sum(alpha) = 1 the expansion is a density but for a constant."""
    constant = case.x.shape[1] / 2 * np.log(case.gammas / np.pi)
    return np.log(np.maximum(case.unseen, TINY)) + constant[:, None, None]


def likelihood(statistic: Callable[..., np.ndarray], case: Case) -> Cell:
    """Largest likelihood of the unseen points (Habbema 1974; Duin 1976)."""
    return least(-statistic(log_densities(case), axis=-1))


def trimmed_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Without the lowest tenth."""
    return np.mean(np.sort(values, axis=axis)[..., values.shape[-1] // 10 :], axis=axis)


def rejection(excess: float, half: bool, case: Case) -> Cell:
    """The gamma at which the rejection of unseen points exceeds nu; of 0.5, or of the nu chosen."""
    p = nearest(case, 1.0)[1]
    if half:
        share, nu = np.mean(case.half_unseen < case.half_unseen_rho, axis=-1), 0.5
    else:
        share, nu = np.mean(case.unseen[:, p] < case.unseen_rho[:, p], axis=-1), case.nus[p]
    return nearest(case, finest_gamma(case.gammas, share, nu + excess)[0])


def kept(keep: float, case: Case) -> Cell:
    """As `choose_model`, whose folds are others: they hold equal rows together."""
    share = np.mean(case.half_unseen < case.half_unseen_rho, axis=-1)
    limit = 1 - keep * (1 - max(case.coarsest, 0.5))
    return nearest(case, finest_gamma(case.gammas, share, limit)[0])


def deviations(count: float, half: bool, case: Case) -> Cell:
    """The same, with the excess in binomial standard deviations."""
    nu = 0.5 if half else case.nus[nearest(case, 1.0)[1]]
    return rejection(count * np.sqrt(nu * (1 - nu) / len(case.x)), half, case)


def smallest_nu(excess: float, case: Case) -> Cell:
    """The finest kernel with held-out rejection near nu, at the smallest nu."""
    share = np.mean(case.unseen[:, 0] < case.unseen_rho[:, 0], axis=-1)
    return nearest(case, finest_gamma(case.gammas, share, case.nus[0] + excess)[0], case.nus[0])


def off_diagonal(case: Case) -> np.ndarray:
    """Squared distances of all pairs."""
    return case.squares[np.triu_indices(len(case.x), 1)]


def by_kernel(value: Callable[[np.ndarray], float], case: Case) -> Cell:
    """The gamma that makes a statistic of the off-diagonal kernel values largest; nu near 0.5."""
    pairs = off_diagonal(case)
    best = np.argmax([value(np.exp(-gamma * pairs)) for gamma in case.gammas])
    return nearest(case, case.gammas[best])


def farthest_and_nearest(case: Case) -> Cell:
    """DFN of Xiao, Wang and Xu (2014)."""
    near = np.min(np.where(np.eye(len(case.x)), np.inf, case.squares), axis=1)
    far = np.max(case.squares, axis=1)
    gain = [np.mean(np.exp(-g * near)) - np.mean(np.exp(-g * far)) for g in case.gammas]
    return nearest(case, case.gammas[np.argmax(gain)])


def khazai(case: Case) -> Cell:
    """Khazai et al. (2011): the largest distance and the share of outliers, here 5%."""
    count = len(case.x) * 0.95 + 1
    return nearest(case, np.log(count) / np.max(off_diagonal(case)))


def median_distance(factor: float, case: Case) -> Cell:
    """A factor over the median squared distance of all pairs; nu near 0.5."""
    return nearest(case, factor / np.median(off_diagonal(case)))


def neighbour_distance(k: float, factor: float, case: Case) -> Cell:
    """A factor over the median squared distance to the k-th other point, k a number or a share."""
    n = len(case.x)
    k = min(n - 1, int(k) if k >= 1 else max(1, round(k * (n - 1))))
    to_k = np.sort(np.where(np.eye(n), np.inf, case.squares), axis=1)[:, k - 1]
    middle = np.median(to_k) or np.min(to_k[to_k > 0], initial=np.inf)
    return nearest(case, factor / middle)


def fixed(nu: float, factor: float, case: Case) -> Cell:
    """The cell nearest to a constant; "scale" of standardised columns is 1 / d."""
    return nearest(case, factor / case.x.shape[1], nu)


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks in each cell, (cells, m)."""
    return np.asarray(rankdata(values.reshape(-1, values.shape[-1]), axis=1))


def stability(case: Case) -> Cell:
    """Largest mean rank correlation of the models of the folds over all training rows."""

    def correlation(g: int, p: int) -> float:
        together = np.corrcoef(ranks(case.of_fold[g, p]))
        return -float(np.mean(together[np.triu_indices(len(together), 1)]))

    return least(per_cell(case, correlation))


def consensus(of: str, case: Case) -> Cell:
    """The cell whose ranks of the training rows correlate most with the mean rank of all cells."""
    unseen = case.unseen - case.unseen_rho
    values = ranks(unseen if of == "unseen" else case.train - case.rho[..., None])
    mean = np.mean(values, axis=0)
    correlations = [-np.corrcoef(row, mean)[0, 1] for row in values]
    return least(np.asarray(correlations).reshape(case.rho.shape))


def decisions(case: Case) -> np.ndarray:
    """Decision values of the test rows."""
    return case.test - case.rho[..., None]


def p_values(case: Case) -> np.ndarray:
    """Of the test rows among the unseen ones, (cells, m)."""
    unseen = np.sort(case.unseen - case.unseen_rho, axis=-1).reshape(-1, len(case.x))
    tests = decisions(case).reshape(len(unseen), -1)
    found = [np.searchsorted(u, t, side="right") for u, t in zip(unseen, tests, strict=True)]
    return (1 + np.asarray(found)) / (unseen.shape[1] + 1)


def at_half(score: Callable[[Case], np.ndarray], case: Case) -> np.ndarray:
    """An ensemble over gamma alone, at the nu nearest to 0.5."""
    p = nearest(case, 1.0)[1]
    names = ("unseen", "unseen_rho", "rho", "test")
    return score(case._replace(**{name: getattr(case, name)[:, p : p + 1] for name in names}))


def mean_log(case: Case) -> np.ndarray:
    """Mean log expansion."""
    return np.mean(np.log(np.maximum(case.test, TINY)), axis=(0, 1))


def mean_standard(case: Case) -> np.ndarray:
    """Mean decision value in units of the unseen ones' spread."""
    unseen = case.unseen - case.unseen_rho
    middle, spread = np.median(unseen, axis=-1)[..., None], np.std(unseen, axis=-1)[..., None]
    return np.mean((decisions(case) - middle) / spread, axis=(0, 1))


def _single() -> dict[str, Callable[[Case], Cell]]:
    """All rules that choose a cell."""
    rules: dict[str, Any] = {}
    names = {
        "ball": "ball",
        "box": "box",
        "axes": "box of principal axes",
        "shuffled": "shuffled columns",
        "jitter": "jittered points",
    }
    for kind, name in names.items():
        rules[f"rejected + accepted, {name}"] = partial(uniform_error, kind)
        for mass in (0.9, 0.5, 0.0):
            rules[f"mass-volume from {mass}, {name}"] = partial(mass_volume, kind, mass)
        rules[f"excess mass, {name}"] = partial(excess_mass, kind)
    statistics = {"mean": np.mean, "median": np.median, "trimmed mean": trimmed_mean}
    for name, statistic in statistics.items():
        rules[f"likelihood, {name}"] = partial(likelihood, statistic)
    for keep in (0.7, 0.8, 0.9):
        rules[f"{keep} of the unseen points inside the coarsest kept"] = partial(kept, keep)
    for excess in (0.05, 0.08, 0.1, 0.12, 0.15, 0.2):
        rules[f"held-out rejection {excess} above .5"] = partial(rejection, excess, True)
    for count in (1, 2, 3):
        rules[f"held-out rejection {count} sd above .5"] = partial(deviations, count, True)
    rules["held-out rejection 0.1 above nu"] = partial(rejection, 0.1, False)
    rules["held-out rejection 3 sd above nu"] = partial(deviations, 3, False)
    for excess in (0.02, 0.05, 0.1):
        rules[f"held-out rejection {excess} above the least nu"] = partial(smallest_nu, excess)
    rules["kernel variance"] = partial(by_kernel, np.var)
    rules["kernel variance / mean (Evangelista 2007)"] = partial(
        by_kernel, lambda k: float(np.var(k) / (np.mean(k) + 1e-9))
    )
    rules["farthest and nearest (Xiao 2014)"] = farthest_and_nearest
    rules["largest distance (Khazai 2011)"] = khazai
    rules["stability over folds"] = stability
    for of in ("unseen", "training"):
        rules[f"consensus with the mean rank, {of} rows"] = partial(consensus, of)
    for factor in (0.5, 1, 2, 4, 8):
        rules[f"{factor} / median squared distance"] = partial(median_distance, factor)
    for k, factor in ((1, 1), (3, 0.5), (5, 0.5), (5, 1), (10, 1), (20, 1)):
        rules[f"{factor} / squared distance to {k}th neighbour"] = partial(
            neighbour_distance, k, factor
        )
    for k in (0.1, 0.2, 0.3):
        rules[f"1 / squared distance to the nearest {k:.0%}"] = partial(neighbour_distance, k, 1)
    for nu in (0.1, 0.3, 0.5, 0.8):
        for factor in (1, 3, 10):
            rules[f"nu {nu}, {factor} x scale"] = partial(fixed, nu, factor)
    return rules


def _ensembles() -> dict[str, Callable[[Case], np.ndarray]]:
    """All that score without a choice."""
    scores: dict[str, Callable[[Case], np.ndarray]] = {
        "mean rank": lambda case: np.mean(ranks(decisions(case)), axis=0),
        "median rank": lambda case: np.median(ranks(decisions(case)), axis=0),
        "least rank": lambda case: np.min(ranks(decisions(case)), axis=0),
        "mean p-value": lambda case: np.mean(p_values(case), axis=0),
        "mean log p-value (Fisher)": lambda case: np.mean(np.log(p_values(case)), axis=0),
        "least p-value": lambda case: np.min(p_values(case), axis=0),
        "mean log expansion": mean_log,
        "mean standardised": mean_standard,
    }
    return {f"ensemble of all: {name}": score for name, score in scores.items()} | {
        f"ensemble at nu .5: {name}": partial(at_half, score) for name, score in scores.items()
    }


RULES = _single()
ENSEMBLES = _ensembles()
