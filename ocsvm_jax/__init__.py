"""An exact, differentiable, batched one-class SVM in JAX.

Equation (7) of the paper (arXiv 2507.21164) is `guidance_loss`; the dual behind it is
`ocsvm_solve`, its iteration ocsvm_jax/solver/dual.py, its derivative ocsvm_jax/solver/implicit.py.
"""

from ocsvm_jax.arrays.points import PrecisionWarning
from ocsvm_jax.decision import decision_function
from ocsvm_jax.fit import Progress, ocsvm_fit
from ocsvm_jax.guidance import GuidanceAux, constant_betas, guidance_loss, two_phase_betas
from ocsvm_jax.kernels import (
    gram,
    laplacian,
    linear,
    polynomial,
    precomputed,
    rbf,
    resolve_gamma,
    scaled,
    sigmoid,
)
from ocsvm_jax.model import OCSVM, FitInfo
from ocsvm_jax.solver import ConvergenceWarning, OCSVMSolution, Status, ocsvm_solve

__all__ = [
    "OCSVM",
    "ConvergenceWarning",
    "FitInfo",
    "GuidanceAux",
    "OCSVMSolution",
    "PrecisionWarning",
    "Progress",
    "Status",
    "constant_betas",
    "decision_function",
    "gram",
    "guidance_loss",
    "laplacian",
    "linear",
    "ocsvm_fit",
    "ocsvm_solve",
    "polynomial",
    "precomputed",
    "rbf",
    "resolve_gamma",
    "scaled",
    "sigmoid",
    "two_phase_betas",
]
