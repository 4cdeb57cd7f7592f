"""The solve of many small duals as one program a problem, for a GPU.

In plain JAX a solve is a loop of some hundred small kernels, and on a GPU each costs a launch. Here
one program solves one problem, from K to rho, and all problems are one launch. The programs are
written in Pallas and compiled by Triton. The iteration is the same code (rounds, smo, newton, kkt);
what differs is how K is read (`tile`, `matrix`) and how the system of a free set is solved
(`system`, `elimination`).
"""

from typing import TYPE_CHECKING, Any

from ocsvm_jax.solver.fused.choice import Choice, choice

if TYPE_CHECKING:  # so that type checkers see what `__getattr__` imports
    from ocsvm_jax.solver.fused.launches import projected_inverses, solve_lanes, solve_points

__all__ = ["Choice", "choice", "projected_inverses", "solve_lanes", "solve_points"]


def __getattr__(name: str) -> Any:
    """Imports the programs on first use: Pallas takes longer than the rest of the solver."""
    if name in __all__:
        from ocsvm_jax.solver.fused import launches

        return getattr(launches, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
