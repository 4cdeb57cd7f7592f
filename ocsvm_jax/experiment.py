"""One experiment: its configuration, the parts it is built from, and its working directory."""

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optax
from ml_collections import ConfigDict

from ocsvm_jax import data
from ocsvm_jax.guidance import constant_betas
from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.networks import Decoder, Encoder
from ocsvm_jax.networks.pair import Network, from_flax

CONFIG_FILE = "config.json"


def check(config: ConfigDict) -> None:
    """Raises ValueError on the first value that can not work, before anything is loaded."""
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
        if gamma not in ("scale", "auto") and (isinstance(gamma, str) or not gamma > 0):
            raise ValueError(
                f'{name} is {gamma!r}; it must be a positive number, "scale" or "auto".'
            )
    if method.guidance_weight < 0:
        raise ValueError(
            f"method.guidance_weight is {method.guidance_weight}; it must be at least 0."
        )
    if method.schedule not in ("constant", "two_phase"):
        raise ValueError(f'method.schedule is {method.schedule!r}; use "constant" or "two_phase".')
    constant_betas(method.betas)
    constant_betas(method.betas_second)
    if train.batch_size < 2 or train.batch_size % 2:
        raise ValueError(
            f"train.batch_size is {train.batch_size}; the guidance splits a batch in two halves, so it "
            "must be an even number of at least 2."
        )
    counts = {
        "train.epochs": train.epochs,
        "train.checkpoint_every": train.checkpoint_every,
        "method.last_m": method.last_m,
        "method.latent_dim": method.latent_dim,
    }
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    if not 0 < train.held_out < 1:
        raise ValueError(f"train.held_out is {train.held_out}; it is a share in (0, 1).")
    if not train.learning_rate > 0:
        raise ValueError(f"train.learning_rate is {train.learning_rate}; it must be positive.")


def did_you_mean(word: str, words: Any) -> str:
    """A sentence that names the nearest of `words`, or nothing."""
    near = difflib.get_close_matches(str(word), list(words), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def field_names(config: ConfigDict, prefix: str = "") -> list[str]:
    """All names of a configuration, dotted: "seed", "data.dir", ..."""
    names = []
    for key, value in config.items():
        inner = isinstance(value, ConfigDict)
        names += field_names(value, f"{prefix}{key}.") if inner else [prefix + key]
    return names


def build_method(config: ConfigDict) -> Method:
    """The method of a checked configuration, on the paper's 28 x 28 autoencoder."""
    network = Network(from_flax(Encoder(config.method.latent_dim)), from_flax(Decoder()))
    settings = ConfigDict(config.method.to_dict() | {"num_epochs": config.train.epochs})
    return METHODS[config.method.name](network, optax.adam(config.train.learning_rate), settings)


def load_data(config: ConfigDict) -> tuple[data.Dataset, data.ImageSet, data.ImageSet]:
    """The dataset, and its training images divided into those trained on and those held out."""
    dataset = data.load(**config.data.to_dict())
    train, held_out = data.holdout(dataset.train, config.train.held_out, config.seed)
    size = config.train.batch_size
    if len(train.images) < size or len(held_out.images) < 2:
        raise ValueError(
            f"there are {len(train.images)} images to train on and {len(held_out.images)} held out, too "
            f"few for batches of {size}: lower train.batch_size or change train.held_out."
        )
    return dataset, train, held_out


def claim_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes `workdir` this configuration's own, or finds that it already is.

    Raises:
      ValueError: if it holds a run of another configuration, or files that are no run. Nothing is
        changed then.
    """
    check_workdir(workdir, config)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / CONFIG_FILE
    if not path.exists():
        write_atomically(path, json.dumps(plain(config), indent=2) + "\n")


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Raises ValueError where `claim_workdir` would; changes nothing."""
    path = workdir / CONFIG_FILE
    if path.exists():
        ours, theirs = _flat(plain(config)), _flat(json.loads(path.read_text()))
        different = sorted(k for k in ours | theirs if ours.get(k) != theirs.get(k))
        if different:
            lines = [f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now" for k in different]
            raise ValueError(
                f"{workdir} holds a run of another configuration:\n" + "\n".join(lines) + "\n"
                "Pass another --workdir, or remove that one. Nothing was changed."
            )
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(
            f"{workdir} is not empty and holds no {CONFIG_FILE}; pass a new or empty --workdir. "
            "Nothing was changed."
        )


def read_config(workdir: Path) -> ConfigDict:
    """The configuration of the run in `workdir`.

    Raises:
      ValueError: if there is none.
    """
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(f"{workdir} holds no {CONFIG_FILE}, so no run of train.py.")
    return ConfigDict(json.loads(path.read_text()))


def plain(config: ConfigDict) -> dict[str, Any]:
    """The configuration as JSON would give it back: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + key
        out |= _flat(value, name + ".") if isinstance(value, Mapping) else {name: value}
    return out


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file that appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)
