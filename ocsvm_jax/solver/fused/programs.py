"""The programs: one solves one dual, from K to rho, and one inverts the system of one free set.

They take references to the arrays of one problem, as `calls.call` gives them.
"""

from typing import Any

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool

from ocsvm_jax.solver import kkt, rounds
from ocsvm_jax.solver.dual import LaneSolution, in_given_units
from ocsvm_jax.solver.fused.gram import write_gram
from ocsvm_jax.solver.fused.matrix import Conditioned, conditioned
from ocsvm_jax.solver.fused.pseudo_inverse import pseudo_inverse
from ocsvm_jax.solver.fused.system import pairs, scaled, system_of
from ocsvm_jax.solver.fused.tile import Tile, indices, scalar
from ocsvm_jax.solver.problem import Problem, magnitude, start
from ocsvm_jax.solver.solution import Status


def solve(
    K_ref: Any, C_ref: Any, tol_ref: Any, *out: Any, n: int, slots: int, max_steps: int
) -> None:
    """Solves the dual of K.

    Args:
      K_ref: the (size, size) matrix, 0 where a point takes no part.
      C_ref: the (n,) upper bounds on alpha.
      tol_ref: the bound on the gap.
      *out: the results, in the order of a `LaneSolution`.
      n: number of points.
      slots: the largest free set for which a system is solved.
      max_steps: bound on the two-variable steps.
    """
    problem, given, there = _posed(K_ref, C_ref, tol_ref, n, slots)
    state = rounds.iterate(problem, start(problem, given.row_sums), max_steps)
    _write(out, there, problem, given, state, max_steps)


def solve_points(
    x_ref: Any,
    factor_ref: Any,
    parameter_ref: Any,
    C_ref: Any,
    tol_ref: Any,
    *out: Any,
    kernel: Any,
    d: int,
    interpret: bool,
    **settings: Any,
) -> None:
    """Makes K of points and solves its dual.

    Args:
      x_ref: the (n, d) points.
      factor_ref: the (d,) factors of their coordinates.
      parameter_ref: the parameter of the kernel.
      C_ref: see `solve`.
      tol_ref: see `solve`.
      *out: the results of `solve`, then K.
      kernel: see `solver.pairwise.Pairwise`.
      d: number of coordinates.
      interpret: whether the program is run by XLA, operation by operation.
      **settings: the keyword arguments of `solve`.
    """
    *results, K_ref = out
    points = (x_ref, factor_ref, parameter_ref)
    write_gram(kernel, points, C_ref, K_ref, n=settings["n"], d=d, interpret=interpret)
    solve(K_ref, C_ref, tol_ref, *results, **settings)


def go_on(
    K_ref: Any, C_ref: Any, tol_ref: Any, *refs: Any, n: int, slots: int, max_steps: int
) -> None:
    """Continues a solve that did not converge; the references to what is known are the results'."""
    known: Any = LaneSolution(*refs[:7])
    status = scalar(triton.load(known.status))

    @pl.when((status == Status.STALLED) | (status == Status.OUT_OF_STEPS))
    def _() -> None:
        problem, given, there = _posed(K_ref, C_ref, tol_ref, n, slots)
        alpha = triton.load(known.alpha, mask=there, other=0)
        state = rounds.iterate(problem, alpha, max_steps, triton.load(known.num_steps))
        _write(refs[7:], there, problem, given, state, max_steps)


def _posed(
    K_ref: Any, C_ref: Any, tol_ref: Any, n: int, slots: int
) -> tuple[Problem, Conditioned, Bool[Array, " size"]]:
    """The problem as `dual.solve_lanes` poses it, and which points are there."""
    there = indices(K_ref.shape[0]) < n
    C = triton.load(C_ref, mask=there, other=0)
    given = conditioned(K_ref, C_ref, C, slots)
    problem = Problem(
        matrix=given.matrix,
        linear=jnp.zeros_like(C),
        C=C,
        total=jnp.ones_like(given.unit),
        tol=triton.load(tol_ref) / given.unit,
        underflow=given.underflow,
        one_sign=given.one_sign,
    )
    return problem, given, there


def _write(
    out: tuple[Any, ...],
    there: Bool[Array, " size"],
    problem: Problem,
    given: Conditioned,
    state: rounds.Rounds,
    max_steps: int,
) -> None:
    """Writes what `dual.solve_lanes` returns."""
    m = magnitude(problem, state.alpha, state.g)
    weights = kkt.rho_weights(state.alpha, state.g, problem.C, m)
    shift = given.matrix.tile.shift
    rho = jnp.sum(weights * state.g, axis=0, keepdims=True)
    total = jnp.sum(state.alpha, axis=0, keepdims=True)
    status = rounds.status_of(state, max_steps)
    found = LaneSolution(
        alpha=state.alpha,
        rho=given.unit * (rho + shift * total),
        rho_weights=weights,
        shift=given.unit * shift,
        gap=in_given_units(given.unit, state.gap),
        num_steps=state.steps,
        status=jnp.where(given.finite, status, jnp.int32(Status.INVALID)),
    )
    for ref, value in zip(out, found, strict=True):
        triton.store(ref, value, mask=there if ref.shape == there.shape else None)


def projected_inverse(K_ref: Any, free_ref: Any, out_ref: Any, *, n: int, slots: int) -> None:
    """The pseudo-inverse of P K P, in the rows and columns of the (n,) free set."""
    one = jnp.ones((1,), out_ref.dtype)
    tile = Tile(K_ref, one, 0 * one)
    free = triton.load(free_ref, mask=indices(slots) < n, other=0) > 0
    of = system_of(tile, free, slots)
    both = of.used[:, None] & of.used[None, :]
    triton.store(out_ref.at[*pairs(of)], pseudo_inverse(scaled(tile, of), of), mask=both)
