"""Short texts about arrays, which `repr` shows instead of their values."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ocsvm_jax.arrays.arguments import is_concrete


def is_readable(*leaves: Any) -> bool:
    """Whether the values of all leaves can be read: not traced, deleted or on another host."""
    return all(_is_readable(leaf) for leaf in leaves)


def _is_readable(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        return is_concrete(leaf) and leaf.is_fully_addressable and not leaf.is_deleted()
    return isinstance(leaf, (np.ndarray, np.generic, int, float))


def shown(value: Any) -> str:
    """A number with four digits, an array as dtype[shape], anything else by its name."""
    if _is_readable(value) and np.ndim(value) == 0:
        return f"{np.asarray(value).item():.4g}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f"{f.name}={shown(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(fields)})"
    function = getattr(value, "func", value)  # unwraps a Partial
    return getattr(function, "__name__", type(function).__name__)


def shown_range(name: str, values: Any) -> str:
    """name=value; the smallest and largest value for a batch, dtype[shape] if traced."""
    if not _is_readable(values) or np.ndim(values) == 0:
        return f"{name}={shown(values)}"
    values = np.asarray(values)
    if values.size == 0:
        return f"{name} of none"
    return f"{name} {np.min(values):.4g} to {np.max(values):.4g}"


def counted(number: int, what: str) -> str:
    """The number and the noun, in the plural if needed: "1 point", "2 points"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
