"""The programs of an accelerator: one solves one dual, from K to rho, in one launch for all."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver import free_set, kkt, rounds
from ocsvm_jax.solver.dual import LaneSolution, in_given_units
from ocsvm_jax.solver.fused import matrix as fused_matrix
from ocsvm_jax.solver.fused.elimination import inverse_and_pivot
from ocsvm_jax.solver.problem import Problem, magnitude, start
from ocsvm_jax.solver.solution import Status

# Entries of a tile that one warp holds: 128 registers of float32 a thread.
_TILE_BYTES_PER_WARP = 64 * 64 * 4


def solve(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    *,
    max_steps: int,
    interpret: bool = False,
) -> LaneSolution:
    """As `dual.solve_lanes`, one program a problem.

    Args:
      K: (lanes, n, n) symmetric matrices.
      C: (lanes, n) upper bounds on alpha.
      tol: (lanes,) bounds on the gap; negative ones ask for the default.
      max_steps: bound on the two-variable steps of each lane.
      interpret: run the program by XLA, operation by operation, for tests.
    """
    dtype = K.dtype
    vector, number, integer = _of(dtype, C.shape), _of(dtype, tol.shape), _of(jnp.int32, tol.shape)
    shapes = LaneSolution(vector, number, vector, number, number, integer, integer)
    return _call(partial(_solve, max_steps=max_steps), shapes, (K, C, tol), interpret)


def projected_inverses(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"], *, interpret: bool = False
) -> tuple[Float[Array, "lanes n n"], Bool[Array, " lanes"]]:
    """The inverse of P K P on each free set, and whether it is singular and the inverse useless."""
    flags = free.astype(jnp.int32)
    shapes = _of(K.dtype, K.shape), _of(jnp.int32, K.shape[:1])
    inverses, singular = _call(_projected_inverse, shapes, (K, flags), interpret)
    return inverses, singular > 0


def _solve(K_ref: Any, C_ref: Any, tol_ref: Any, *out: Any, n: int, max_steps: int) -> None:
    out_refs = LaneSolution(*out)
    there = jnp.arange(C_ref.shape[0], dtype=jnp.int32) < n
    C = triton.load(C_ref, mask=there, other=0)
    given = fused_matrix.conditioned(K_ref, C > 0, C.dtype)
    problem = Problem(
        matrix=given.matrix,
        linear=jnp.zeros_like(C),
        C=C,
        total=jnp.ones_like(given.unit),
        tol=tol_ref[:] / given.unit,
        underflow=given.underflow,
        one_sign=given.one_sign,
    )
    state = rounds.iterate(problem, start(problem, given.row_sums), max_steps)
    m = magnitude(problem, state.alpha, state.g)
    weights = kkt.rho_weights(state.alpha, state.g, C, m)
    shift = given.matrix.tile.shift
    sums = [jnp.sum(x, axis=0, keepdims=True) for x in (weights * state.g, state.alpha)]
    status = rounds.status_of(state, max_steps)
    found = LaneSolution(
        alpha=state.alpha,
        rho=given.unit * (sums[0] + shift * sums[1]),
        rho_weights=weights,
        shift=given.unit * shift,
        gap=in_given_units(given.unit, state.gap),
        num_steps=state.steps,
        status=jnp.where(given.finite, status, jnp.int32(Status.INVALID)),
    )
    for ref, value in zip(out_refs, found, strict=True):
        triton.store(ref, value, mask=there if ref.shape == C.shape else None)


def _projected_inverse(K_ref: Any, free_ref: Any, out_ref: Any, singular_ref: Any, *, n: int) -> None:
    there = jnp.arange(free_ref.shape[0], dtype=jnp.int32) < n
    free = triton.load(free_ref, mask=there, other=0) > 0
    matrix = fused_matrix.as_given(K_ref, there, out_ref.dtype)
    system = fused_matrix.reduced_system(matrix, free)
    inverse, pivot = inverse_and_pivot(fused_matrix.damped(matrix, system), system.movable)
    scale = jnp.where(system.movable, system.scale, 0)
    rows = inverse * scale[:, None] * scale[None, :]
    reference = system.reference
    rows = jnp.where(reference[:, None], -jnp.sum(rows, axis=0)[None, :], rows)
    whole = jnp.where(reference[None, :], -jnp.sum(rows, axis=1)[:, None], rows)
    coincide = jnp.sum((free & ~reference & ~system.movable).astype(jnp.int32), axis=0)
    damping = free_set.damping(free.shape[0], out_ref.dtype)
    singular = free_set.is_singular(pivot, damping) | (coincide > 0)
    triton.store(out_ref, whole, mask=there[:, None] & there[None, :])
    singular_ref[:] = jnp.full((1,), 1, jnp.int32) * singular.astype(jnp.int32)


def _call(program: Any, shapes: Any, arrays: tuple[Array, ...], interpret: bool) -> Any:
    """Runs a program for each problem; its references are blocks of one problem."""
    lanes, n = arrays[1].shape
    size = max(16, pl.next_power_of_2(n))
    leaves, tree = jax.tree.flatten(shapes)
    warps = max(1, size * size * arrays[0].dtype.itemsize // _TILE_BYTES_PER_WARP)

    def block(x: Any) -> pl.BlockSpec:
        rest = x.ndim - 1
        if rest == 0:
            return pl.BlockSpec((1,), lambda i: (i,))
        return pl.BlockSpec((None, *(size,) * rest), lambda i: (i, *(0,) * rest))

    out = pl.pallas_call(
        partial(program, n=n),
        out_shape=leaves,
        grid=(lanes,),
        in_specs=[block(x) for x in arrays],
        out_specs=[block(x) for x in leaves],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name="ocsvm",
    )(*arrays)
    return jax.tree.unflatten(tree, out)


def _of(dtype: Any, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)
