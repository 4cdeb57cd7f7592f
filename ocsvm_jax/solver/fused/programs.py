"""The programs: one solves one dual, from K to rho, and one inverts the system of one free set."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver import kkt, rounds
from ocsvm_jax.solver.dual import LaneSolution, in_given_units
from ocsvm_jax.solver.fused.calls import call, padded_size, struct
from ocsvm_jax.solver.fused.gram import write_gram
from ocsvm_jax.solver.fused.matrix import Conditioned, conditioned
from ocsvm_jax.solver.fused.pseudo_inverse import pseudo_inverse
from ocsvm_jax.solver.fused.system import pairs, scaled, system_of
from ocsvm_jax.solver.fused.tile import Tile, indices, scalar
from ocsvm_jax.solver.problem import Problem, magnitude, start
from ocsvm_jax.solver.solution import Status

# Entries of a system that one warp holds: 32 a thread.
_ENTRIES_PER_WARP = 32 * 32
# Up to this many problems there is a multiprocessor for each on the GPUs of data centres.
_FEW = 128
# A problem that the first program does not finish within this many steps a point is left to the
# second.
_QUICK = 8


def solve_lanes(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    *,
    max_steps: int,
    interpret: bool,
) -> LaneSolution:
    """As `dual.solve_lanes`, one program a problem.

    A few problems are solved by a program with slots for all points in the free set, which takes
    several warps. Of many, as many as possible should run at once: a program of one or two warps
    with fewer slots solves nearly all, and another, with all slots, continues where it did not
    converge and ends at once elsewhere.

    Args:
      K: (lanes, n, n) Gram matrices.
      C: (lanes, n) upper bounds on alpha.
      tol: (lanes,) bounds on the gap; negative ones ask for the default.
      max_steps: bound on the two-variable steps of each lane.
      interpret: run the program by XLA, operation by operation.
    """
    plan, C = _planned(C, max_steps)
    arrays = (_padded(_symmetric(K, C > 0)), C, tol)
    program = partial(_solve, **plan.first)
    found = call(
        program, arrays, plan.out, name="ocsvm_solve", warps=plan.warps, interpret=interpret
    )
    return _finished(found, arrays, plan, interpret)


def solve_points(
    kernel: Any,
    x: Float[Array, "lanes n d"],
    factor: Float[Array, "lanes d"],
    parameter: Float[Array, " lanes"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    *,
    max_steps: int,
    interpret: bool,
) -> LaneSolution:
    """As `solve_lanes`, of a K that the program makes from points.

    Args:
      kernel: see `solver.pairwise.Pairwise`.
      x: (lanes, n, d) points.
      factor: (lanes, d) factors of their coordinates.
      parameter: (lanes,) parameter of the kernel.
      C: (lanes, n) as in `solve_lanes`.
      tol: (lanes,) as in `solve_lanes`.
      max_steps: as in `solve_lanes`.
      interpret: as in `solve_lanes`.
    """
    plan, C = _planned(C, max_steps)
    size = padded_size(C.shape[1])
    out = plan.out, struct((C.shape[0], size, size), C.dtype, C)
    program = partial(_solve_points, kernel=kernel, d=x.shape[2], interpret=interpret, **plan.first)
    arrays = (x, factor, parameter, C, tol)
    found, K = call(
        program, arrays, out, name="ocsvm_points", warps=plan.warps, interpret=interpret
    )
    return _finished(found, (K, C, tol), plan, interpret)


class _Plan(NamedTuple):
    """The programs that solve a number of problems.

    Attributes:
      first: arguments of the program that sees all problems.
      warps: its number of warps.
      second: arguments of the one that continues, or None.
      out: the shapes of the results.
    """

    first: dict[str, int]
    warps: int
    second: dict[str, int] | None
    out: LaneSolution


def _planned(C: Float[Array, "lanes n"], max_steps: int) -> tuple[_Plan, Float[Array, "lanes n"]]:
    """The plan, and C in the form to give to the programs."""
    lanes, n = C.shape
    size = padded_size(n)
    slots = size if lanes <= _FEW else min(size, max(32, size // 2))
    whole = {"n": n, "slots": size, "max_steps": max_steps}
    quick = {"n": n, "slots": slots, "max_steps": min(_QUICK * n, max_steps)}
    out = _results(
        vector=struct((lanes, n), C.dtype, C),
        number=struct((lanes,), C.dtype, C),
        integer=struct((lanes,), jnp.int32, C),
    )
    if lanes > _FEW:
        # Without weights it is a constant, and XLA would compute with constants as large as K.
        C = lax.optimization_barrier(C)
    if slots == size:
        return _Plan(whole, _warps(size), None, out), C
    return _Plan(quick, _warps(slots), whole, out), C


def _finished(
    found: LaneSolution, arrays: tuple[Array, ...], plan: _Plan, interpret: bool
) -> LaneSolution:
    """What the first program found, continued where it did not converge."""
    if plan.second is None:
        return found
    program = partial(_continue, **plan.second)
    warps = _warps(plan.second["slots"])
    return call(
        program, arrays, plan.out, found, name="ocsvm_rest", warps=warps, interpret=interpret
    )


def projected_inverses(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"], *, interpret: bool
) -> Float[Array, "lanes n n"]:
    """The pseudo-inverse of P K P of each lane.

    Args:
      K: (lanes, n, n) symmetric matrices.
      free: (lanes, n) the free sets; the result is zero off them.
      interpret: run the program by XLA, operation by operation.
    """
    slots = padded_size(free.shape[1])
    program = partial(_projected_inverse, n=free.shape[1], slots=slots)
    arrays = _padded(K), free.astype(jnp.int32)
    out = struct(K.shape, K.dtype, K)
    name, warps = "ocsvm_projected_inverse", _warps(slots)
    inverses = call(program, arrays, out, name=name, warps=warps, interpret=interpret)
    # The program writes the rows and columns of the free set only.
    return jnp.where(free[:, :, None] & free[:, None, :], inverses, 0)


def _results(vector: Any, number: Any, integer: Any) -> LaneSolution:
    """The shapes of the results."""
    return LaneSolution(
        alpha=vector,
        rho=number,
        rho_weights=vector,
        shift=number,
        gap=number,
        num_steps=integer,
        status=integer,
    )


def _symmetric(
    K: Float[Array, "lanes n n"], part: Bool[Array, "lanes n"]
) -> Float[Array, "lanes n n"]:
    """The symmetric part of K; 0 where a point takes no part, which may hold anything."""
    half = 0.5 * jnp.where(part[:, :, None] & part[:, None, :], K, 0)
    return half + half.transpose(0, 2, 1)


def _padded(K: Float[Array, "lanes n n"]) -> Float[Array, "lanes size size"]:
    """Zeros around each matrix, to the size of a program's arrays."""
    fill = padded_size(K.shape[1]) - K.shape[1]
    return jnp.pad(K, ((0, 0), (0, fill), (0, fill)))


def _warps(slots: int) -> int:
    return max(1, slots * slots // _ENTRIES_PER_WARP)


def _solve(
    K_ref: Any, C_ref: Any, tol_ref: Any, *out: Any, n: int, slots: int, max_steps: int
) -> None:
    problem, given, there = _posed(K_ref, C_ref, tol_ref, n, slots)
    state = rounds.iterate(problem, start(problem, given.row_sums), max_steps)
    _write(out, there, problem, given, state, max_steps)


def _solve_points(
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
    *results, K_ref = out
    points = (x_ref, factor_ref, parameter_ref)
    write_gram(kernel, points, C_ref, K_ref, n=settings["n"], d=d, interpret=interpret)
    _solve(K_ref, C_ref, tol_ref, *results, **settings)


def _continue(
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


def _projected_inverse(K_ref: Any, free_ref: Any, out_ref: Any, *, n: int, slots: int) -> None:
    one = jnp.ones((1,), out_ref.dtype)
    tile = Tile(K_ref, one, 0 * one)
    free = triton.load(free_ref, mask=indices(slots) < n, other=0) > 0
    of = system_of(tile, free, slots)
    both = of.used[:, None] & of.used[None, :]
    triton.store(out_ref.at[*pairs(of)], pseudo_inverse(scaled(tile, of), of), mask=both)
