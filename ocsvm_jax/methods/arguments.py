"""Argument checks, whose messages state the value received and the values allowed.

A check is called as `check(name, value)`. A traced value passes, because it is not known yet.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ocsvm_jax.arrays.arguments import is_concrete
from ocsvm_jax.suggestions import did_you_mean

# An argument that may be traced: a number, or a NumPy or JAX scalar.
Number = float | Array
# gamma of the RBF kernel: a number, or a rule that finds it, see `ocsvm_jax.resolve_gamma`.
Gamma = Number | Literal["scale", "auto"]
Check = Callable[[str, Any], None]


class ArgumentError(ValueError):
    """An argument has an invalid value; the message begins with its name."""


def number(holds: Callable[[Any], bool], wanted: str) -> Check:
    """Returns a check that a value is a real scalar that satisfies `holds`.

    Args:
      holds: predicate on a Python number.
      wanted: description of the valid numbers for the message.
    """

    def check(name: str, value: Any) -> None:
        if is_concrete(value) and not (_is_real(value) and holds(_plain(value))):
            raise ArgumentError(f"{name} is {shown(value)}; {wanted}.")

    return check


def whole(holds: Callable[[int], bool], wanted: str) -> Check:
    """Returns a check that a value is an integer, not traced, that satisfies `holds`."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool):
            raise ArgumentError(f"{name} is {shown(value)}; it must be a whole number.")
        if not holds(int(value)):
            raise ArgumentError(f"{name} is {value}; {wanted}.")

    return check


def at_least(least: int) -> Check:
    """Returns a check that a value is an integer of at least `least`."""
    return whole(lambda value: value >= least, f"it must be at least {least}")


def one_of(choices: Sequence[str]) -> Check:
    """Returns a check that a value is one of these names."""

    def check(name: str, value: Any) -> None:
        if value not in choices:
            near = did_you_mean(value, choices)
            raise ArgumentError(f"{name} is {value!r}; it is one of {tuple(choices)}.{near}")

    return check


def some_of(choices: Sequence[str]) -> Check:
    """Returns a check that a value is one or more of these names, each at most once."""

    def check(name: str, value: Any) -> None:
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise ArgumentError(
                f"{name} is {shown(value)}; it must be a tuple of one or more of {tuple(choices)}."
            )
        for one in value:
            if one not in choices:
                near = did_you_mean(one, choices)
                raise ArgumentError(
                    f"{name} is {tuple(value)}; {one!r} is not one of {tuple(choices)}.{near}"
                )
        if len(set(value)) < len(value):
            raise ArgumentError(f"{name} is {tuple(value)}; each name may stand there once.")

    return check


check_nu = number(lambda value: 0 < value <= 1, "it must lie in (0, 1]")
check_weight = number(lambda value: 0 <= value < math.inf, "it must be finite, at least 0")
check_share = number(lambda value: 0 <= value <= 1, "it must lie in [0, 1]")
check_pretrain = number(lambda value: 0 <= value < 1, "it must be a share of the epochs in [0, 1)")
_positive = 'it must be a positive number, "scale" or "auto"'
_check_positive = number(lambda value: 0 < value < math.inf, _positive)


def check_gamma(name: str, value: Any) -> None:
    """Raises ArgumentError unless the value is a positive number, "scale" or "auto"."""
    if not isinstance(value, str) or value not in ("scale", "auto"):
        _check_positive(name, value)


def check_betas(name: str, value: Any) -> None:
    """Raises ArgumentError unless the value is two finite numbers of at least 0, traced or not."""
    pair = tuple(value) if isinstance(value, Iterable) else ()
    if len(pair) != 2 or not all(not is_concrete(b) or _is_weight(b) for b in pair):
        raise ArgumentError(
            f"{name} is {shown(value)}; it must be two finite numbers of at least 0, such as "
            "(1.0, 0.0)."
        )


def check_flag(name: str, value: Any) -> None:
    """Raises ArgumentError unless the value is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name} is {shown(value)}; it must be True or False.")


def shown(value: Any) -> str:
    """A value as shown in a message."""
    return repr(value) if isinstance(value, str) else str(value)


def _is_weight(value: Any) -> bool:
    return _is_real(value) and 0 <= _plain(value) < math.inf


def _is_real(value: Any) -> bool:
    if hasattr(value, "dtype"):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
        return real and jnp.ndim(value) == 0
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
