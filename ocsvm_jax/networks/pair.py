"""Networks as pairs of pure functions, which is all that the methods need.

A `Pair` is (init, apply). `from_flax` makes one of a Linen module, `from_nnx` of an nnx module, and
`stateless` of a network without statistics (plain functions `init(key, x) -> params` and
`apply(params, x) -> y`). `network_of` takes any of these as they are.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax import nnx


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
        return variables.pop("params", {}), variables

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


def from_nnx(module: nnx.Module) -> Pair:
    """An nnx module called as `module(x)`, in its mode of training or of evaluation.

    The module is left as it is: its weights are copied, and are those that training starts from,
    whatever the key. Everything in it but `nnx.Param` counts as statistics.

    Raises:
      ValueError: if the module draws random numbers when it is called, as dropout does: the
        training of this package could not go on from a checkpoint to the same bits.
    """
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    if jax.tree.leaves(nnx.state(module, nnx.RngState)):
        raise ValueError(
            f"{type(module).__name__} holds random state (nnx.Rngs), as dropout layers do; remove "
            "them, or pass rngs only to the constructors of layers."
        )
    # Plain dictionaries, which checkpoints hold whatever Flax's release.
    plain_params, plain_rest = nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

    def init(key, x):
        del key, x
        return plain_params, plain_rest

    def apply(values, stats, x, train):
        states = [jax.tree.map(lambda leaf: leaf, state) for state in (params, rest)]
        nnx.replace_by_pure_dict(states[0], values)
        nnx.replace_by_pure_dict(states[1], stats)
        called: Any = nnx.merge(graph, *states)
        called.train() if train else called.eval()
        y = called(x)
        moved: Any = nnx.split(called, nnx.Param, ...)[2]
        return y, nnx.to_pure_dict(moved) if train else stats

    return Pair(init, apply)


def network_of(encoder: Any, decoder: Any) -> Network:
    """The network of an encoder and a decoder in any of the forms of `pair_of`.

    Raises:
      TypeError: if one of them has none of these forms.
    """
    return Network(pair_of(encoder), pair_of(decoder))


def pair_of(half: Any) -> Pair:
    """The pair of half a network.

    Args:
      half: a `Pair`, a Linen module called as `module(x, train)` or as `module(x)`, an nnx module,
        or two functions (init, apply): `init(key, x) -> params` and `apply(params, x) -> y`.

    Raises:
      TypeError: if it is none of these.
    """
    if isinstance(half, Pair):
        return half
    if isinstance(half, nn.Module):
        return from_flax(half) if _takes_train(half) else _untold(half)
    if isinstance(half, nnx.Module):
        return from_nnx(half)
    if isinstance(half, tuple | list) and len(half) == 2 and all(map(callable, half)):
        return stateless(*half)
    raise TypeError(
        f"half of a network is {half!r}; it must be a Flax Linen module, an nnx module, a pair of "
        "functions (init, apply), or an ocsvm_jax.networks.pair.Pair."
    )


def _takes_train(module: nn.Module) -> bool:
    parameters = inspect.signature(type(module).__call__).parameters
    return "train" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _untold(module: nn.Module) -> Pair:
    """A Linen module that does the same in training."""

    def apply(variables, x):
        return module.apply(variables, x)

    return stateless(lambda key, x: module.init(key, x), apply)
