"""Frozen dataclasses as pytrees."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(
    data_fields: Sequence[str] = (), meta_fields: Sequence[str] = ()
) -> Callable[[type[T]], type[T]]:
    """Registers a frozen dataclass: leaves in `data_fields`, hashable constants in `meta_fields`.

    Transformations drop other fields, which then have the default of the class.

    This replaces `jax.tree_util.register_dataclass`: in jax 0.10 to 0.12 its treedefs of two
    classes with equal constants compare equal, so that `jit` sometimes runs for one kernel the
    program it compiled for another. Objects are rebuilt without calling `__init__`, since JAX may
    fill them with leaves that are not arrays.
    """

    def register(cls: type[T]) -> type[T]:
        def constants(value: T) -> tuple[Any, ...]:
            return tuple(getattr(value, name) for name in meta_fields)

        def flatten(value: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            return tuple(getattr(value, name) for name in data_fields), constants(value)

        def flatten_with_keys(value: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            keyed = ((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in data_fields)
            return tuple(keyed), constants(value)

        def unflatten(constants: tuple[Any, ...], leaves: Any) -> T:
            value = object.__new__(cls)
            for names, found in ((data_fields, leaves), (meta_fields, constants)):
                for name, field in zip(names, found, strict=True):
                    object.__setattr__(value, name, field)
            return value

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return register
