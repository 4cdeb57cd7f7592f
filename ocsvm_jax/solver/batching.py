"""The batching rules: `vmap` of a solve becomes one solve over lanes.

Plain `vmap` would run every lane until the slowest is done and stream all matrices through memory
at each step. On a CPU the lanes are taken a few at a time instead: their matrices stay in cache, a
SIMD register holds one number of each, and few lanes wait for the slowest. An accelerator takes all
lanes at once. Nested `vmap`s arrive here flattened into one axis.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# One AVX-512 register of float64, two of AVX2.
_CPU_LANES = 8


def lanes_function(run: Callable[..., Any]) -> Callable[..., Any]:
    """A function of single problems from `run`, a function of lanes (which lead all its arrays).

    The result is applied to one problem's arrays; `vmap`, however nested, calls `run` on lanes.
    """

    @jax.custom_batching.custom_vmap
    def on_lanes(*args):
        return _in_chunks(run, args)

    @on_lanes.def_vmap
    def _flatten(axis_size, in_batched, *args):
        def merge(x, batched):
            if not batched:
                x = jnp.broadcast_to(x[None], (axis_size, *x.shape))
            return x.reshape((axis_size * x.shape[1], *x.shape[2:]))

        merged = [merge(x, batched) for x, batched in zip(args, in_batched, strict=True)]
        out = on_lanes(*merged)
        split = lambda x: x.reshape((axis_size, -1, *x.shape[1:]))  # noqa: E731
        return jax.tree.map(split, out), jax.tree.map(lambda _: True, out)

    def single(*args):
        return jax.tree.map(lambda x: x[0], on_lanes(*(x[None] for x in args)))

    return single


def _in_chunks(run: Callable[..., Any], args: tuple[jax.Array, ...]) -> Any:
    lanes = args[0].shape[0]
    # The backend decides at trace time: the result is the same, only the speed differs, so a
    # computation placed elsewhere than on the default backend is still right.
    if jax.default_backend() != "cpu" or lanes <= _CPU_LANES:
        return run(*args)
    chunks = -(-lanes // _CPU_LANES)
    # The last chunk is filled up with copies of the first lanes: they cost what real ones would.
    fill = chunks * _CPU_LANES - lanes
    padded = [jnp.concatenate([x, x[:fill]]) if fill else x for x in args]
    blocks = tuple(x.reshape((chunks, _CPU_LANES, *x.shape[1:])) for x in padded)
    out = lax.map(lambda block: run(*block), blocks)
    return jax.tree.map(lambda x: x.reshape((chunks * _CPU_LANES, *x.shape[2:]))[:lanes], out)
