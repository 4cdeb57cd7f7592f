"""What can be said about the arguments of a solve before anything is computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ocsvm_jax.arguments import as_float, is_concrete


def check_arguments(
    K: Any, nu: Any, sample_weight: Any, tol: Any, max_steps: int | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, int]:
    """Promotes to one dtype, fills in defaults, and raises ValueError on what is surely wrong."""
    # Taken before the conversion: under jit that makes a tracer even of a plain number.
    known_K, known_nu, known_w = (_if_known(v) for v in (K, nu, sample_weight))
    K = as_float(K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.shape[0] == 0:
        raise ValueError(
            f"K has shape {K.shape}; ocsvm_solve takes one square Gram matrix (n, n) with n >= 1. "
            "Build it with gram(kernel, x), and use jax.vmap for a batch of problems."
        )
    n = K.shape[0]
    nu = jnp.asarray(nu)
    if nu.ndim != 0:
        raise ValueError(
            f"nu has shape {nu.shape}; it is one number in (0, 1]. Use jax.vmap for several."
        )
    if known_nu is not None:
        check_nu(known_nu)
    w = jnp.ones(n, K.dtype) if sample_weight is None else jnp.asarray(sample_weight)
    if w.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {w.shape}; K has {n} points, so it must be ({n},)."
        )
    if sample_weight is None:
        known_w = np.ones(n)
    elif known_w is not None:
        check_weights(known_w)
    if known_K is not None and known_w is not None:
        part = known_w > 0
        if not np.all(np.isfinite(known_K[part][:, part])):
            raise ValueError(
                "K holds NaN or infinite values; check the points and the kernel it was built from."
            )
    steps = 10_000 + 100 * n if max_steps is None else int(max_steps)
    if steps < 1:
        raise ValueError(f"max_steps is {max_steps}; it must be at least 1.")
    if tol is not None and is_concrete(tol) and not float(tol) > 0:
        raise ValueError(
            f"tol is {float(tol)}; it must be positive, or None for the default of the dtype."
        )
    # A negative number asks the iteration for its default.
    tol = jnp.asarray(-1.0 if tol is None else tol, K.dtype)
    return K, nu.astype(K.dtype), w.astype(K.dtype), tol, steps


def _if_known(x: Any) -> np.ndarray | None:
    """The value, or None where some of it is being traced."""
    return np.asarray(x) if all(is_concrete(leaf) for leaf in jax.tree.leaves(x)) else None


def check_nu(nu: Any) -> None:
    """Raises ValueError unless 0 < nu <= 1."""
    if not 0 < float(nu) <= 1:
        raise ValueError(
            f"nu is {float(nu)}; it must lie in (0, 1]: it bounds the share of points left outside."
        )


def check_weights(w: np.ndarray) -> None:
    """Raises ValueError unless the weights are finite, non-negative and not all zero."""
    if not np.all(np.isfinite(w)):
        raise ValueError("sample_weight holds NaN or infinite values.")
    if np.any(w < 0):
        raise ValueError(
            f"sample_weight holds {np.sum(w < 0)} negative values (smallest {w.min()}); "
            "weights are zero (the point takes no part) or positive."
        )
    if not np.any(w > 0):
        raise ValueError(
            "sample_weight is all zero: no point takes part, so there is nothing to solve."
        )
