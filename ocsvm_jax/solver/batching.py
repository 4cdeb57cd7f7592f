"""The batching rules: `vmap` of a solve becomes one solve over lanes.

Plain `vmap` would run every lane until the slowest is done and stream all matrices through memory
at each step. On a CPU a few lanes are solved at a time instead: their matrices stay in cache, a
SIMD register holds one number per lane, and few lanes wait for the slowest. An accelerator solves
all lanes at once. Nested `vmap`s are flattened into one axis of lanes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from ocsvm_jax import devices
from ocsvm_jax.arrays.parts import in_parts

# One AVX-512 register of float64, two of AVX2.
_CPU_LANES = 8


def lanes_function(
    run: Callable[..., Any],
    one_program: Callable[..., Any] | None = None,
    how: Literal["plain", "fused", "interpret"] = "plain",
) -> Callable[..., Any]:
    """Turns `run`, whose arrays all have a leading axis of lanes, into a function of one problem.

    The result takes the arrays of one problem. Under `vmap`, however nested, it calls `run` on
    all problems of the batch.

    Args:
      run: the function in plain JAX.
      one_program: the same as one program a problem, which takes `interpret`; None for "plain".
      how: "plain", "fused" to take that program on CUDA, or "interpret" to interpret it on every
        platform.
    """
    everywhere = how == "interpret"
    fused = one_program and partial(one_program, interpret=everywhere)

    @jax.custom_batching.custom_vmap
    def on_lanes(*args):
        return _on_each_shard(partial(_on_platform, run, fused, everywhere), args)

    @on_lanes.def_vmap
    def _flatten(axis_size, in_batched, *args):
        def merge(x, batched):
            if not batched:
                x = jnp.broadcast_to(x[None], (axis_size, *x.shape))
            return x.reshape((axis_size * x.shape[1], *x.shape[2:]))

        merged = [merge(x, batched) for x, batched in zip(args, in_batched, strict=True)]
        lanes = args[0].shape[1 if in_batched[0] else 0]
        out = on_lanes(*merged)
        split = lambda x: x.reshape((axis_size, lanes, *x.shape[1:]))  # noqa: E731
        return jax.tree.map(split, out), jax.tree.map(lambda _: True, out)

    def single(*args):
        return jax.tree.map(lambda x: x[0], on_lanes(*(x[None] for x in args)))

    return single


def _on_each_shard(run: Callable[..., Any], args: tuple[jax.Array, ...]) -> Any:
    """Lets each device solve its own problems where the mesh has explicit axes.

    With explicit axes, the default of `jax.make_mesh`, the type of the lanes carries their
    sharding. With automatic axes, or without a mesh, the compiler decides.
    """
    sharding = jax.typeof(args[0]).sharding
    lanes = sharding.spec[0] if len(sharding.spec) else None
    if lanes is None or jax.sharding.AxisType.Explicit not in sharding.mesh.axis_types:
        return run(args)
    spec = jax.sharding.PartitionSpec(lanes)
    local = jax.shard_map(run, mesh=sharding.mesh, in_specs=spec, out_specs=spec)
    return local(tuple(jax.sharding.reshard(x, spec) for x in args))


def _on_platform(
    run: Callable[..., Any],
    fused: Callable[..., Any] | None,
    everywhere: bool,
    args: tuple[jax.Array, ...],
) -> Any:
    lanes = args[0].shape[0]
    # The number of programs must be known when they are compiled.
    if fused is None or not isinstance(lanes, int) or lanes == 0:
        return _in_chunks(run, args)
    if jax.device_count() > 1:
        fused = _divisible(fused)
    if everywhere:
        return fused(*args)
    plain = lambda *args: _in_chunks(run, args)  # noqa: E731
    return lax.platform_dependent(*args, cuda=fused, default=plain)


def _divisible(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run`, of which each device takes its own lanes where automatic axes share them out.

    XLA cannot divide a program that it did not write: without this, every device would get all.
    """

    def positional(*args: jax.Array) -> Any:
        return run(*args)

    whole = custom_partitioning(positional)

    def along_lanes(mesh: Any, given: Any, shapes: Any) -> Any:
        lanes = given[0].sharding.spec[:1] or (None,)
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec(*lanes)), shapes)

    def infer(mesh: Any, given: Any, results: Any) -> Any:
        return along_lanes(mesh, given, results)

    def partition(mesh: Any, given: Any, results: Any) -> Any:
        return mesh, run, along_lanes(mesh, given, results), along_lanes(mesh, given, given)

    whole.def_partition(
        partition=partition, infer_sharding_from_operands=infer, sharding_rule=_along_lanes
    )
    return whole


def _along_lanes(mesh: Any, given: Any, results: Any) -> str:
    """The rule for Shardy: all arrays are divided along their first axis, or none."""
    del mesh
    shapes = [x.shape for x in (*given, *jax.tree.leaves(results))]
    names = [
        " ".join(["lanes", *(f"axis{i}{k}" for k in range(1, len(shape)))])
        for i, shape in enumerate(shapes)
    ]
    return f"{', '.join(names[: len(given)])} -> {', '.join(names[len(given) :])}"


def _in_chunks(run: Callable[..., Any], args: tuple[jax.Array, ...]) -> Any:
    lanes = args[0].shape[0]
    on_cpu = devices.on_cpu()
    if not isinstance(lanes, int):
        # `jax.export` leaves the number of problems symbolic, and chunks would have to divide it.
        return _one_at_a_time(run, args) if on_cpu else run(*args)
    if lanes == 0:
        one = [jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in args]
        out = jax.eval_shape(run, *one)
        return jax.tree.map(lambda x: jnp.zeros((0, *x.shape[1:]), x.dtype), out)
    if not on_cpu or lanes <= _CPU_LANES:
        return run(*args)
    return in_parts(run, args, _CPU_LANES)


def _one_at_a_time(run: Callable[..., Any], args: tuple[jax.Array, ...]) -> Any:
    def single(one: tuple[jax.Array, ...]) -> Any:
        return jax.tree.map(lambda x: x[0], run(*(x[None] for x in one)))

    return lax.map(single, args)
