"""Detection metrics of many resamples at once.

The scores are sorted once; a resample is the number of times that each image was drawn, that is, an
integer sample weight.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

MAX_FPR = 0.3
# Entries per array of counts (8 MiB): so many resamples are drawn at a time, for all scores.
_CHUNK_SIZE = 2**20
# Entries per temporary array: few enough for the cache, enough to keep NumPy's overhead small.
_BLOCK_SIZE = 2**14


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
    """The order of the images, which all resamples share."""
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    last = np.flatnonzero(np.r_[descending[1:] != descending[:-1], True])
    return Ranking(order, anomalous[order].astype(np.float64), last)


def resamples(
    anomalous: Bool[np.ndarray, " n"],
    num_resamples: int,
    seed: int,
    clusters: Int[np.ndarray, " n"] | None = None,
) -> Iterator[Float[np.ndarray, "rows n"]]:
    """Yields how often each image was drawn, a few resamples at a time; each has both classes.

    Images of one cluster, numbered from 0 without gaps, are drawn together: as many clusters as
    there are. Without `clusters` each image is drawn alone.
    """
    generator = np.random.default_rng(seed)
    n = anomalous.size
    units = n if clusters is None else int(clusters.max()) + 1
    rows = max(1, _CHUNK_SIZE // n)

    def draw() -> Int[np.ndarray, " n"]:
        while True:
            drawn = generator.integers(units, size=units, dtype=np.uint32)
            counts = np.bincount(drawn, minlength=units)
            counts = counts if clusters is None else counts[clusters]
            if 0 < counts[anomalous].sum() < counts.sum():
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
    n, rows = ranking.order.size, len(weights)
    size = min(rows, max(1, _BLOCK_SIZE // n))
    # Each block writes over the arrays of the one before: fresh memory costs more than the sums.
    of_images = np.empty((3, size, n))
    of_groups = np.empty((5, size, ranking.last.size))
    metrics = np.empty((rows, 3))
    for start in range(0, rows, max(1, size)):
        block = weights[start : start + size]
        scratch = of_images[:, : len(block)], of_groups[:, : len(block)]
        metrics[start : start + size] = _block_metrics(ranking, block, *scratch)
    return metrics


def _block_metrics(
    ranking: Ranking,
    weights: Float[np.ndarray, "rows n"],
    of_images: Float[np.ndarray, "3 rows n"],
    of_groups: Float[np.ndarray, "5 rows groups"],
) -> Float[np.ndarray, "rows metrics"]:
    """`weighted_metrics` of one block, with room for every temporary array."""
    sorted_weights, sorted_positives, sums = of_images
    positives_so_far, so_far, negatives_so_far, positives, negatives = of_groups
    # With an `out`, any mode but "clip" has NumPy fill a new array first.
    np.take(weights, ranking.order, axis=1, out=sorted_weights, mode="clip")
    np.multiply(sorted_weights, ranking.anomalous, out=sorted_positives)
    for values, out in ((sorted_positives, positives_so_far), (sorted_weights, so_far)):
        np.cumsum(values, axis=1, out=sums)
        np.take(sums, ranking.last, axis=1, out=out, mode="clip")
    np.subtract(so_far, positives_so_far, out=negatives_so_far)
    num_positives, num_negatives = positives_so_far[:, -1], negatives_so_far[:, -1]
    for values, out in ((positives_so_far, positives), (negatives_so_far, negatives)):
        out[:, 0] = values[:, 0]
        np.subtract(values[:, 1:], values[:, :-1], out=out[:, 1:])

    # `tiny` only replaces a total of 0, where there are no positives to count either.
    np.maximum(so_far, np.finfo(np.float64).tiny, out=so_far)
    precision = np.divide(positives_so_far, so_far, out=so_far)
    average_precision = np.einsum("ij,ij->i", positives, precision) / num_positives

    half = np.multiply(positives, 0.5, out=positives)
    slices = np.subtract(positives_so_far, half, out=so_far)
    slices *= negatives
    area = slices.sum(axis=1)

    # Whole groups up to the limit, then the part of the one that the limit cuts.
    limit = MAX_FPR * num_negatives
    below = negatives_so_far <= limit[:, None]
    cut = np.arange(len(weights)), below.sum(axis=1)
    width = limit - (negatives_so_far[cut] - negatives[cut])
    height = positives_so_far[cut] - half[cut] * (2.0 - width / negatives[cut])
    partial = np.einsum("ij,ij->i", slices, below) + width * height

    scale = num_positives * num_negatives
    chance = 0.5 * MAX_FPR**2
    standardised = 0.5 * (1.0 + (partial / scale - chance) / (MAX_FPR - chance))
    return np.stack([area / scale, average_precision, standardised], axis=1)
