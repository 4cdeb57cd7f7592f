"""Frozen dataclasses as pytrees."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(
    data_fields: Sequence[str] = (), meta_fields: Sequence[str] = ()
) -> Callable[[type[T]], type[T]]:
    """Registers a frozen dataclass: leaves in `data_fields`, hashable constants in `meta_fields`.

    Other fields are dropped by transformations, and are then what the class says by default.

    In place of `jax.tree_util.register_dataclass`: under jax 0.10 to 0.12 its treedefs of two
    classes with equal constants compare equal, so that `jit`, now and then, runs for one kernel
    what it compiled for another. The class is made without `__init__`, since what JAX fills it
    with on the way need not be an array.
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
