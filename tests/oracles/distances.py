"""Distances of all pairs by differences of NumPy's longest numbers, and points that are hard.

Every set of `POINTS` holds points that are far from others, or near each other and far from those.
"""

from collections.abc import Callable

import numpy as np

Points = Callable[[np.random.Generator, int, int], np.ndarray]


def squared(x: np.ndarray, y: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    return np.sum(_differences(x, y, scale) ** 2, axis=-1)


def absolute(x: np.ndarray, y: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    return np.sum(np.abs(_differences(x, y, scale)), axis=-1)


def _differences(x: np.ndarray, y: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    x, y, scale = (np.asarray(a, np.longdouble) for a in (x, y, scale))
    return (x[:, None, :] - y[None, :, :]) / scale


def _ordinary(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return rng.normal(size=(n, d))


def _with_rows(*values: float) -> Points:
    """The first rows are those numbers."""

    def points(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
        x = _ordinary(rng, n, d)
        x[: len(values)] = np.array(values)[:, None]
        return x

    return points


def _clusters(distance: float, spread: float, count: int) -> Points:
    """No centre is near all of them."""

    def points(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
        centres = distance * rng.normal(size=(count, d))
        return centres[np.arange(n) % count] + spread * _ordinary(rng, n, d)

    return points


def _far_in_one_dimension(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = _ordinary(rng, n, d)
    x[:: n // 5, 0] = -999_999
    return x


def _near_pairs_far_away(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = _ordinary(rng, n, d)
    x[1::3] = 1e6 + rng.normal(size=(len(x[1::3]), 1))
    x[2::3] = x[1::3][: len(x[2::3])] * (1 + 1e-6 * rng.random((len(x[2::3]), d)))
    return x


def _duplicates(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    x = 1000 + _ordinary(rng, n, d)
    return x[np.arange(n) % (n // 3)]


POINTS: dict[str, Points] = {
    "ordinary": _ordinary,
    "an offset": lambda rng, n, d: 1e6 + rng.uniform(-1, 1, (n, d)),
    "one row of 1e5": _with_rows(1e5),
    "a code for missing values": _with_rows(-999_999, -999_999, -999_999),
    "rows of 1e9, -1e12, 1e4": _with_rows(1e9, -1e12, 1e4),
    "far in one dimension": _far_in_one_dimension,
    "two clusters": _clusters(1e5, 1.0, 2),
    "five narrow clusters": _clusters(1e3, 1e-3, 5),
    "near pairs far away": _near_pairs_far_away,
    "duplicates": _duplicates,
    "tiny": lambda rng, n, d: 1e-15 * rng.normal(size=(n, d)),
    "squares that underflow": lambda rng, n, d: 1e-22 * rng.normal(size=(n, d)),
    "squares that overflow": lambda rng, n, d: 10.0 ** rng.uniform(15, 25, (n, d)),
    "amounts": lambda rng, n, d: np.exp(4 * rng.normal(size=(n, d))),
}
