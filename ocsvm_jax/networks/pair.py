"""Networks as pairs of pure functions, which is all that the methods need.

A `Pair` is (init, apply). `from_flax` makes one of a Linen module, and `stateless` of a network
without statistics (plain functions `init(key, x) -> params` and `apply(params, x) -> y`, or a split
`nnx` module).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen as nn


class Pair(NamedTuple):
    """One half of an autoencoder.

    Attributes:
      init: `init(key, x) -> (params, stats)`; both are pytrees, and `stats` is not trained.
      apply: `apply(params, stats, x, train) -> (y, stats)`; `train` is a Python bool.
    """

    init: Callable[..., tuple[Any, Any]]
    apply: Callable[..., tuple[Any, Any]]


class Network(NamedTuple):
    """An encoder, from what is given (b, ...) to latents (b, d), and a decoder back.

    What is given may be images of any height, width and channels, vectors (b, d), or patches with
    further leading axes: (*b, h, w, c) to (*b, d).
    """

    encoder: Pair
    decoder: Pair


def from_flax(module: nn.Module) -> Pair:
    """A Linen module called as `module(x, train)`; its collections but "params" are statistics."""

    def init(key, x):
        variables = dict(module.init(key, x, train=False))
        return variables.pop("params"), variables

    def apply(params, stats, x, train):
        variables = {"params": params, **stats}
        if not train:
            return module.apply(variables, x, train=False), stats
        return module.apply(variables, x, train=True, mutable=list(stats))

    return Pair(init, apply)


def stateless(init: Callable[..., Any], apply: Callable[..., Any]) -> Pair:
    """A pair of `init(key, x) -> params` and `apply(params, x) -> y`, the same in training."""
    return Pair(
        lambda key, x: (init(key, x), {}),
        lambda params, stats, x, train: (apply(params, x), stats),
    )
