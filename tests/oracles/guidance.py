"""Equation (7) of the paper in NumPy, with LIBSVM as the solver."""

import numpy as np
from oracles import libsvm


def standardized(z: np.ndarray) -> np.ndarray:
    return (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-6)


def loss(
    z: np.ndarray, nu: float, gamma: float | str, standardize: bool = True
) -> tuple[float, int]:
    """The guidance loss of a batch, and how many points of its second half lie outside."""
    z_sv, z_L = np.split(z, 2)
    if standardize:
        z_sv, z_L = standardized(z_sv), standardized(z_L)
    f = libsvm.solve_rbf(z_sv, nu, gamma, z_L).decision
    return len(z_sv) * float(np.sum(np.maximum(0, -f))), int(np.sum(f < 0))
