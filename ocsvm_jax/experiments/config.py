"""The configuration of an experiment, called a card, and the method that it describes."""

import json
import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optax
from ml_collections import ConfigDict

from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.methods.ogae import beta_schedule
from ocsvm_jax.methods.sae import SIMILARITIES
from ocsvm_jax.networks import Decoder, Encoder
from ocsvm_jax.networks.pair import Network, from_flax
from ocsvm_jax.suggestions import did_you_mean

if TYPE_CHECKING:
    # To a type checker, a field of a ConfigDict is a union of all that a field can be.
    Config = Any
else:
    Config = ConfigDict

_WEIGHTS = (
    "guidance_weight",
    "turned_weight",
    "kl_weight",
    "similarity_weight",
    "reconstruction_weight",
    "vae_weight",
)


def check(config: Config) -> None:
    """Raises ValueError on the first value that can not work, before anything is loaded.

    Names of data, classes and corruptions are left to `ocsvm_jax.data.load`, which knows them.
    """
    method, train, final = config.method, config.train, config.final
    if method.name not in METHODS:
        raise ValueError(
            f"method.name is {method.name!r}; the methods are {sorted(METHODS)}."
            + did_you_mean(method.name, METHODS)
        )
    for name, nu in (("method.nu", method.nu), ("final.nu", final.nu)):
        if not 0 < nu <= 1:
            raise ValueError(f"{name} is {nu}; it must lie in (0, 1].")
    for name, gamma in (("method.gamma", method.gamma), ("final.gamma", final.gamma)):
        number = isinstance(gamma, int | float) and 0 < gamma < math.inf
        if not number and gamma not in ("scale", "auto"):
            raise ValueError(
                f'{name} is {gamma!r}; it must be a positive number, "scale" or "auto".'
            )
    if method.name == "turned_ogae" and isinstance(method.gamma, str):
        raise ValueError(f"method.gamma is {method.gamma!r}; turned_ogae needs a number.")
    for name in _WEIGHTS:
        if not 0 <= method[name] < math.inf:
            raise ValueError(f"method.{name} is {method[name]}; it must be finite, at least 0.")
    if method.similarity not in SIMILARITIES:
        raise ValueError(
            f"method.similarity is {method.similarity!r}; it must be one of {SIMILARITIES}."
            + did_you_mean(method.similarity, SIMILARITIES)
        )
    if not 0 <= method.pretrain < 1:
        raise ValueError(
            f"method.pretrain is {method.pretrain}; it is a share of the epochs in [0, 1)."
        )
    # Raises on a name or weights that can not work.
    beta_schedule(ConfigDict(method.to_dict() | {"num_epochs": train.epochs}))
    if train.batch_size < 2 or train.batch_size % 2:
        raise ValueError(
            f"train.batch_size is {train.batch_size}; the guidance splits a batch in two halves, "
            "so it must be an even number of at least 2."
        )
    smallest = {
        "train.epochs": (train.epochs, 1),
        "train.checkpoint_every": (train.checkpoint_every, 1),
        "train.patience": (train.patience, 0),
        "method.last_m": (method.last_m, 1),
        "method.latent_dim": (method.latent_dim, 1),
        "eval.resamples": (config.eval.resamples, 1),
    }
    for name, (value, least) in smallest.items():
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}.")
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"seed is {config.seed}; it must lie in [0, 2^31).")
    if not 0 < train.held_out < 1:
        raise ValueError(f"train.held_out is {train.held_out}; it is a share in (0, 1).")
    if not 0 < train.learning_rate < math.inf:
        raise ValueError(
            f"train.learning_rate is {train.learning_rate}; it must be positive and finite."
        )


def field_names(config: Config, prefix: str = "") -> list[str]:
    """All names of a configuration, dotted: "seed", "data.dir", ..."""
    names = []
    for key, value in config.items():
        inner = isinstance(value, ConfigDict)
        names += field_names(value, f"{prefix}{key}.") if inner else [prefix + key]
    return names


def build_method(config: Config) -> Method:
    """The method of a checked configuration."""
    settings = config.method.to_dict() | {"num_epochs": config.train.epochs}
    return method_of(settings, config.train.learning_rate)


def method_of(settings: Mapping[str, Any], learning_rate: float) -> Method:
    """A registered method on the paper's 28 x 28 autoencoder.

    Args:
      settings: the fields of a card's `method`, and `num_epochs`; those that the method's recipe
        lists as `traced` may be traced.
      learning_rate: of Adam.
    """
    recipe = METHODS[settings["name"]]
    encoder = Encoder(recipe.heads * settings["latent_dim"], recipe.encoder_bias)
    network = Network(from_flax(encoder), from_flax(Decoder()))
    return recipe.build(network, optax.adam(learning_rate), SimpleNamespace(**settings))


def plain(config: Config) -> dict[str, Any]:
    """The configuration as JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))
