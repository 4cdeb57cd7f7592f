"""sum_j alpha_j k(x_j, x) for many x: in NumPy if that is fast enough, else in JAX."""

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

# In JAX, points are filled up to a power of two within these sizes, or to a multiple of the larger.
_SMALLEST, _TILE = 32, 2048
# Up to this work (entries of a matrix times the work per entry) NumPy takes about 10 ms. Compiling,
# in a new process or for a new shape, takes ten times as long.
_HOST_WORK = 1 << 25
_BLOCK = 1 << 16


@contextmanager
def float64_enabled() -> Iterator[None]:
    """Enables JAX's float64 within the block, for this thread only, whatever the caller has set.

    The exact solution that the estimators promise needs it, and a program that uses scikit-learn
    has no reason to know JAX's setting. float32 arrays stay float32.
    """
    forks.note_jax_in_use()
    # Older versions have it in jax.experimental only, newer ones in jax only.
    home: Any = jax if hasattr(jax, "enable_x64") else jax.experimental
    with home.enable_x64(True):
        yield


def fits_the_host(kernel: Any, n: int, m: int, d: int) -> bool:
    """Whether NumPy computes the kernel of n points with m others, in d dimensions, quickly.

    Args:
      kernel: a kernel.
      n: number of points.
      m: number of other points.
      d: number of dimensions.
    """
    return has_host_form(kernel) and n * m * (d + 16) <= _HOST_WORK


def expansion(
    kernel: Any,
    centres: Any,
    coefficients: Float[np.ndarray, " m"],
    x: Any,
    dtype: np.dtype,
) -> Float[np.ndarray, " q"]:
    """sum_j coefficients_j k(centres_j, x_i) for every row x_i.

    Args:
      kernel: a kernel of two points.
      centres: (m, d) points, dense or CSR.
      coefficients: (m,) their weights.
      x: (q, d) points, dense or CSR.
      dtype: dtype of the arithmetic.

    Raises:
      RuntimeError: in a forked process, if the kernel has no NumPy form.
    """
    # Scaled so that weights of any size fit float32.
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
    """sum_j coefficients_j K[i, support_j] for every row of a kernel matrix.

    Args:
      K: (q, n) kernel values, dense or sparse.
      support: (m,) columns of the support vectors.
      coefficients: (m,) their weights.
    """
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
    """Computes the expansion in JAX, filled up to one of a few sizes so that little is compiled."""
    centres = _filled(centres)
    coefficients = np.pad(coefficients, (0, len(centres) - len(coefficients)))
    with float64_enabled():
        points, alpha, queries = (
            jnp.asarray(a, dtype) for a in (centres, coefficients, _filled(x))
        )
        model = OCSVM(points, alpha, jnp.zeros((), dtype), kernel)
        return np.asarray(model.kernel_expansion(queries), np.float64)[: len(x)]


def _filled(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "size d"]:
    """The rows, repeated up to the next power of two or multiple of `_TILE`."""
    n, d = x.shape
    size = min(1 << max(n - 1, _SMALLEST - 1).bit_length(), -(-n // _TILE) * _TILE)
    return np.resize(x, (size, d))
