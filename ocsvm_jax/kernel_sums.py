"""Sums of kernels over many centres, at many points, in tiles of the kernel matrix.

On a CPU a tile stays in the cache. On an accelerator a tile costs about 15 launches, 40 us and more
whatever its size, so tiles are as large as a share of its memory allows.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ocsvm_jax.kernels import gram

# On a CPU, tiles of this size take 0.8 ns per entry of K in float32. The whole matrix at once takes
# 2 ns per entry, the time of writing and reading memory.
_POINTS, _CENTRES = 512, 2048
# Entries of a tile on an accelerator: 128 MiB in float32, of which XLA holds a few.
_ENTRIES = 2**25


@jax.jit
def kernel_sum(
    kernel: Any,
    centres: Float[Array, "m d"],
    weights: Float[Array, " m"],
    x: Float[Array, "q d"],
    offset: Float[Array, ""] | float = 0.0,
) -> Float[Array, " q"]:
    """sum_j weights_j (k(centres_j, x_i) - offset) for every row x_i, in O(m + q) memory.

    Each value of k is as accurate as in `gram`, whatever the other rows are. The function is
    jitted, so that callers outside jit do not compile it again at each call.

    Args:
      kernel: a kernel, as a pytree of arrays.
      centres: (m, d) points x_j.
      weights: (m,) their weights.
      x: (q, d) points at which to evaluate the sum.
      offset: () number subtracted from k. One near the values of k keeps digits if the weights are
        large and of both signs.
    """
    return lax.platform_dependent(
        kernel,
        centres,
        weights,
        x,
        jnp.asarray(offset, x.dtype),
        cpu=partial(_in_tiles, points=_POINTS),
        default=partial(_in_tiles, points=_ENTRIES // min(_CENTRES, max(len(centres), 1))),
    )


def _in_tiles(
    kernel: Any,
    centres: Float[Array, "m d"],
    weights: Float[Array, " m"],
    x: Float[Array, "q d"],
    offset: Float[Array, ""],
    *,
    points: int,
) -> Float[Array, " q"]:
    """`kernel_sum` in tiles of `points` rows of x."""
    m, d = centres.shape
    tiles = -(-m // _CENTRES)
    if tiles > 1:
        # Filled up with copies of a row, of weight 0, since kernels may centre their points.
        more = tiles * _CENTRES - m
        centres = jnp.pad(centres, ((0, more), (0, 0)), mode="edge")
        weights = jnp.pad(weights, (0, more))

    def at(points: Float[Array, "p d"]) -> Float[Array, " p"]:
        def tile(centres: Float[Array, "c d"], weights: Float[Array, " c"]) -> Float[Array, " p"]:
            # `gram` centres its first argument and chooses by it how to compute distances, so a
            # value does not depend on the other points of its tile.
            K = gram(kernel, centres, points)
            return jnp.matmul(weights, K - offset, precision=lax.Precision.HIGHEST)

        if tiles <= 1:
            return tile(centres, weights)
        sums = lax.map(
            lambda some: tile(*some),
            (centres.reshape(tiles, _CENTRES, d), weights.reshape(tiles, _CENTRES)),
        )
        return jnp.sum(sums, axis=0)

    q = x.shape[0]
    if q <= 2 * points:
        return at(x)
    blocks = -(-q // points)
    padded = jnp.pad(x, ((0, blocks * points - q), (0, 0)), mode="edge")
    return lax.map(at, padded.reshape(blocks, points, d)).reshape(-1)[:q]
