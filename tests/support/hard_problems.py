"""Problems with entries of very different size, as people's data make them."""

import numpy as np


def points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Amounts, counts, measurements; some with rows far away, twice, or in few dimensions."""
    d = int(rng.integers(1, 9))
    match rng.integers(7):
        case 0:
            x = rng.normal(size=(n, d))
        case 1:
            x = np.exp(rng.uniform(0.5, 3) * rng.normal(size=(n, d)))
        case 2:
            x = rng.pareto(rng.uniform(0.8, 2), size=(n, d)) + 1
        case 3:
            x = rng.standard_cauchy(size=(n, d))
        case 4:
            x = rng.integers(0, 3, size=(n, d)).astype(float)
        case 5:
            x = 10 ** rng.uniform(0, 3) + rng.normal(size=(n, d))
        case _:
            x = rng.normal(size=(n, d)) * 10 ** rng.uniform(-2, 2, size=d)
    if rng.random() < 0.5:
        rows = rng.choice(n, int(rng.integers(1, 4)), replace=False)
        x[rows] *= 10 ** rng.uniform(1, 6)
    if rng.random() < 0.3:
        x[n // 2 :] = x[: n - n // 2]
    return x


def matrix(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, n) positive semi-definite, in float64."""
    x = points(rng, n)
    match rng.integers(6):
        case 0:
            K = x @ x.T
        case 1 | 2:
            degree, coef0 = int(rng.integers(2, 6)), float(rng.integers(2))
            gamma = 1 / (x.shape[1] * np.var(x)) if rng.random() < 0.3 else 1.0
            K = (gamma * (x @ x.T) + coef0) ** degree
        case 3 | 4:
            distances = np.sum((x[:, None] - x[None]) ** 2, axis=-1)
            typical = np.median(distances[distances > 0]) if np.any(distances > 0) else 1.0
            K = np.exp(-(10 ** rng.uniform(-7, 1)) / typical * distances)
        case _:
            rank = int(rng.integers(1, n + 1))
            A = rng.normal(size=(n, rank)) * 10 ** rng.uniform(-2, 2, size=(n, 1))
            K = A @ A.T
    with np.errstate(over="ignore"):
        return 0.5 * (K + K.T)


def weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """Even, random, mostly zero, or spread over decades."""
    match rng.integers(4):
        case 0:
            return np.ones(n)
        case 1:
            return rng.uniform(0.1, 3, n)
        case 2:
            w = (rng.random(n) < 0.6) * 1.0
            w[rng.integers(n)] = 1
            return w
        case _:
            return 10 ** rng.uniform(-6, 0, n)


def problem(rng: np.random.Generator, n: int, dtype: str) -> tuple[np.ndarray, float, np.ndarray]:
    """(K, nu, weights) in a dtype; K at a scale from 1e-30 to 1e30, where the dtype holds it."""
    while True:
        K = matrix(rng, n)
        largest = float(np.max(np.abs(K)))
        if not 0 < largest < 1e300:
            continue
        scale = 10 ** rng.uniform(-30, 30) if rng.random() < 0.5 else 1.0
        room = 1e36 if dtype == "float32" else 1e290
        K = K * min(scale, room / largest)
        nu = float(rng.choice([0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0]))
        return K.astype(dtype), nu, weights(rng, n)
