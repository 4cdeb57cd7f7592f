"""Ranks of scores among those of the training rows, by which several models can be averaged."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def rank(
    scores: Float[np.ndarray, " n"], reference: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Share of the reference that a score exceeds, in (0, 1), interpolated.

    The i-th of m distinct reference scores has i / (m + 1). Beyond the ends the rank goes on to 0
    and 1 without reaching them, by the distance in units of the interquartile range: all rows that
    are more anomalous than the whole training set would share one rank otherwise.

    Args:
      scores: (n,) of any rows.
      reference: (m,) of the training rows, in rising order.
    """
    values, counts = np.unique(reference, return_counts=True)
    # Equal scores share the middle of their places.
    places = (np.cumsum(counts) - (counts - 1) / 2) / (len(reference) + 1)
    inside = np.interp(scores, values, places)
    unit = np.subtract(*np.percentile(reference, (75, 25)))
    unit = unit if unit > 0 else max(abs(values[-1]), abs(values[0]), np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        above = np.maximum(scores - values[-1], 0) / unit
        below = np.maximum(values[0] - scores, 0) / unit
    inside = inside + (1 - places[-1]) * _saturated(above) - places[0] * _saturated(below)
    return np.where(np.isnan(scores), np.nan, inside)


def _saturated(distance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """From 0 to 1 as the distance goes from 0 to infinity."""
    return 1 - 1 / (1 + distance)


def mean_rank(
    scores: Sequence[Float[np.ndarray, " n"]], references: Sequence[Float[np.ndarray, " m"]]
) -> Float[np.ndarray, " n"]:
    """The mean over models of `rank`, with one array of scores and one reference per model."""
    return np.mean([rank(s, r) for s, r in zip(scores, references, strict=True)], axis=0)
