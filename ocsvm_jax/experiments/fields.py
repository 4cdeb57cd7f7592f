"""Rules for the fields of a card: the values that they may have.

A rule is called as `rule(name, value)` with the full name of the field, and raises ValueError with
what was received and what is possible. Values that the functions of `ocsvm_jax.methods` refuse
themselves need no rule: methods are built before any long computation.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from ocsvm_jax.methods.arguments import Check, at_least, check_gamma, check_nu, number, whole
from ocsvm_jax.suggestions import did_you_mean

if TYPE_CHECKING:
    # For a type checker, every field of a ConfigDict is a union of all possible types.
    Config = Any
else:
    Config = ConfigDict


def check(config: Config, rules: Mapping[str, Check]) -> None:
    """Raises ValueError for the first field with an invalid value.

    Args:
      config: a card.
      rules: checks by the full name of the field, such as "train.epochs".
    """
    for name, rule in rules.items():
        value = config
        for part in name.split("."):
            value = value[part]
        rule(name, value)


def each_once(name: str, values: Sequence[Any]) -> None:
    """Raises ValueError unless there is at least one value and all values differ."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} is {values}; name one or more, each once.")


def names_of(known: Iterable[str]) -> Check:
    """A check that all names in a list are among `known`."""
    names = tuple(known)

    def check(name: str, values: Sequence[str]) -> None:
        for value in values:
            if value not in names:
                near = did_you_mean(value, names)
                raise ValueError(f"{name} names {value!r}; it knows {names}.{near}")

    return check


def seeds(name: str, values: Sequence[int]) -> None:
    """Raises ValueError unless there is at least one seed and all seeds differ."""
    each_once(name, values)
    if any(not isinstance(seed, int) or not 0 <= seed < 2**31 for seed in values):
        raise ValueError(f"{name} is {values}; they must be whole numbers in [0, 2^31).")


def all_of(*checks: Check) -> Check:
    """A check that applies several checks in order."""

    def check(name: str, value: Any) -> None:
        for one in checks:
            one(name, value)

    return check


share = number(lambda value: 0 < value < 1, "it must be a share in (0, 1)")
share_or_all = number(lambda value: 0 < value <= 1, "it must be a share in (0, 1]")
FINAL: dict[str, Check] = {"final.nu": check_nu, "final.gamma": check_gamma}
# Rules of every experiment.
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
        "guidance splits a batch into halves, so it must be even and at least 2",
    ),
    "train.held_out": share,
    **COMMON,
}
