"""K in a form that keeps its digits: symmetric, scaled, and with a common value subtracted."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Binary exponent to which the largest entry of K is scaled.
_TOP = 112


def meaningful(K: Float[Array, "n n"], part: Bool[Array, " n"]) -> Float[Array, "n n"]:
    """K without the parts that have no effect on the dual.

    Only the symmetric part matters, and taking it makes the derivatives of every order symmetric.
    The rows and columns of points that take no part are replaced by the mean of the others.
    """
    both = part[:, None] & part[None, :]
    K = jnp.where(both, 0.5 * (K + K.T), 0)
    count = jnp.maximum(jnp.sum(part, dtype=K.dtype), 1)
    return jnp.where(both, K, lax.stop_gradient(jnp.sum(K)) / count**2)


class Conditioned(NamedTuple):
    """K in a form that keeps its digits: exactly (K - shift) / unit.

    The unit is a power of two, so that no scale of K over- or underflows. The shift is a number
    near most entries. It moves rho and nothing else, since sum(alpha) = 1, and where K is nearly
    constant (a small gamma) it leaves the digits that matter. It is 0 if the subtraction would
    round even one entry, so it never costs an entry any digits.
    """

    K: Float[Array, "lanes n n"]
    shift: Float[Array, " lanes"]  # in units of `unit`
    unit: Float[Array, " lanes"]
    row_sums: Float[Array, "lanes n"]
    underflow: Float[Array, " lanes"]  # bound on what underflow may take from K or its products
    finite: Bool[Array, " lanes"]
    one_sign: Bool[Array, " lanes"]  # whether all entries of K are known to have the same sign


def conditioned(K: Float[Array, "lanes n n"], part: Bool[Array, "lanes n"]) -> Conditioned:
    """The symmetric part of K on the points that take part; zero elsewhere, and if not finite."""
    both = part[:, :, None] & part[:, None, :]
    given = jnp.where(both, K, 0)
    K, unit, inverse = in_units(given)
    K = 0.5 * (K + K.transpose(0, 2, 1))
    sums = _row_sums(K)
    shift, tried = common_value(jnp.diagonal(K, axis1=1, axis2=2), part, sums)

    def try_it() -> tuple[Array, Array, Array]:
        moved, error = less(K, shift[:, None, None], both)
        shifted = tried & (jnp.max(jnp.max(error, axis=1), axis=1) == 0)
        kept = jnp.where(shifted[:, None, None], moved, K)
        return kept, _row_sums(kept), jnp.where(shifted, shift, 0)

    K, sums, shift = lax.cond(
        jnp.any(tried), try_it, lambda: (K, sums, jnp.zeros_like(shift) * shift)
    )
    small = jnp.any(may_underflow(jnp.diagonal(given, axis1=1, axis2=2), unit[:, None]), axis=1)
    underflow = jnp.where(small, underflow_bound(inverse), 0)
    one_sign = jnp.min(jnp.min(expected_sign(shift)[:, None, None] * K, axis=1), axis=1) >= 0
    return Conditioned(K, shift, unit, sums, underflow, inverse > 0, one_sign)


def expected_sign(shift: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sign that most kernels give K - shift: their entries are positive, at most the shift."""
    return jnp.where(shift == 0, 1, -jnp.sign(shift)).astype(shift.dtype)


def underflow_bound(inverse: Float[Array, "..."]) -> Float[Array, "..."]:
    """What underflow may take from an entry that is small, in the units whose inverse is given."""
    tiny = jnp.finfo(inverse.dtype).tiny
    return jnp.maximum(tiny * inverse, tiny)


def common_value(
    diagonal: Float[Array, "*lanes n"],
    part: Bool[Array, "*lanes n"],
    row_sums: Float[Array, "*lanes n"],
) -> tuple[Float[Array, "*lanes"], Bool[Array, "*lanes"]]:
    """A number with few digits, and whether most rows of K lie around it; a few may be far away.

    Args:
      diagonal: (*lanes, n) diagonals of the Gram matrices.
      part: (*lanes, n) which points take part.
      row_sums: (*lanes, n) sums of the rows.
    """
    # The support consists of the points of smallest norm.
    least = jnp.min(jnp.where(part, diagonal, jnp.inf), axis=-1)
    value = _few_bits(jnp.where(jnp.abs(least) < jnp.inf, least, 0))
    count = jnp.sum(part, axis=-1, dtype=diagonal.dtype)
    off = jnp.abs(row_sums - count[..., None] * value[..., None])
    around = part & (off < 0.25 * count[..., None] * jnp.abs(value)[..., None])
    return value, 2 * jnp.sum(around, axis=-1, dtype=diagonal.dtype) > count


def _row_sums(K: Float[Array, "lanes n n"]) -> Float[Array, "lanes n"]:
    """Row sums by a matrix product, the fastest way."""
    return jnp.matmul(K, jnp.ones_like(K[:, :, :1]), precision=lax.Precision.HIGHEST)[..., 0]


def less(
    K: Float[Array, "*lanes m n"], c: Float[Array, "..."], both: Bool[Array, "*lanes m n"]
) -> tuple[Float[Array, "*lanes m n"], Float[Array, "*lanes m n"]]:
    """K - c, and by how much each entry was rounded (Knuth's error of a sum, 1974).

    Args:
      K: (*lanes, m, n) Gram matrices, or some of their rows.
      c: what to subtract, of a shape that broadcasts against K.
      both: (*lanes, m, n) where both points take part; the result is 0 elsewhere.
    """
    moved = jnp.where(both, K - c, 0)
    back = moved + c
    error = jnp.abs((K - back) + (c - (back - moved)))
    return moved, jnp.where(both, error, 0)


def in_units(
    K: Float[Array, "lanes n n"],
) -> tuple[Float[Array, "lanes n n"], Float[Array, " lanes"], Float[Array, " lanes"]]:
    """K / unit, unit and 1 / unit.

    The unit is a power of two that makes the largest entry about 2^112, which leaves room for sums
    above and for all digits that float32 can hold below. If K is not finite, K / unit and 1 / unit
    are zero, since the iteration would not end on NaN.
    """
    # Axis by axis: XLA computes a maximum over both axes at once serially, which is slow.
    largest = jnp.max(jnp.max(jnp.abs(K), axis=1), axis=1)
    finite = jnp.isfinite(largest)
    unit, inverse = units(largest, finite)
    return jnp.where(finite[:, None, None], K * inverse[:, None, None], 0), unit, inverse


def units(
    largest: Float[Array, "..."], finite: Bool[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The unit of `in_units`, and its inverse, or 0 if K is not finite.

    Args:
      largest: the largest magnitude in K.
      finite: whether all of K is finite.
    """
    unit, inverse = _power_of_two(jnp.where(finite & (largest > 0), largest, 1), -_TOP)
    return unit, jnp.where(finite, inverse, 0)


def may_underflow(
    diagonal: Float[Array, "*lanes n"], unit: Float[Array, "*lanes 1"]
) -> Bool[Array, "*lanes n"]:
    """Where k(x, x) is not zero, but so small that it or its product with alpha may become zero.

    The bits are compared, since arithmetic may treat subnormal numbers as zero.
    """
    info = jnp.finfo(diagonal.dtype)
    integer = _integer(diagonal)
    bits = lax.bitcast_convert_type(diagonal, integer) & integer(jnp.iinfo(integer).max)
    limit = jnp.maximum(info.tiny / info.eps * jnp.minimum(unit, 1), info.tiny)
    return (bits > 0) & (bits < lax.bitcast_convert_type(limit, integer))


def _power_of_two(x: Float[Array, "..."], more: int) -> tuple[Float[Array, "..."], ...]:
    """A power of two near 2^more x, for positive x, and its inverse; both are normal numbers."""
    info, integer = jnp.finfo(x.dtype), _integer(x)
    bits, bias = -int(info.minexp) - 2, 1 - int(info.minexp)
    _, exponent = jnp.frexp(x)
    exponent = jnp.clip(exponent + more, -bits, bits).astype(integer)

    def power(exponent: Int[Array, "..."]) -> Float[Array, "..."]:
        # Put together from its bits: on a GPU `ldexp` is a general power, and hardly exact.
        return lax.bitcast_convert_type((exponent + bias) << info.nmant, x.dtype)

    return power(exponent), power(-exponent)


def _few_bits(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x rounded to eight binary digits, so that it can be subtracted from more numbers exactly."""
    integer = _integer(x)
    dropped = jnp.finfo(x.dtype).nmant - 7
    half, last = integer(1 << (dropped - 1)), integer(-1 << dropped)
    bits = lax.bitcast_convert_type(x, integer)
    return lax.bitcast_convert_type((bits + half) & last, x.dtype)


def _integer(x: Array) -> Any:
    """The integers of the same size."""
    return jnp.int64 if x.dtype.itemsize == 8 else jnp.int32
