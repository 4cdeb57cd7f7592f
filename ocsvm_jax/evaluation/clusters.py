"""k-means and the silhouette, in NumPy: a few thousand points in a few dimensions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

_STARTS = 8
_MOST_STEPS = 300


class Clusters(NamedTuple):
    """A partition of points.

    Attributes:
      centres: (k, d) means of the clusters.
      label: (n,) cluster of each point, that of the nearest centre.
      inertia: sum of the squared distances to the centres.
    """

    centres: Float[np.ndarray, "k d"]
    label: Int[np.ndarray, " n"]
    inertia: float


def kmeans(points: Float[np.ndarray, "n d"], k: int, seed: int) -> Clusters:
    """Lloyd's algorithm from several starts by k-means++; the one of smallest inertia.

    Args:
      points: (n, d) with at least k distinct points.
      k: number of clusters, at least 1.
      seed: seed of the starts.
    """
    generator = np.random.default_rng(seed)
    runs = (_lloyd(points, _start(points, k, generator)) for _ in range(_STARTS))
    return min(runs, key=lambda run: run.inertia)


def silhouette(points: Float[np.ndarray, "n d"], label: Int[np.ndarray, " n"]) -> float:
    """The mean of (b - a) / max(a, b) over the points (Rousseeuw 1987).

    a is the mean distance to the other points of the own cluster, b the smallest mean distance to
    the points of another one. A point that is alone in its cluster counts 0. Takes O(n^2) memory.

    Args:
      points: (n, d).
      label: (n,) clusters, two or more different ones.
    """
    _, label = np.unique(label, return_inverse=True)
    member = np.eye(label.max() + 1)[label]
    sizes, rows = member.sum(0), np.arange(len(points))
    sums = np.sqrt(_squared_distances(points, points)) @ member
    a = sums[rows, label] / np.maximum(sizes[label] - 1, 1)
    means = sums / sizes
    means[rows, label] = np.inf
    b = means.min(1)
    largest = np.maximum(a, b)
    value = np.where(largest > 0, (b - a) / np.where(largest > 0, largest, 1.0), 0.0)
    return float(np.where(sizes[label] > 1, value, 0.0).mean())


def _start(
    points: Float[np.ndarray, "n d"], k: int, generator: np.random.Generator
) -> Float[np.ndarray, "k d"]:
    """Points drawn with probability proportional to the squared distance to those before."""
    chosen = [int(generator.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    for _ in range(k - 1):
        gaps = np.square(points - points[chosen[-1]]).sum(1)
        nearest = np.minimum(nearest, gaps)
        chosen.append(int(generator.choice(len(points), p=nearest / nearest.sum())))
    return points[chosen]


def _lloyd(points: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]) -> Clusters:
    label = np.full(len(points), -1)
    for _ in range(_MOST_STEPS):
        distances = _squared_distances(points, centres)
        before, label = label, distances.argmin(1)
        if np.array_equal(label, before):
            break
        sizes = np.bincount(label, minlength=len(centres))
        sums = np.eye(len(centres))[label].T @ points
        # A centre that has lost all of its points stays where it is.
        means = sums / np.maximum(sizes, 1)[:, None]
        centres = np.where(sizes[:, None] > 0, means, centres)
    distances = _squared_distances(points, centres)
    return Clusters(centres, distances.argmin(1), float(distances.min(1).sum()))


def _squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "n m"]:
    # One direction at a time: exact, and without an array of n m d numbers.
    return sum(np.square(x[:, i, None] - y[None, :, i]) for i in range(x.shape[1]))  # pyright: ignore[reportReturnType]
