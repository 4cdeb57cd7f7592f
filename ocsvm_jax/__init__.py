"""An exact, differentiable, batched one-class SVM in JAX.

Equation (7) of the paper (arXiv 2507.21164) is `guidance_loss`; the dual behind it is
`ocsvm_solve`, its iteration ocsvm_jax/solver/dual.py, its derivative ocsvm_jax/solver/implicit.py.

The submodules `conformal`, `detectors`, `explain`, `export`, `localized`, `methods`, `networks`,
`path` and `sklearn` are imported when they are first used: `ocsvm_jax.path` needs no import of its
own.
"""

import importlib
from typing import TYPE_CHECKING, Any

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
from ocsvm_jax.suggestions import did_you_mean

if TYPE_CHECKING:  # so that type checkers and editors see what `__getattr__` imports
    from ocsvm_jax import conformal as conformal
    from ocsvm_jax import detectors as detectors
    from ocsvm_jax import explain as explain
    from ocsvm_jax import export as export
    from ocsvm_jax import localized as localized
    from ocsvm_jax import methods as methods
    from ocsvm_jax import networks as networks
    from ocsvm_jax import path as path
    from ocsvm_jax import sklearn as sklearn

__version__ = "0.1.0"  # the one place: pyproject.toml reads it here

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

_SUBMODULES = (
    "conformal",
    "detectors",
    "explain",
    "export",
    "localized",
    "methods",
    "networks",
    "path",
    "sklearn",
)


def __getattr__(name: str) -> Any:
    """Imports a submodule on first use; any other name does not exist."""
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    near = "" if name.startswith("_") else did_you_mean(name, __dir__())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{near}")


def __dir__() -> list[str]:
    """The public names only."""
    return sorted([*__all__, *_SUBMODULES, "__version__"])
