"""Rules of a card's fields: what values they may have, each said once.

A rule is called as `rule(name, value)` with the full name of the field, and raises ValueError with
what was received and what is possible. What the functions of `ocsvm_jax.methods` refuse themselves
needs no rule: methods are built before anything long begins.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from ocsvm_jax.methods.arguments import Check, at_least, check_gamma, check_nu, number, whole
from ocsvm_jax.suggestions import did_you_mean

if TYPE_CHECKING:
    # To a type checker, a field of a ConfigDict is a union of all that a field can be.
    Config = Any
else:
    Config = ConfigDict


def check(config: Config, rules: Mapping[str, Check]) -> None:
    """Raises ValueError on the first field whose value is not possible.

    Args:
      config: a card.
      rules: by the full name of the field, such as "train.epochs", what its value is checked by.
    """
    for name, rule in rules.items():
        value = config
        for part in name.split("."):
            value = value[part]
        rule(name, value)


def each_once(name: str, values: Sequence[Any]) -> None:
    """Raises ValueError unless there are one or more values that differ from one another."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} is {values}; name one or more, each once.")


def names_of(known: Iterable[str]) -> Check:
    """A check of a list of names."""
    names = tuple(known)

    def check(name: str, values: Sequence[str]) -> None:
        for value in values:
            if value not in names:
                near = did_you_mean(value, names)
                raise ValueError(f"{name} names {value!r}; it knows {names}.{near}")

    return check


def seeds(name: str, values: Sequence[int]) -> None:
    """Raises ValueError unless all values are different seeds, one or more."""
    each_once(name, values)
    if any(not isinstance(seed, int) or not 0 <= seed < 2**31 for seed in values):
        raise ValueError(f"{name} is {values}; they are whole numbers in [0, 2^31).")


def all_of(*checks: Check) -> Check:
    """One check after another."""

    def check(name: str, value: Any) -> None:
        for one in checks:
            one(name, value)

    return check


share = number(lambda value: 0 < value < 1, "it is a share in (0, 1)")
share_or_all = number(lambda value: 0 < value <= 1, "it is a share in (0, 1]")
FINAL: dict[str, Check] = {"final.nu": check_nu, "final.gamma": check_gamma}
# Of every experiment.
COMMON: dict[str, Check] = {
    "train.epochs": at_least(1),
    "train.patience": at_least(0),
    "train.checkpoint_every": at_least(1),
    "train.learning_rate": number(
        lambda value: 0 < value < math.inf, "it must be positive and finite"
    ),
    "eval.resamples": at_least(1),
    **FINAL,
}
IMAGES: dict[str, Check] = {
    "seed": whole(lambda value: 0 <= value < 2**31, "it must lie in [0, 2^31)"),
    "train.batch_size": whole(
        lambda value: value >= 2 and value % 2 == 0,
        "the guidance splits a batch in two halves, so it must be an even number of at least 2",
    ),
    "train.held_out": share,
    **COMMON,
}
