"""The solve of many small duals as one program a problem, for a GPU.

In plain JAX a solve is a loop of some hundred small kernels, and on a GPU each costs a launch. Here
one program solves one problem, from K to rho, and all problems are one launch. The programs are
written in Pallas and compiled by Triton. The iteration is the same code (rounds, smo, newton, kkt);
what differs is how K is read (`tile`, `matrix`) and how the system of a free set is solved
(`system`, `elimination`).
"""

from typing import Any

from jaxtyping import Array, Bool, Float

from ocsvm_jax.solver.fused.choice import Choice, choice

__all__ = ["Choice", "choice", "projected_inverses", "solve_lanes", "solve_points"]


def solve_lanes(
    K: Float[Array, "lanes n n"],
    C: Float[Array, "lanes n"],
    tol: Float[Array, " lanes"],
    *,
    max_steps: int,
    interpret: bool,
) -> Any:
    """As `dual.solve_lanes`; `interpret` runs the program operation by operation, for tests."""
    # Imported here, since Pallas takes longer to import than the rest of the solver.
    from ocsvm_jax.solver.fused import launches

    return launches.solve_lanes(K, C, tol, max_steps=max_steps, interpret=interpret)


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
) -> Any:
    """As `solve_lanes`, of a K that the program makes from points; see `solver.pairwise`."""
    from ocsvm_jax.solver.fused import launches

    given = (x, factor, parameter, C, tol)
    return launches.solve_points(kernel, *given, max_steps=max_steps, interpret=interpret)


def projected_inverses(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"], *, interpret: bool
) -> Float[Array, "lanes n n"]:
    """The pseudo-inverse of P K P of each lane, zero off its free set."""
    from ocsvm_jax.solver.fused import launches

    return launches.projected_inverses(K, free, interpret=interpret)
