"""Grids of nu and gamma, leave-one-out, their choice without labels, and ensembles.

`choose_model(x)`, `robust_defaults(x)` and `ocsvm_ensemble(x)` run on the host, for any number of
points. `ocsvm_path`, `leave_one_out` and the criteria work under jit, vmap and grad, and on Gram
matrices of up to some thousand points. For more points, loop on the host:
`[ocsvm_fit(x, nu, kernel) for nu in nus]`. Passing `start=` the model of the neighbouring nu saves
rounds there but no time: its first gradient, a sum over all support vectors, costs as much as the
rounds it saves (measured on a CPU at 5,000 to 20,000 points).
"""

from ocsvm_jax.path.choice import ModelChoice, choose_model
from ocsvm_jax.path.criteria import (
    finest_gamma,
    mass_volume_area,
    uniform_in_ball,
    uniform_outlier_error,
)
from ocsvm_jax.path.defaults import Defaults, robust_defaults
from ocsvm_jax.path.ensemble import OCSVMEnsemble, ocsvm_ensemble
from ocsvm_jax.path.grid import ocsvm_path
from ocsvm_jax.path.progress import GridProgress
from ocsvm_jax.path.unseen import LeaveOneOut, leave_folds_out, leave_one_out

__all__ = [
    "Defaults",
    "GridProgress",
    "LeaveOneOut",
    "ModelChoice",
    "OCSVMEnsemble",
    "choose_model",
    "finest_gamma",
    "leave_folds_out",
    "leave_one_out",
    "mass_volume_area",
    "ocsvm_ensemble",
    "ocsvm_path",
    "robust_defaults",
    "uniform_in_ball",
    "uniform_outlier_error",
]
