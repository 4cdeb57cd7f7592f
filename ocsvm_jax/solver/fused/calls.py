"""Calls of Pallas: a program for each problem, whose references are to the rows of that problem."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array


def call(
    program: Callable[..., None],
    arrays: tuple[Array, ...],
    out: Any,
    known: Any = None,
    *,
    name: str,
    warps: int,
    interpret: bool,
) -> Any:
    """Runs a program for each problem.

    A program sees the rows of its problem: numbers as (1,), vectors as (size,) and matrices as
    (size, size), where size is the `padded_size` of each axis; it must not touch what lies beyond
    the entries that are there.

    Args:
      program: takes references to the arrays, to what is known, and to the results.
      arrays: all with an axis of problems in front.
      out: a pytree of the shapes of the results.
      known: a pytree of the same shapes, whose memory becomes that of the results.
      name: of the program, for profiles.
      warps: groups of 32 threads of a program.
      interpret: run by XLA, operation by operation.
    """
    shapes, tree = jax.tree.flatten(out)
    before = jax.tree.leaves(known)
    given = (*arrays, *before)
    results = pl.pallas_call(
        program,
        out_shape=shapes,
        grid=(arrays[0].shape[0],),
        in_specs=[_rows(x) for x in given],
        out_specs=[_rows(x) for x in shapes],
        input_output_aliases={len(arrays) + i: i for i in range(len(before))},
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name=name,
    )(*given)
    return jax.tree.unflatten(tree, results)


def padded_size(n: int) -> int:
    """The size of vectors of n numbers in a program: a power of two."""
    return max(16, pl.next_power_of_2(n))


def struct(shape: tuple[int, ...], dtype: Any, given: tuple[Array, ...]) -> jax.ShapeDtypeStruct:
    """The shape of a result, which varies over the axes of a mesh that any of `given` varies over.

    A device may have its own bounds on alpha, and the same K as all others.
    """
    # A sum has the axes of all its terms; as nothing else of it is read, the compiler removes it.
    kind: Any = jax.typeof(sum(jnp.ravel(x)[0].astype(jnp.float32) for x in given))
    # The name changed in JAX 0.10.
    name = "manual_axis_type" if hasattr(kind, "manual_axis_type") else "vma"
    return jax.ShapeDtypeStruct(shape, dtype, **{name: getattr(kind, name)})


def _rows(x: Any) -> pl.BlockSpec:
    """The part of an array that belongs to one problem."""
    rest = x.ndim - 1
    if rest == 0:
        return pl.BlockSpec((1,), lambda i: (i,))
    sizes = tuple(padded_size(k) for k in x.shape[1:])
    return pl.BlockSpec((None, *sizes), lambda i: (i, *(0,) * rest))
