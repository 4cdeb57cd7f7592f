"""How problems are launched: which program sees how many of them, with how many warps."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver.dual import LaneSolution
from ocsvm_jax.solver.fused import programs
from ocsvm_jax.solver.fused.calls import call, padded_size, struct

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
    plan, C = _planned((K, C, tol), C, max_steps)
    arrays = (_padded(_symmetric(K, C > 0)), C, tol)
    program = partial(programs.solve, **plan.first)
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
    given = (x, factor, parameter, C, tol)
    plan, C = _planned(given, C, max_steps)
    size = padded_size(C.shape[1])
    out = plan.out, struct((C.shape[0], size, size), C.dtype, given)
    program = partial(
        programs.solve_points, kernel=kernel, d=x.shape[2], interpret=interpret, **plan.first
    )
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


def _planned(
    given: tuple[Array, ...], C: Float[Array, "lanes n"], max_steps: int
) -> tuple[_Plan, Float[Array, "lanes n"]]:
    """The plan for problems that are given by these arrays, and C in the form for the programs."""
    lanes, n = C.shape
    size = padded_size(n)
    slots = size if lanes <= _FEW else min(size, max(32, size // 2))
    whole = {"n": n, "slots": size, "max_steps": max_steps}
    quick = {"n": n, "slots": slots, "max_steps": min(_QUICK * n, max_steps)}
    out = _results(
        vector=struct((lanes, n), C.dtype, given),
        number=struct((lanes,), C.dtype, given),
        integer=struct((lanes,), jnp.int32, given),
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
    program = partial(programs.go_on, **plan.second)
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
    program = partial(programs.projected_inverse, n=free.shape[1], slots=slots)
    arrays = _padded(K), free.astype(jnp.int32)
    out = struct(K.shape, K.dtype, (K, free))
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
