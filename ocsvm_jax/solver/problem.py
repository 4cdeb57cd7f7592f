"""The dual of one problem a lane, as the iteration sees it, and the point it starts from."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

# Turns of the search for rho in the model of `start`.
_MODEL_TURNS = 3
# The binary exponent that the largest entry of K is brought to.
_TOP = 112
_HIGHEST = lax.Precision.HIGHEST


class Problem(NamedTuple):
    """Minimise 1/2 alpha' K alpha + linear' alpha over sum(alpha) = total, 0 <= alpha <= C."""

    K: Float[Array, "lanes n n"]  # as `conditioned` makes it
    linear: Float[Array, "n lanes"]
    C: Float[Array, "n lanes"]
    total: Float[Array, "1 lanes"]
    tol: Float[Array, "1 lanes"]  # of the gap; negative asks for the default of the dtype
    diagonal: Float[Array, "n lanes"]
    underflow: Float[Array, "1 lanes"]  # what an entry of K may have lost to it
    one_sign: Bool[Array, "1 lanes"]  # known to hold of the entries of K


def meaningful(K: Float[Array, "n n"], part: Bool[Array, " n"]) -> Float[Array, "n n"]:
    """K with nothing in it that has no meaning for the dual.

    Only the symmetric part has one, and taking it makes the derivatives of every order symmetric.
    What stands beside points that take no part has none: the mean of the rest takes its place.
    """
    both = part[:, None] & part[None, :]
    K = jnp.where(both, 0.5 * (K + K.T), 0)
    count = jnp.maximum(jnp.sum(part, dtype=K.dtype), 1)
    return jnp.where(both, K, lax.stop_gradient(jnp.sum(K)) / count**2)


class Conditioned(NamedTuple):
    """K in a form that keeps its digits: (K - shift) / unit, exactly.

    The unit is a power of two, so that no scale of K over- or underflows. The shift, a number that
    most entries lie around, moves rho and nothing else, since sum(alpha) = 1: where K is close to
    constant (a small gamma) it leaves the digits that decide. It is 0 wherever the subtraction
    would round a single entry, and so never costs one its digits, whatever the other entries are.
    """

    K: Float[Array, "lanes n n"]
    shift: Float[Array, " lanes"]  # in units of `unit`
    unit: Float[Array, " lanes"]
    row_sums: Float[Array, "lanes n"]
    underflow: Float[Array, " lanes"]  # what entries of K, or their products, may lose to it
    finite: Bool[Array, " lanes"]
    one_sign: Bool[Array, " lanes"]  # whether the entries of K are known to have it


def conditioned(K: Float[Array, "lanes n n"], part: Bool[Array, "lanes n"]) -> Conditioned:
    """The symmetric part of K on the points that take part; zero elsewhere and if not finite."""
    both = part[:, :, None] & part[:, None, :]
    given = jnp.where(both, K, 0)
    K, unit, inverse = in_units(given)
    K = 0.5 * (K + K.transpose(0, 2, 1))
    sums = _row_sums(K)
    shift, tried = common_value(K, part, sums)

    def try_it() -> tuple[Array, Array, Array]:
        moved, exact = _less_exactly(K, shift, both)
        shifted = tried & exact
        kept = jnp.where(shifted[:, None, None], moved, K)
        return kept, _row_sums(kept), jnp.where(shifted, shift, 0)

    K, sums, shift = lax.cond(
        jnp.any(tried), try_it, lambda: (K, sums, jnp.zeros_like(shift) * shift)
    )
    tiny = jnp.finfo(K.dtype).tiny
    small = jnp.any(_may_underflow(jnp.diagonal(given, axis1=1, axis2=2), unit), axis=1)
    underflow = jnp.where(small, jnp.maximum(tiny * inverse, tiny), 0)
    # Most kernels are positive, and not above what is taken off them.
    sign = jnp.where(shift == 0, 1, -jnp.sign(shift)).astype(K.dtype)[:, None, None]
    one_sign = jnp.min(jnp.min(sign * K, axis=1), axis=1) >= 0
    return Conditioned(K, shift, unit, sums, underflow, inverse > 0, one_sign)


def common_value(
    K: Float[Array, "lanes n n"], part: Bool[Array, "lanes n"], row_sums: Float[Array, "lanes n"]
) -> tuple[Float[Array, " lanes"], Bool[Array, " lanes"]]:
    """A number of few digits, and whether most rows of K lie around it, be there far ones."""
    # The points of smallest norm are those that the support is made of.
    least = jnp.min(jnp.where(part, jnp.diagonal(K, axis1=1, axis2=2), jnp.inf), axis=1)
    value = _few_bits(jnp.where(jnp.isfinite(least), least, 0))
    count = jnp.sum(part, axis=1, dtype=K.dtype)[:, None]
    off = jnp.abs(row_sums - count * value[:, None])
    around = part & (off < 0.25 * count * jnp.abs(value)[:, None])
    return value, 2 * jnp.sum(around, axis=1, dtype=K.dtype) > count[:, 0]


def _row_sums(K: Float[Array, "lanes n n"]) -> Float[Array, "lanes n"]:
    """By a product, the fastest way."""
    return jnp.matmul(K, jnp.ones_like(K[:, :, :1]), precision=_HIGHEST)[..., 0]


def _less_exactly(
    K: Float[Array, "lanes n n"], shift: Float[Array, " lanes"], both: Bool[Array, "lanes n n"]
) -> tuple[Float[Array, "lanes n n"], Bool[Array, " lanes"]]:
    """K - shift, and whether no entry was rounded (Knuth's error of a sum, 1974)."""
    c = shift[:, None, None]
    moved = jnp.where(both, K - c, 0)
    back = moved + c
    error = jnp.abs((K - back) + (c - (back - moved)))
    return moved, jnp.max(jnp.max(jnp.where(both, error, 0), axis=1), axis=1) == 0


def in_units(
    K: Float[Array, "lanes n n"],
) -> tuple[Float[Array, "lanes n n"], Float[Array, " lanes"], Float[Array, " lanes"]]:
    """K / unit, unit and 1 / unit.

    The unit is a power of two that makes the largest entry about 2^112: there is room for sums
    above that, and below it for what float32 can hold beside the largest. A matrix not finite
    becomes zero, and so does 1 / unit: on NaN the iteration would not end.
    """
    # By columns first: XLA makes a maximum over both axes at once one slow serial chain.
    largest = jnp.max(jnp.max(jnp.abs(K), axis=1), axis=1)
    finite = jnp.isfinite(largest)
    unit, inverse = _power_of_two(jnp.where(finite & (largest > 0), largest, 1), -_TOP)
    inverse = jnp.where(finite, inverse, 0)
    return jnp.where(finite[:, None, None], K * inverse[:, None, None], 0), unit, inverse


def _may_underflow(
    diagonal: Float[Array, "lanes n"], unit: Float[Array, " lanes"]
) -> Bool[Array, "lanes n"]:
    """Where k(x, x) is not zero, and so small that it, or a product with alpha, may become it.

    Seen by their bits: arithmetic takes what is below the smallest normal number for zero.
    """
    info = jnp.finfo(diagonal.dtype)
    integer = jnp.int64 if diagonal.dtype.itemsize == 8 else jnp.int32
    bits = lax.bitcast_convert_type(diagonal, integer) & integer(jnp.iinfo(integer).max)
    limit = jnp.maximum(info.tiny / info.eps * jnp.minimum(unit, 1), info.tiny)
    return (bits > 0) & (bits < lax.bitcast_convert_type(limit, integer)[:, None])


def _power_of_two(x: Float[Array, " lanes"], more: int) -> tuple[Float[Array, " lanes"], ...]:
    """A power of two near 2^more times positive x, and its inverse, both normal numbers."""
    bits = -int(jnp.finfo(x.dtype).minexp) - 2
    _, exponent = jnp.frexp(x)
    exponent = jnp.clip(exponent + more, -bits, bits).astype(jnp.int32)
    one = jnp.ones_like(x)
    return jnp.ldexp(one, exponent), jnp.ldexp(one, -exponent)


def _few_bits(x: Float[Array, " lanes"]) -> Float[Array, " lanes"]:
    """x to eight binary digits: the fewer it has, the more numbers it can be taken off exactly."""
    mantissa, exponent = jnp.frexp(x)
    return jnp.ldexp(jnp.round(256 * mantissa) / 256, exponent)


def make_problem(
    K: Float[Array, "lanes n n"],
    linear: Float[Array, "n lanes"],
    C: Float[Array, "n lanes"],
    total: Float[Array, "1 lanes"],
    tol: Float[Array, "1 lanes"],
    underflow: Float[Array, "1 lanes"],
    one_sign: Bool[Array, "1 lanes"],
) -> Problem:
    """The problem, with what the iteration needs of K."""
    diagonal = jnp.diagonal(K, axis1=1, axis2=2).T
    return Problem(K, linear, C, total, tol, diagonal, underflow, one_sign)


def gradient(problem: Problem, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """K alpha + linear, at full precision."""
    product = jnp.einsum("bij,jb->ib", problem.K, alpha, precision=_HIGHEST)
    return product + problem.linear


def magnitude(
    problem: Problem, alpha: Float[Array, "n lanes"], g: Float[Array, "n lanes"]
) -> Float[Array, "n lanes"]:
    """|K| alpha + |linear|: what each g is summed from, so that it is rounded by so many eps."""

    def summed() -> Float[Array, "n lanes"]:
        return jnp.sum(jnp.abs(problem.K) * alpha.T[:, :, None], axis=1).T

    # A pass over K that most kernels do not need.
    known = jnp.all(problem.one_sign)
    size = lax.cond(known, lambda: jnp.abs(g - problem.linear), summed)
    return size + jnp.abs(problem.linear)


def scale_seen(
    problem: Problem, alpha: Float[Array, "n lanes"], m: Float[Array, "n lanes"]
) -> Float[Array, "1 lanes"]:
    """The mean of the magnitudes m under alpha: the scale of g as the support sees it.

    A far row, whose entries are large but whose alpha is zero or tiny, does not enter it: that is
    why tolerances are relative to it, not to the largest entry of K.
    """
    return jnp.sum(alpha * m, axis=0, keepdims=True) / problem.total


def objective(
    problem: Problem, alpha: Float[Array, "n lanes"], g: Float[Array, "n lanes"]
) -> Float[Array, "1 lanes"]:
    """The value of the dual at alpha, whose gradient is g."""
    return 0.5 * jnp.sum(alpha * (g + problem.linear), axis=0, keepdims=True)


def start(problem: Problem, row_sums: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """A feasible alpha near the solution: that of a separable model where it keeps to the bounds.

    The model puts in place of all other entries of row i of K their mean c_i, and d_i in place of
    the diagonal: alpha_i = max(0, (rho - c_i) / d_i). Its rho is found as in a projection onto the
    simplex, all points first, then without those that came out negative (Michelot 1986); a few
    turns will do, since SMO follows. Where a bound C is crossed the farthest points are filled.
    """
    C, diagonal = problem.C, problem.diagonal
    part = C > 0
    count = jnp.maximum(_sum(part.astype(C.dtype)), 2)
    c = (row_sums - diagonal) / (count - 1)
    mean = _sum(jnp.where(part, c, 0)) / count
    # The floor is for a K whose diagonal does not stand out, where the model says little.
    tiny = jnp.finfo(C.dtype).tiny
    stiffness = 1 / jnp.maximum(diagonal - mean, 0.1 * (jnp.abs(diagonal) + jnp.abs(c)) + tiny)

    def level(active: Array) -> Array:
        weight = jnp.where(active, stiffness, 0)
        return (1 + _sum(weight * c)) / _sum(weight)

    # Varies over a mesh as K does, though C may not, which a loop under shard_map asks for.
    active = part & (c < jnp.inf)
    turn = lambda _, active: active & (c < level(active))  # noqa: E731
    active = lax.fori_loop(0, _MODEL_TURNS, turn, active)
    rho = level(active)
    alpha = jnp.where(active, jnp.maximum((rho - c) * stiffness, 0), 0)
    alpha = alpha / _sum(alpha)
    inside = jnp.all(~part | (alpha < C), axis=0, keepdims=True)
    return _of_sum_one(jnp.where(inside, alpha, _fill(problem, row_sums)), C)


def _fill(problem: Problem, row_sums: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
    """Fills the box of the points that lie farthest from the mean of all, until the sum is 1.

    The fill needs, for each point, the sum of C over the points before it in that order; comparing
    all pairs gives it without a sort, which XLA runs slowly on a CPU. What is compared must be the
    result of a product, which stands in memory: anything else XLA computes twice, once for either
    side of the comparison, rounded differently, and two equal points would both come first.
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
