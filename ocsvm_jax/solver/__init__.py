"""The exact, differentiable dual of the one-class SVM: a matrix and nu in, a solution out."""

from ocsvm_jax.solver.implicit import ocsvm_solve
from ocsvm_jax.solver.solution import ConvergenceWarning, OCSVMSolution, Status

__all__ = ["ConvergenceWarning", "OCSVMSolution", "Status", "ocsvm_solve"]
