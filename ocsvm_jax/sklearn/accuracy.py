"""How accurate a solution must be, how accurate it is, and the slack that this leaves."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from ocsvm_jax.model import FitInfo
from ocsvm_jax.solver import OCSVMSolution

# Rounding error of a score, relative to the kernel.
_RESOLUTION = {"float64": 1e-12, "float32": 1e-6}
# Number of free support vectors that determine the size of the sums on the boundary.
_SAMPLE = 64


class Request(NamedTuple):
    """Settings of a solve; the dtype is that of its arithmetic."""

    nu: float
    weights: Float[np.ndarray, " n"]  # the largest is 1
    tol: float  # bound on the gap, for kernel values of size 1
    max_steps: int
    dtype: np.dtype


class Solved(NamedTuple):
    """A solution in the scale of this package: alpha sums to 1."""

    support: Int[np.ndarray, " m"]
    alpha: Float[np.ndarray, " m"]  # of the support vectors
    rho: float
    gap: float
    size: float  # of the sums on the boundary, to which rounding is relative
    spread: float  # of the kernel over the support vectors, to which a tolerance is relative
    num_steps: int
    status: int


class Values(NamedTuple):
    """Values of the kernel between support vectors."""

    diagonal: Float[np.ndarray, " m"]
    rows: Callable[[Int[np.ndarray, " k"]], Float[np.ndarray, "k m"]]


def as_solved(
    support: Int[np.ndarray, " m"],
    alpha: Float[np.ndarray, " m"],
    values: Values,
    rho: Float[Array, ""],
    info: OCSVMSolution | FitInfo,
    request: Request,
) -> Solved:
    """Adds to a solution the sizes that its accuracy is relative to.

    Args:
      support: (m,) rows of the support vectors.
      alpha: (m,) their coefficients.
      values: the kernel between them.
      rho: () the offset.
      info: gap, num_steps and status of the solve.
      request: the settings of the solve.
    """
    alpha, w = alpha.astype(np.float64), request.weights
    C = w[support] / (request.nu * np.sum(w))
    free = np.flatnonzero(alpha < (1 - 1e-6) * C)
    some = free[:: 1 + len(free) // _SAMPLE] if len(free) else np.arange(min(len(alpha), _SAMPLE))
    sizes = np.abs(values.rows(some).astype(np.float64)) @ alpha
    # alpha' diag(K) - alpha' K alpha is the mean squared distance from the centre.
    spread = float(values.diagonal.astype(np.float64) @ alpha) - float(rho)
    return Solved(
        support=support.astype(np.int32),
        alpha=alpha,
        rho=float(rho),
        gap=float(info.gap),
        size=max(float(np.max(sizes)), abs(float(rho))),
        spread=abs(spread),
        num_steps=int(info.num_steps),
        status=int(info.status),
    )


def slack(solved: Solved, dtype: np.dtype) -> float:
    """How far rho may lie above the exact solution: the gap plus rounding."""
    return max(solved.gap, 0) + _RESOLUTION[dtype.name] * solved.size


def asked_gap(solved: Solved, request: Request) -> float:
    """The gap that `tol` asks for: relative if the kernel varies little, but not below rounding."""
    rounding = 64 * float(np.finfo(request.dtype).eps) * solved.size
    return max(request.tol * min(1.0, 4 * solved.spread), rounding)
