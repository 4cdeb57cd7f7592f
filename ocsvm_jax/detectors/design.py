"""What a detector trains: a method on a network, and the compiled program for it."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from flax import nnx

from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.networks.fitting import Kind, default_network
from ocsvm_jax.networks.pair import Network, network_of
from ocsvm_jax.training.loop import Plan
from ocsvm_jax.training.population import Program

_PROGRAMS = 16  # kept in memory
_NUMBERS_AT_ONCE = 2**21  # values of the inputs that are scored together
_MOST_ROWS = 500


class Design(NamedTuple):
    """All that decides which program trains and scores a detector; compared by its values.

    Attributes:
      method: name of the registered method.
      settings: its arguments that are no numbers a program may be given, as sorted pairs.
      kind: "vectors", "images" or "series".
      shape: of one input of the network.
      latent_dim: number of latent dimensions.
      network: None for the default, or a pair (encoder, decoder) as the user gave it.
      learning_rate: of Adam.
      dtype: of the arithmetic of the default networks.
      plan: how long to train.
    """

    method: str
    settings: tuple[tuple[str, Any], ...]
    kind: Kind
    shape: tuple[int, ...]
    latent_dim: int
    network: Any
    learning_rate: float
    dtype: str
    plan: Plan

    def networks(self) -> Network:
        """The network.

        Raises:
          TypeError: if the user's is in none of the forms of `networks.pair.pair_of`.
        """
        if self.network is not None:
            return network_of(*self.network)
        recipe = METHODS[self.method]
        return default_network(
            self.kind,
            self.shape,
            self.latent_dim,
            heads=recipe.heads,
            bias=recipe.bias,
            dtype=jnp.dtype(self.dtype),
        )

    def method_for(self, network: Network, numbers: Mapping[str, Any]) -> Method:
        """The method, given those of its arguments that are numbers.

        Raises:
          ArgumentError: if an argument is invalid; a subclass of ValueError.
        """
        settings = dict(self.settings) | {"num_epochs": self.plan.epochs} | dict(numbers)
        return METHODS[self.method].made(network, optax.adam(self.learning_rate), settings)

    @property
    def block(self) -> int:
        """Number of rows that are scored together; the same for all calls, as rounding needs."""
        return max(1, min(_MOST_ROWS, _NUMBERS_AT_ONCE // math.prod(self.shape)))


def program_of(design: Design, size: int) -> Program:
    """The program that trains so many models; compiled once for equal designs."""
    # The weights of an nnx module are in it, so one that is equal may be another later.
    if any(isinstance(half, nnx.Module) for half in design.network or ()):
        return _made(design, size)
    try:
        return _kept(design, size)
    except TypeError as error:  # a module with attributes that have no hash
        if "unhashable" not in str(error):
            raise
        return _made(design, size)


def _made(design: Design, size: int) -> Program:
    network = design.networks()
    return Program(lambda numbers: design.method_for(network, numbers), design.plan, size)


_kept = lru_cache(_PROGRAMS)(_made)
