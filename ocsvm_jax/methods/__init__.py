"""The registered methods: name -> function of (network, optimizer, settings) to a Method."""

from collections.abc import Callable

from ocsvm_jax.methods.ae import ae
from ocsvm_jax.methods.base import Method
from ocsvm_jax.methods.ogae import ogae

METHODS: dict[str, Callable[..., Method]] = {"ae": ae, "ogae": ogae}

__all__ = ["METHODS", "Method"]
