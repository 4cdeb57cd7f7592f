"""Distances of all pairs of points, accurate whatever the other points are.

The difference of two coordinates is rounded once, and what is summed is not negative: the error
of such a sum is a small multiple of the rounding unit of that very distance. One matrix product,
|x|^2 + |y|^2 - 2 x'y, is faster in many dimensions and only as accurate as |x|^2 + |y|^2 is small:
about any centre, two points that are near each other and far from it lose all digits. It is taken
where a kernel cannot tell the difference.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Term = Callable[[Array], Array]

# Up to here differences take no longer than the product, on a CPU in float32; in 64 dimensions
# twice as long.
_FEW_DIMENSIONS = 16
# Below so many first points, differences take no time worth a choice.
_FEW_POINTS = 64
# gamma times the square of the radius of points of which the product is taken.
_NEAR = 4.0
# Entries of a block whose sum over the coordinates stays in the cache of a CPU.
_BLOCK = 2**18
# Rows of one, where the number of its columns is symbolic (`jax.export`).
_ROWS = 128


def squared_distances(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    factor: Float[Array, " d"] | None = None,
) -> Float[Array, "n m"]:
    """|factor (x_i - y_j)|^2, a sum of squared differences in O(n m) memory.

    The error of each is at most (d / 2 + 3) eps times itself, eps = 1.2e-7 in float32 and 2.2e-16
    in float64, whatever the other points are; points that coincide are exactly 0 apart. Above the
    largest number of the dtype it is that number, and its derivative 0; below the smallest normal
    number it may be 0.

    Args:
      x: (n, d) points.
      y: (m, d) points.
      factor: (d,) of each dimension, applied to the differences: 1 where left out.
    """
    return _finite(_summed(jnp.square, x, y, factor))


def absolute_distances(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    factor: Float[Array, " d"] | None = None,
) -> Float[Array, "n m"]:
    """|factor (x_i - y_j)|_1, as accurate as `squared_distances` and with its arguments."""
    return _finite(_summed(jnp.abs, x, y, factor))


def squared_distances_to(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    factor: Float[Array, " d"] | None,
    gamma: Float[Array, ""],
) -> Float[Array, "n m"]:
    """`squared_distances`, for exp(-gamma .): the smallest may be less accurate than themselves.

    The error of each is at most 5 (d + 4) eps times the larger of itself and 4 / gamma, whatever
    the other points are. One matrix product where all of x lies within 2 / sqrt(gamma) of its
    mean, as ordinary points do: there the product is as accurate as that, however far a y is (twice
    as far as x from the mean, it is well separated), up to an eighth of the largest number, above
    which it is that number. Differences otherwise. The choice asks x alone: a column does not
    depend on the other columns.

    Args:
      x: (n, d) points.
      y: (m, d) points.
      factor: (d,) as in `squared_distances`.
      gamma: positive, in units of 1 / distance^2.
    """
    if x.shape[1] <= _FEW_DIMENSIONS or x.shape[0] <= _FEW_POINTS:
        return squared_distances(x, y, factor)
    # Constants of the derivative: distances do not depend on the centre.
    centre = lax.stop_gradient(jnp.mean(x, axis=0, keepdims=True))
    furthest = jnp.max(jnp.sum(_scaled(lax.stop_gradient(x) - centre, factor) ** 2, axis=1))
    near = lax.stop_gradient(gamma * furthest) <= _NEAR
    return lax.cond(near, partial(_expanded, near), _differences, x, y, centre, factor)


def _differences(x: Array, y: Array, centre: Array, factor: Array | None) -> Float[Array, "n m"]:
    del centre
    return squared_distances(x, y, factor)


def _expanded(
    near: Bool[Array, ""], x: Array, y: Array, centre: Array, factor: Array | None
) -> Float[Array, "n m"]:
    # Under vmap both ways are computed: what is not asked for must not overflow, or its derivative
    # of 0 would be NaN.
    x = jnp.where(near, _scaled(x - centre, factor), 0)
    y = jnp.where(near, _scaled(y - centre, factor), 0)
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None, :]
    # The default precision is bfloat16 on a TPU and TF32 on recent GPUs: off by 4e-3 in K.
    distances = squares - 2 * jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)
    # Rounding below zero is cut off in the value alone: coinciding points are no kink.
    distances = distances + lax.stop_gradient(jnp.maximum(distances, 0) - distances)
    # Before the product, too, is infinite. A comparison that NaN fails: it stays what it is.
    largest = jnp.finfo(distances.dtype).max
    return jnp.where(squares > largest / 8, largest, distances)


def _scaled(x: Float[Array, "n d"], factor: Float[Array, " d"] | None) -> Float[Array, "n d"]:
    return x if factor is None else x * factor[None, :]


def _finite(distances: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """With the largest number in place of infinity, whose product with 0 is NaN in derivatives."""
    return jnp.minimum(distances, jnp.finfo(distances.dtype).max)


def _summed(
    term: Term, x: Float[Array, "n d"], y: Float[Array, "m d"], factor: Float[Array, " d"] | None
) -> Float[Array, "n m"]:
    """sum_k term(factor_k (x_ik - y_jk))."""
    if x.shape[1] == 0:
        return jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
    given = (x, y) if factor is None else (x, y, factor)
    return lax.platform_dependent(
        *given,
        cpu=partial(_by_coordinates, term),
        default=jax.checkpoint(partial(_at_once, term)),
    )


def _at_once(term: Term, x: Array, y: Array, factor: Array | None = None) -> Float[Array, "n m"]:
    """XLA fuses the sum with its terms; the checkpoint keeps them from being stored."""
    difference = x[:, None, :] - y[None, :, :]
    if factor is not None:
        difference = difference * factor[None, None, :]
    return jnp.sum(term(difference), axis=-1)


def _by_coordinates(
    term: Term, x: Array, y: Array, factor: Array | None = None
) -> Float[Array, "n m"]:
    """One coordinate after the other, on blocks of rows.

    Of what XLA makes on a CPU, this alone is vectorised: 1.1 ns an entry at d = 16 in float32,
    where the product takes 1.1, the fused sum 5.6 and the same sum written out 3.9.
    """
    rows = _block_rows(x.shape[0], y.shape[0])

    def block(x: Float[Array, "r d"]) -> Float[Array, "r m"]:
        # What its derivative takes is computed again rather than stored, (n, m) numbers each.
        @partial(jax.checkpoint, prevent_cse=False)
        def of_one(coordinate: tuple[Array, ...]) -> Array:
            a, b, *scale = coordinate
            difference = a[:, None] - b[None, :]
            return term(difference * scale[0] if scale else difference)

        def add(total: Array, coordinate: tuple[Array, ...]) -> tuple[Array, None]:
            return total + of_one(coordinate), None

        coordinates = (x.T, y.T) if factor is None else (x.T, y.T, factor)
        # Not from zeros, which under shard_map are no shard's own and so no carry.
        start = of_one(jax.tree.map(lambda a: a[0], coordinates))
        rest = jax.tree.map(lambda a: a[1:], coordinates)
        return lax.scan(add, start, rest)[0]

    if rows is None:
        return block(x)
    n, d = x.shape
    blocks = -(-n // rows)
    padded = jnp.pad(x, ((0, blocks * rows - n), (0, 0)), mode="edge")
    return lax.map(block, padded.reshape(blocks, rows, d)).reshape(-1, y.shape[0])[:n]


def _block_rows(n: Any, m: Any) -> int | None:
    """Rows of a block; None for all at once. A symbolic size is no int."""
    if not isinstance(n, int):
        return None
    rows = max(_BLOCK // max(m, 1), 8) if isinstance(m, int) else _ROWS
    return rows if rows < n else None
