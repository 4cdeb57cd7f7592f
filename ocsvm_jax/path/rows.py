"""Rows of points on the host: checked, drawn at random, dealt into folds."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from ocsvm_jax import forks
from ocsvm_jax.arrays.arguments import as_numbers, is_concrete
from ocsvm_jax.solver.checks import normalized_weights


class Rows(NamedTuple):
    """Points with their weights, all positive.

    Attributes:
      x: (n, d) points, float32 if they were given in float32 or less, else float64.
      weight: (n,) positive weights, the largest 1.
    """

    x: Float[np.ndarray, "n d"]
    weight: Float[np.ndarray, " n"]


def checked_rows(caller: str, x: Any, sample_weight: Any) -> Rows:
    """The rows of positive weight.

    Args:
      caller: name of the public function, for messages.
      x: (n, d) points.
      sample_weight: (n,) non-negative weights, or None.

    Raises:
      TypeError: if x or the weights do not hold real numbers.
      ValueError: if x is traced, is not (n, d), holds NaN or infinite values in a row of positive
        weight, has fewer than two different such rows, or the weights do not fit.
    """
    forks.refuse(caller)
    if not is_concrete(x) or not is_concrete(sample_weight):
        raise ValueError(
            f"{caller} needs the values of the points and cannot be traced; call it outside jit, "
            "vmap and grad. Inside, `ocsvm_path` and `leave_one_out` work."
        )
    x = np.asarray(as_numbers(x, "x"))
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}; {caller} takes points as rows, (n, d).")
    x = x.astype(np.float32 if x.dtype.kind == "f" and x.dtype.itemsize < 8 else np.float64)
    n = x.shape[0]
    w = np.ones(n) if sample_weight is None else np.asarray(as_numbers(sample_weight))
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; x has {n} points, so it must be ({n},)."
        )
    w = np.asarray(normalized_weights(w))
    x, w = x[w > 0], w[w > 0]
    if not np.all(np.isfinite(x)):
        raise ValueError("x holds NaN or infinite values; remove or impute those rows first.")
    if not np.any(x != x[:1]):
        raise ValueError(
            f"x has {x.shape[0]} rows of positive weight, and no two of them differ; {caller} "
            "compares points, so it needs at least two different ones."
        )
    return Rows(x, w)


def draw(rows: Rows, max_points: int, key: Array) -> Rows:
    """All rows, or `max_points` of them drawn at random without replacement, in their order.

    Args:
      rows: the rows to draw from.
      max_points: largest number of rows to return, at least 2.
      key: a `jax.random.key`.
    """
    if max_points < 2:
        raise ValueError(f"max_points is {max_points}; it must be at least 2.")
    n = rows.x.shape[0]
    if n <= max_points:
        return rows
    chosen = np.sort(np.asarray(jax.random.permutation(key, n))[:max_points])
    return Rows(rows.x[chosen], rows.weight[chosen])


def deal(x: Float[np.ndarray, "n d"], num_folds: int, key: Array) -> Int[np.ndarray, " n"]:
    """Deals rows into folds at random and returns the fold (n,) of each.

    Equal rows share a fold, since a copy of a point is not unseen. The folds are numbered from 0;
    there are `num_folds` of them, or as many as there are different rows.

    Args:
      x: (n, d) points.
      num_folds: at least 2.
      key: a `jax.random.key`.
    """
    if num_folds < 2:
        raise ValueError(f"num_folds is {num_folds}; it must be at least 2.")
    distinct, which = np.unique(x, axis=0, return_inverse=True)
    place = np.asarray(jax.random.permutation(key, distinct.shape[0]))
    return (place % num_folds).astype(np.int32)[which.reshape(-1)]
