"""Grids of nu and gamma, exact leave-one-out, and the choice of both without labels.

All of it works on the Gram matrix, up to some thousand points, under jit, vmap and grad. With more
points, loop on the host: `[ocsvm_fit(x, nu, kernel) for nu in nus]`. A `start=` from the
neighbouring nu saves rounds there but no time: its first gradient, which sums over all support
vectors, costs as much as the rounds it saves (measured on a CPU at 5,000 to 20,000 points).
"""

from ocsvm_jax.path.choice import ModelChoice, choose_model
from ocsvm_jax.path.criteria import mass_volume_area, uniform_in_ball, uniform_outlier_error
from ocsvm_jax.path.grid import ocsvm_path
from ocsvm_jax.path.unseen import LeaveOneOut, leave_one_out

__all__ = [
    "LeaveOneOut",
    "ModelChoice",
    "choose_model",
    "leave_one_out",
    "mass_volume_area",
    "ocsvm_path",
    "uniform_in_ball",
    "uniform_outlier_error",
]
