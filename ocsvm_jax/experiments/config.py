"""One experiment: its configuration, the parts it is built from, and its working directory."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optax
from ml_collections import ConfigDict

from ocsvm_jax import data
from ocsvm_jax.files import whole_file
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

CONFIG_FILE = "config.json"
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


def load_data(config: Config) -> tuple[data.Dataset, data.ImageSet, data.ImageSet]:
    """The dataset, and its training images divided into those trained on and those held out."""
    dataset = data.load(**config.data.to_dict())
    train, held_out = data.holdout(dataset.train, config.train.held_out, config.seed)
    size = config.train.batch_size
    if len(train.images) < size or len(held_out.images) < 2:
        raise ValueError(
            f"there are {len(train.images)} images to train on and {len(held_out.images)} held "
            f"out, too few for batches of {size}: lower train.batch_size or change train.held_out."
        )
    return dataset, train, held_out


def claim_workdir(workdir: Path, config: Config, free: Sequence[str] = ()) -> None:
    """Makes `workdir` this configuration's own, or finds that it already is.

    Args:
      workdir: made where it is missing.
      config: the configuration.
      free: fields ("seed"), or groups of fields ("eval."), that may be others than before; the
        newest are kept.

    Raises:
      ValueError: if it holds a run of another configuration, or files that are no run. Nothing is
        changed then.
    """
    check_workdir(workdir, config, free)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / CONFIG_FILE
    if free or not path.exists():
        with whole_file(path) as file:
            file.write((json.dumps(plain(config), indent=2) + "\n").encode())


def check_workdir(workdir: Path, config: Config, free: Sequence[str] = ()) -> None:
    """Raises ValueError where `claim_workdir` would; changes nothing."""
    if (workdir / CONFIG_FILE).exists():
        ours, theirs = _flat(plain(config)), _flat(_read(workdir))
        different = sorted(
            k
            for k in ours | theirs
            if ours.get(k) != theirs.get(k)
            and not any(k == name or (name[-1] == "." and k.startswith(name)) for name in free)
        )
        if different:
            lines = [f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now" for k in different]
            raise ValueError(
                f"{workdir} holds a run of another configuration:\n" + "\n".join(lines) + "\n"
                "Pass another --workdir, or remove that one. Nothing was changed."
            )
    elif workdir.exists() and not workdir.is_dir():
        raise ValueError(f"{workdir} is a file; pass a new or empty directory as --workdir.")
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(
            f"{workdir} is not empty and holds no {CONFIG_FILE}; pass a new or empty --workdir. "
            "Nothing was changed."
        )


def read_config(workdir: Path) -> Config:
    """The configuration of the run in `workdir`.

    Raises:
      ValueError: if there is none that can be read.
    """
    if not (workdir / CONFIG_FILE).exists():
        raise ValueError(f"{workdir} holds no {CONFIG_FILE}, so no run of train.py.")
    return ConfigDict(_read(workdir))


def _read(workdir: Path) -> dict[str, Any]:
    path = workdir / CONFIG_FILE
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Nothing was changed.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no object. Nothing was changed.")
    return config


def plain(config: Config) -> dict[str, Any]:
    """The configuration as JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + key
        out |= _flat(value, name + ".") if isinstance(value, Mapping) else {name: value}
    return out
