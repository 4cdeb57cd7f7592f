"""Trees of small arrays that are written together.

On an accelerator each array that is written costs the launch of a kernel, some microseconds,
however small it is. Packed, the arrays of a tree are as few as their dtypes.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ocsvm_jax.arrays.pytrees import pytree


class Layout(NamedTuple):
    """Where the arrays of a tree are in its packed form.

    Attributes:
      structure: of the tree.
      shapes: of its arrays, without the leading axes that all of them share.
      groups: for each vector the indices of its arrays, in their order.
    """

    structure: Hashable
    shapes: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]


@pytree(data_fields=["vectors"], meta_fields=["layout"])
@dataclass(frozen=True)
class Packed:
    """A tree of arrays in few vectors; a pytree itself, which may get further leading axes.

    Attributes:
      vectors: one (*leading, n) for each dtype of the tree.
      layout: where its arrays are.
    """

    vectors: tuple[Array, ...]
    layout: Layout

    def unpacked(self) -> Any:
        """The tree, with the leading axes that the vectors have."""
        structure, shapes, groups = self.layout
        leaves: dict[int, Array] = {}
        for vector, group in zip(self.vectors, groups, strict=True):
            start = 0
            for i in group:
                stop = start + prod(shapes[i])
                leaves[i] = vector[..., start:stop].reshape(*vector.shape[:-1], *shapes[i])
                start = stop
        return jax.tree.unflatten(structure, [leaves[i] for i in range(len(shapes))])


def packed(tree: Any, leading: int = 0) -> Packed:
    """Packs a tree of arrays without changing a value.

    Args:
      tree: arrays whose first axes are equal.
      leading: how many of those axes are kept.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, tree))
    by_dtype: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        by_dtype.setdefault(leaf.dtype, []).append(i)
    groups = tuple(map(tuple, by_dtype.values()))
    vectors = tuple(
        jnp.concatenate([leaves[i].reshape(*leaves[i].shape[:leading], -1) for i in group], axis=-1)
        for group in groups
    )
    return Packed(
        vectors, Layout(structure, tuple(leaf.shape[leading:] for leaf in leaves), groups)
    )
