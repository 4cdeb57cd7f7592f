"""sum_j alpha_j k(x_j, x) for many x: on the host where that is enough, else in JAX."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy import sparse

from ocsvm_jax import forks
from ocsvm_jax.model import OCSVM
from ocsvm_jax.sklearn.host_kernels import (
    DENSE_DIMENSIONS,
    dense,
    has_host_form,
    host_sum,
    tile_rows,
)

# For scores in JAX, the next power of two, within these; more centres come in tiles of the last.
_SMALLEST, _TILE = 32, 2048
# Up to here (entries of a matrix times what each takes) NumPy needs some 10 ms. In a new process,
# or at a new shape, compiling takes ten times that.
_HOST_WORK = 1 << 25
_BLOCK = 1 << 16


@contextmanager
def float64_enabled() -> Iterator[None]:
    """JAX's float64 within the block, for this thread alone, whatever the caller has set.

    The exact solution that the estimator promises needs it, and a program that uses scikit-learn
    has no reason to know JAX's switch. Arrays of float32 stay what they are.
    """
    forks.note_jax_in_use()
    # Older JAX has it in jax.experimental alone, newer JAX in jax alone.
    home: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    with home.enable_x64(True):
        yield


def fits_the_host(kernel: Any, n: int, m: int, d: int) -> bool:
    """Whether the kernel of n points with m others is quick to find in NumPy."""
    return has_host_form(kernel) and n * m * (d + 16) <= _HOST_WORK


def expansion(
    kernel: Any,
    centres: Any,
    coefficients: Float[np.ndarray, " m"],
    x: Any,
    dtype: np.dtype,
) -> Float[np.ndarray, " q"]:
    """sum_j coefficients_j k(centres_j, x_i) for every row of points, dense or CSR.

    Raises:
      RuntimeError: in a forked process, if the kernel has no form in NumPy.
    """
    # So that weights of any size fit float32.
    unit = float(np.max(np.abs(coefficients)))
    coefficients = coefficients / unit
    (q, d), m = x.shape, len(coefficients)
    high = sparse.issparse(x) and sparse.issparse(centres) and d > DENSE_DIMENSIONS
    small = dtype == np.float64 and fits_the_host(kernel, q, m, d)
    if has_host_form(kernel) and (high or small or forks.jax_is_unusable()):
        return unit * host_sum(kernel, centres, coefficients, x)
    forks.refuse(
        "Scoring with this kernel", " Scoring with the kernels that have a name works here."
    )
    centres = dense(centres)
    if not sparse.issparse(x):
        return unit * _in_jax(kernel, centres, coefficients, x, dtype)
    rows = tile_rows(_BLOCK, d)
    blocks = (x[i : i + rows].toarray() for i in range(0, q, rows))
    values = [_in_jax(kernel, centres, coefficients, block, dtype) for block in blocks]
    return unit * np.concatenate(values)


def weighted_sum(
    K: Any, support: np.ndarray, coefficients: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " q"]:
    """The same of kernel values (q, n) that are given, dense or sparse."""
    rows = tile_rows(_BLOCK, K.shape[1])
    blocks = (K[i : i + rows] for i in range(0, K.shape[0], rows))
    return np.concatenate([dense(block)[:, support] @ coefficients for block in blocks])


def _in_jax(
    kernel: Any,
    centres: Float[np.ndarray, "m d"],
    coefficients: Float[np.ndarray, " m"],
    x: Float[np.ndarray, "q d"],
    dtype: np.dtype,
) -> Float[np.ndarray, " q"]:
    """Through a model filled up to one of few sizes, for which it is compiled."""
    centres = _filled(centres)
    coefficients = np.pad(coefficients, (0, len(centres) - len(coefficients)))
    with float64_enabled():
        points, alpha, queries = (
            jnp.asarray(a, dtype) for a in (centres, coefficients, _filled(x))
        )
        model = OCSVM(points, alpha, jnp.zeros((), dtype), kernel)
        return np.asarray(model.kernel_expansion(queries), np.float64)[: len(x)]


def _filled(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "size d"]:
    """The rows again and again, up to the next power of two or multiple of `_TILE`."""
    n, d = x.shape
    size = min(1 << max(n - 1, _SMALLEST - 1).bit_length(), -(-n // _TILE) * _TILE)
    return np.resize(x, (size, d))
