"""The fields of a card's `method`: only those of the chosen method may be set.

`unset` gives a card the fields of all methods, without values. A field left unset has the default
of the method's function in `ocsvm_jax.methods`; a field that is set must belong to the chosen
method.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

import optax
from ml_collections import ConfigDict, config_dict

from ocsvm_jax.experiments.fields import Config
from ocsvm_jax.methods import METHODS, Method, Recipe
from ocsvm_jax.methods.arguments import ArgumentError
from ocsvm_jax.networks.pair import Network
from ocsvm_jax.suggestions import did_you_mean

# Fields of `method` that are not arguments of the method.
_COMMON = ("name", "latent_dim")


def unset(name: str, latent_dim: int) -> Config:
    """The `method` of a card: a name, the latent dimensions, and all other fields unset.

    Args:
      name: name of a registered method.
      latent_dim: number of latent dimensions.
    """
    fields = ConfigDict({"name": name, "latent_dim": latent_dim})
    for recipe in METHODS.values():
        for field, default in recipe.fields.items():
            fields[field] = config_dict.placeholder(_type(recipe, field, default))
    return fields


def _type(recipe: Recipe, field: str, default: Any) -> type:
    """Type accepted on the command line: `object` for a number or a name."""
    if isinstance(default, tuple):
        return tuple
    choices = {type(choice) for choice in _leaves(get_type_hints(recipe.build)[field])}
    return object if str in choices and not isinstance(default, str) else type(default)


def _leaves(hint: Any) -> Iterable[Any]:
    parts = get_args(hint)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [hint]


def resolved(config: Config) -> Config:
    """The card with the fields of its method only, all of them set.

    The card of a table (`config.table`) keeps the fields of all methods.

    Raises:
      ValueError: if no method has this name, or the method does not have a field.
    """
    out = config.copy_and_resolve_references()
    name = out.method.name
    if name not in METHODS:
        raise ValueError(
            f"method.name is {name!r}; the methods are {sorted(METHODS)}."
            + did_you_mean(name, METHODS)
        )
    chosen = METHODS if "table" in out else (name,)
    own = {key: value for method in chosen for key, value in METHODS[method].fields.items()}
    given = {key: value for key, value in out.method.items() if value is not None}
    for key in given:
        if key not in own and key not in _COMMON:
            others = [other for other, recipe in METHODS.items() if key in recipe.fields]
            raise ValueError(
                f"method.{key} is no field of {name}{', but of ' * bool(others)}"
                f"{', '.join(others)}.{did_you_mean(key, own)} The fields of {name} are: "
                f"{', '.join(own) or 'none'}."
            )
    with out.unlocked():
        out.method = ConfigDict({key: given[key] for key in _COMMON} | own | given)
    return out


def settings_of(config: Config, method: str) -> dict[str, Any]:
    """Name, latent dimensions and all fields of a method, after a round trip through JSON.

    Fields left unset in the card have their defaults; fields of other methods are left out.
    """
    card = config.method.to_dict()
    given = {key: card[key] for key in METHODS[method].fields if card.get(key) is not None}
    common = {"name": method, "latent_dim": card["latent_dim"]}
    return json.loads(json.dumps(common | METHODS[method].fields | given))


def without_foreign(config: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json without fields of other methods, which older versions wrote."""
    method = config.get("method", {})
    if "table" in config or method.get("name") not in METHODS:
        return config
    own = {*_COMMON, *METHODS[method["name"]].fields}
    return config | {"method": {key: value for key, value in method.items() if key in own}}


def built(
    recipe: Recipe,
    network: Network,
    optimizer: optax.GradientTransformation,
    settings: Mapping[str, Any],
) -> Method:
    """Builds the method of a recipe from the settings that it takes.

    Raises:
      ValueError: if a value is invalid; the message begins with "method.".
    """
    with fields_named():
        return recipe.made(network, optimizer, settings)


@contextmanager
def fields_named() -> Iterator[None]:
    """Makes messages about an argument of a method name its field, "method.<argument>"."""
    try:
        yield
    except ArgumentError as error:
        raise ValueError(f"method.{error}") from error
