"""The dual of one problem a lane, as the iteration sees it, and the point it starts from."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

# Turns of the search for rho in the model of `start`.
_MODEL_TURNS = 3


class Problem(NamedTuple):
    """Minimise 1/2 alpha' K alpha + linear' alpha over sum(alpha) = total, 0 <= alpha <= C."""

    K: Float[Array, "lanes n n"]  # shifted by a constant, see `Shifted`
    linear: Float[Array, "n lanes"]
    C: Float[Array, "n lanes"]
    total: Float[Array, "1 lanes"]
    tol: Float[Array, "1 lanes"]
    diagonal: Float[Array, "n lanes"]
    spread: Float[Array, "1 lanes"]


def meaningful(K: Float[Array, "n n"], part: Bool[Array, " n"]) -> Float[Array, "n n"]:
    """K with nothing in it that has no meaning for the dual.

    Only the symmetric part has one, and taking it makes the derivatives of every order symmetric.
    What stands beside points that take no part has none: the mean of the rest takes its place.
    """
    both = part[:, None] & part[None, :]
    K = jnp.where(both, 0.5 * (K + K.T), 0)
    count = jnp.maximum(jnp.sum(part, dtype=K.dtype), 1)
    return jnp.where(both, K, lax.stop_gradient(jnp.sum(K)) / count**2)


class Shifted(NamedTuple):
    """K without its mean, which moves rho by that mean and nothing else, since sum(alpha) = 1.

    Where all entries are close to one value (a small gamma) the subtraction is exact, and g keeps
    the digits that decide the active set, which rounding at the size of K would drown.
    """

    K: Float[Array, "lanes n n"]
    mean: Float[Array, " lanes"]
    closeness: Float[Array, "lanes n"]  # of each point to all: the sum of its row of K
    row_sums: Float[Array, "lanes n"]  # the same before the shift
    finite: Bool[Array, " lanes"]


def shifted_gram(K: Float[Array, "lanes n n"], part: Bool[Array, "lanes n"]) -> Shifted:
    """What `meaningful` says, less its mean, in two passes over K; zero where K is not finite."""
    both = part[:, :, None] & part[:, None, :]
    K = jnp.where(both, 0.5 * (K + K.transpose(0, 2, 1)), 0)
    # A product is the fastest sum of rows. One number a matrix in one go would add serially.
    ones = jnp.ones((K.shape[0], K.shape[1], 1), K.dtype)
    sums = jnp.matmul(K, ones, precision=lax.Precision.HIGHEST)[..., 0]
    count = jnp.maximum(jnp.sum(part, axis=1, dtype=K.dtype), 1)
    mean = jnp.sum(sums, axis=1) / count**2
    finite = jnp.isfinite(jnp.sum(jnp.abs(sums), axis=1))
    # On NaN the iteration would not end.
    K = jnp.where(both & finite[:, None, None], K - mean[:, None, None], 0)
    return Shifted(K, mean, sums - (count * mean)[:, None], sums, finite)


def make_problem(
    K: Float[Array, "lanes n n"],
    linear: Float[Array, "n lanes"],
    C: Float[Array, "n lanes"],
    total: Float[Array, "1 lanes"],
    tol: Float[Array, "1 lanes"],
) -> Problem:
    """Adds what the iteration needs of K; a negative `tol` becomes the default of the dtype."""
    # By columns first: XLA makes a maximum over both axes at once one slow serial chain.
    by_column = jnp.maximum(jnp.max(K, axis=1), -jnp.min(K, axis=1))
    spread = jnp.max(by_column, axis=1)[None, :]
    default = (1e-10 if K.dtype == jnp.float64 else 1e-6) * spread
    diagonal = jnp.diagonal(K, axis1=1, axis2=2).T
    return Problem(K, linear, C, total, jnp.where(tol < 0, default, tol), diagonal, spread)


def gradient(problem: Problem, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """K alpha + linear, at full precision."""
    product = jnp.einsum("bij,jb->ib", problem.K, alpha, precision=lax.Precision.HIGHEST)
    return product + problem.linear


def objective(
    problem: Problem, alpha: Float[Array, "n lanes"], g: Float[Array, "n lanes"]
) -> Float[Array, "1 lanes"]:
    """The value of the dual at alpha, whose gradient is g."""
    return 0.5 * jnp.sum(alpha * (g + problem.linear), axis=0, keepdims=True)


def start(
    problem: Problem, closeness: Float[Array, "n lanes"], row_sums: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """A feasible alpha near the solution: that of a separable model where it keeps to the bounds.

    The model puts in place of all other entries of row i of K their mean c_i, and d_i in place of
    the diagonal: alpha_i = max(0, (rho - c_i) / d_i). Its rho is found as in a projection onto the
    simplex, all points first, then without those that came out negative (Michelot 1986); a few
    turns will do, since SMO follows. Where a bound C is crossed the farthest points are filled.
    """
    C, diagonal = problem.C, problem.diagonal
    part = C > 0
    count = jnp.maximum(_sum(part.astype(C.dtype)), 2)
    c = (closeness - diagonal) / (count - 1)
    mean = _sum(jnp.where(part, c, 0)) / count
    # The floor is for a K whose diagonal does not stand out, where the model says little.
    tiny = jnp.finfo(C.dtype).tiny
    stiffness = 1 / jnp.maximum(diagonal - mean, 0.1 * problem.spread + tiny)

    def level(active: Array) -> Array:
        weight = jnp.where(active, stiffness, 0)
        return (1 + _sum(weight * c)) / _sum(weight)

    active = part
    for _ in range(_MODEL_TURNS):
        active = active & (c < level(active))
    rho = level(active)
    alpha = jnp.where(active, jnp.maximum((rho - c) * stiffness, 0), 0)
    alpha = alpha / _sum(alpha)
    inside = jnp.all(~part | (alpha < C), axis=0, keepdims=True)
    return _of_sum_one(jnp.where(inside, alpha, _fill(problem, row_sums)), C)


def _fill(problem: Problem, row_sums: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """Fills the box of the points that lie farthest from the mean of all, until the sum is 1.

    The fill needs, for each point, the sum of C over the points before it in that order; comparing
    all pairs gives it without a sort, which XLA runs slowly on a CPU. What is compared must be the
    result of a product, which stands in memory: the closeness XLA computes anew for either side of
    the comparison, rounded differently, and two equal points would both come first.
    """
    C = problem.C
    n = C.shape[0]
    earlier = row_sums[None, :, :] < row_sums[:, None, :]
    tie = row_sums[None, :, :] == row_sums[:, None, :]
    lower_index = jnp.tril(jnp.ones((n, n), bool), -1)[:, :, None]
    before = jnp.sum(jnp.where(earlier | (tie & lower_index), C[None, :, :], 0), axis=1)
    alpha = jnp.minimum(jnp.maximum(1 - before, 0), C)
    # What rounding left over must not make a point free.
    slack = n * jnp.finfo(C.dtype).eps * problem.total
    partly = (alpha > 0) & (alpha < C)
    snapped = jnp.where(alpha <= slack, 0, jnp.where(C - alpha <= slack, C, alpha))
    return jnp.where(partly, snapped, alpha)


def _of_sum_one(
    alpha: Float[Array, "n lanes"], C: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """alpha, mended where its sum is not 1 beyond rounding.

    All that follows keeps the sum; that it begins with is not left to how XLA rounds in `_fill`.
    """
    total, room = _sum(alpha), _sum(C - alpha)
    wrong = jnp.abs(total - 1) > 4 * alpha.shape[0] * jnp.finfo(alpha.dtype).eps
    tiny = jnp.finfo(alpha.dtype).tiny
    more = alpha + (C - alpha) * (1 - total) / jnp.maximum(room, tiny)
    return jnp.where(wrong, jnp.where(total > 1, alpha / total, jnp.minimum(more, C)), alpha)


def _sum(values: Float[Array, "n lanes"]) -> Float[Array, "1 lanes"]:
    return jnp.sum(values, axis=0, keepdims=True)
