"""The configuration of an experiment, called a card, and the method that it describes."""

import json
from collections.abc import Mapping
from typing import Any

import optax
from ml_collections import ConfigDict

from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.experiments import fields
from ocsvm_jax.experiments.fields import Config
from ocsvm_jax.experiments.method_fields import built, resolved
from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.methods.arguments import at_least
from ocsvm_jax.methods.kernel_names import check_kernel
from ocsvm_jax.networks import Decoder, Encoder
from ocsvm_jax.networks.pair import Network, from_flax


def check(config: Config) -> None:
    """Raises ValueError for the first invalid value, before anything is loaded.

    Names of data, classes and corruptions are checked by `ocsvm_jax.data.load`.
    """
    fields.check(config, fields.IMAGES)
    default = Final._field_defaults["gamma"]
    check_kernel(config.final.kernel, config.final.gamma, default, prefix="final.")
    build_method(config)


def field_names(config: Config, prefix: str = "") -> list[str]:
    """All names of a configuration, dotted: "seed", "data.dir", ..."""
    names = []
    for key, value in config.items():
        inner = isinstance(value, ConfigDict)
        names += field_names(value, f"{prefix}{key}.") if inner else [prefix + key]
    return names


def build_method(config: Config) -> Method:
    """The method of a configuration.

    Raises:
      ValueError: if a value is invalid, or the method does not have a field.
    """
    settings = resolved(config).method.to_dict() | {"num_epochs": config.train.epochs}
    return method_of(settings, config.train.learning_rate)


def method_of(settings: Mapping[str, Any], learning_rate: float) -> Method:
    """A registered method on the paper's 28 x 28 autoencoder.

    Args:
      settings: the fields of a card's `method`, and `num_epochs`; those listed as `traced` in the
        method's recipe may be traced.
      learning_rate: learning rate of Adam.

    Raises:
      ValueError: if a value is invalid.
    """
    at_least(1)("method.latent_dim", settings["latent_dim"])
    recipe = METHODS[settings["name"]]
    encoder = Encoder(recipe.heads * settings["latent_dim"], recipe.bias)
    network = Network(from_flax(encoder), from_flax(Decoder(recipe.bias)))
    return built(recipe, network, optax.adam(learning_rate), settings)


def plain(config: Config) -> dict[str, Any]:
    """The configuration after a round trip through JSON: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))
