"""`ocsvm_path`: solutions on the same points for every pair of gamma and nu."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax.arrays.arguments import as_float, is_concrete
from ocsvm_jax.kernels import Kernel, gram, rbf
from ocsvm_jax.path.batches import map_in_batches
from ocsvm_jax.solver import OCSVMSolution, ocsvm_solve
from ocsvm_jax.solver.checks import check_nu, normalized_weights


def ocsvm_path(
    x: Num[ArrayLike, "n d"],
    nus: Num[ArrayLike, " p"],
    gammas: Num[ArrayLike, " g"],
    *,
    kernel: Callable[[Any], Kernel] = rbf,
    sample_weight: Num[ArrayLike, " n"] | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
) -> OCSVMSolution:
    """Solves the one-class SVM of the same points for every pair of gamma and nu.

    The pairs run side by side under `vmap`, as many at once as memory allows. Each begins at the
    start of `ocsvm_solve`, which is cheap. The decision values (g, p, m) of the grid at queries z
    are

        K = jax.vmap(lambda gamma: gram(rbf(gamma), z, x))(gammas)
        f = jax.vmap(jax.vmap(decision_function, in_axes=(0, None)))(path, K)

    Args:
      x: (n, d) points.
      nus: (p,) each in (0, 1].
      gammas: (g,) each positive.
      kernel: makes a kernel from a gamma. It is a static argument of a compiled function: define
        it once, since every new lambda is compiled again.
      sample_weight: (n,) non-negative weights.
      tol: as in `ocsvm_solve`.
      max_steps: as in `ocsvm_solve`.

    Returns:
      The solutions, with leading axes (g, p), differentiable as those of `ocsvm_solve`. If points
      or weights are invalid, they are NaN with status INVALID.

    Raises:
      ValueError: if nus or gammas are not one-dimensional or out of range, or x is not (n, d).
    """
    x, nus, gammas = checked_grid(x, nus, gammas)
    # Before jit, which would cast a weight of 1e-300 to 0.
    w = None if sample_weight is None else normalized_weights(sample_weight)
    return _path(kernel, max_steps, x, nus, gammas, w, tol)


def checked_grid(
    x: Any, nus: Any, gammas: Any
) -> tuple[Float[Array, "n d"], Float[Array, " p"], Float[Array, " g"]]:
    """The points and the axes of the grid in one dtype.

    Args:
      x: (n, d) points.
      nus: (p,) each in (0, 1].
      gammas: (g,) each positive.

    Raises:
      ValueError: as `check_axes`.
    """
    x = as_float(x)
    check_axes(nus, gammas)
    return x, jnp.asarray(nus).astype(x.dtype), jnp.asarray(gammas).astype(x.dtype)


def check_axes(nus: Any, gammas: Any) -> None:
    """Raises ValueError unless both are one-dimensional, not empty and, if known, in range."""
    for name, values in (("nus", nus), ("gammas", gammas)):
        shape = jnp.asarray(values).shape
        if len(shape) != 1 or shape[0] == 0:
            raise ValueError(
                f"{name} has shape {shape}; it is a one-dimensional array of at least one value."
            )
    for nu in _known(nus):
        check_nu(nu)
    for gamma in _known(gammas):
        if not 0 < float(gamma) < np.inf:
            raise ValueError(f"gammas holds {float(gamma)}; each must be positive and finite.")


def _known(values: Any) -> np.ndarray:
    """The values, or an empty array if some are being traced."""
    known = all(is_concrete(leaf) for leaf in jax.tree.leaves(values))
    return np.asarray(values) if known else np.empty(0)


# Jitted here, since an eager call would otherwise trace and compile the loop each time.
@partial(jax.jit, static_argnums=(0, 1))
def _path(
    kernel: Any, max_steps: int | None, x: Array, nus: Array, gammas: Array, w: Any, tol: Any
) -> OCSVMSolution:
    g, p = gammas.shape[0], nus.shape[0]

    def solve(pair: Int[Array, ""]) -> OCSVMSolution:
        K = gram(kernel(gammas[pair // p]), x)
        return ocsvm_solve(K, nus[pair % p], sample_weight=w, tol=tol, max_steps=max_steps)

    pairs = jnp.arange(g * p, dtype=jnp.int32)
    out = map_in_batches(jax.vmap(solve), pairs, num_points=x.shape[0])
    return jax.tree.map(lambda a: a.reshape((g, p, *a.shape[1:])), out)
