"""Detection metrics of many resamples at once.

The scores are sorted a single time, and a resample is the number of times each image was drawn,
that is, an integer sample weight.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_FPR = 0.3
# Numbers per temporary array of the bootstrap (2 MiB): resamples are taken as many at a time.
_CHUNK_SIZE = 2**18


class Ranking(NamedTuple):
    """Images by descending score; images with equal scores form one group.

    Attributes:
      order: indices of the images.
      anomalous: labels in this order, as 0.0 and 1.0.
      last: position in `order` of the last image of each group.
    """

    order: Int[np.ndarray, " n"]
    anomalous: Float[np.ndarray, " n"]
    last: Int[np.ndarray, " groups"]


def rank(anomalous: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> Ranking:
    """Sorts once what all resamples share."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    last = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    return Ranking(order, anomalous[order].astype(np.float64), last)


def resamples(
    anomalous: Bool[np.ndarray, " n"], num_resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "rows n"]]:
    """Yields how often each image was drawn, a few resamples at a time; both classes are there."""
    generator = np.random.default_rng(seed)
    n = anomalous.size
    rows = max(1, _CHUNK_SIZE // n)

    def draw() -> Int[np.ndarray, " n"]:
        while True:
            counts = np.bincount(generator.integers(n, size=n, dtype=np.uint32), minlength=n)
            if 0 < counts[anomalous].sum() < n:
                return counts

    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        # Sums of counts are exact in float64, and the divisions below need no conversion.
        yield np.stack([draw() for _ in range(size)]).astype(np.float64)


def weighted_metrics(
    ranking: Ranking, weights: Float[np.ndarray, "rows n"]
) -> Float[np.ndarray, "rows metrics"]:
    """The AUROC, AUPR and AUROC30 for each row of sample weights, as scikit-learn defines them.

    A threshold separates groups of equal scores, never their members, and the ROC curve is
    straight across a group: this is how ties enter.
    """
    weights = np.take(weights, ranking.order, axis=1)
    positives_so_far = np.take(np.cumsum(weights * ranking.anomalous, axis=1), ranking.last, axis=1)
    so_far = np.take(np.cumsum(weights, axis=1), ranking.last, axis=1)
    negatives_so_far = so_far - positives_so_far
    num_positives, num_negatives = positives_so_far[:, -1], negatives_so_far[:, -1]
    positives = np.diff(positives_so_far, axis=1, prepend=0.0)
    negatives = np.diff(negatives_so_far, axis=1, prepend=0.0)

    # `tiny` only replaces a total of 0, where there are no positives to count either.
    precision = positives_so_far / np.maximum(so_far, np.finfo(np.float64).tiny)
    average_precision = np.einsum("ij,ij->i", positives, precision) / num_positives

    slices = negatives * (positives_so_far - 0.5 * positives)
    area = slices.sum(axis=1)

    # Whole groups up to the limit, then the part of the one that the limit cuts.
    limit = MAX_FPR * num_negatives
    below = negatives_so_far <= limit[:, None]
    cut = np.arange(len(weights)), below.sum(axis=1)
    width = limit - (negatives_so_far[cut] - negatives[cut])
    height = positives_so_far[cut] - positives[cut] * (1.0 - 0.5 * width / negatives[cut])
    partial = np.einsum("ij,ij->i", slices, below) + width * height

    scale = num_positives * num_negatives
    chance = 0.5 * MAX_FPR**2
    standardised = 0.5 * (1.0 + (partial / scale - chance) / (MAX_FPR - chance))
    return np.stack([area / scale, average_precision, standardised], axis=1)
