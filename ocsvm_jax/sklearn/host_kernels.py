"""Kernels in NumPy, float64: for small problems, for sparse points and in forked processes.

Small problems would spend seconds on compiling a computation that takes microseconds. Distances are
sums of differences (SciPy's `cdist`), which do not lose digits to a far point or a common offset.
"""

from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.spatial.distance import cdist

from ocsvm_jax.kernels import RBF, Laplacian, Linear, Polynomial, Scaled, Sigmoid

# Rows of a tile, and the largest number of coordinates in it.
_QUERIES, _CENTRES, _ENTRIES = 512, 2048, 1 << 22
# Sparse points of more dimensions are never made dense, except for the Laplacian's distances.
DENSE_DIMENSIONS = 2048
# |x|^2 + |y|^2 - 2 x'y is trusted if it is at least this share of |x|^2 + |y|^2.
_TRUSTED = 1e-3
_PAIRS = 4096


@singledispatch
def host_gram(kernel: Any, x: Any, y: Any) -> Float[np.ndarray, "n m"]:
    """The kernel of every row of x with every row of y.

    Args:
      kernel: a kernel of this package.
      x: (n, d) points, dense or sparse (CSR).
      y: (m, d) points, dense if x is, else sparse (CSR).

    Raises:
      NotImplementedError: if the kernel has no NumPy form.
    """
    raise NotImplementedError(f"{type(kernel).__name__} has no NumPy form.")


def has_host_form(kernel: Any) -> bool:
    """Whether `host_gram` knows the kernel."""
    if isinstance(kernel, Scaled):
        return has_host_form(kernel.kernel)
    return host_gram.dispatch(type(kernel)) is not host_gram.dispatch(object)


@host_gram.register
def _rbf(kernel: RBF, x: Any, y: Any) -> np.ndarray:
    return np.exp(-float(kernel.gamma) * squared_distances(x, y))


@host_gram.register
def _laplacian(kernel: Laplacian, x: Any, y: Any) -> np.ndarray:
    return np.exp(-float(kernel.gamma) * cdist(dense(x), dense(y), "cityblock"))


@host_gram.register
def _linear(kernel: Linear, x: Any, y: Any) -> np.ndarray:
    return _dot(x, y)


@host_gram.register
def _polynomial(kernel: Polynomial, x: Any, y: Any) -> np.ndarray:
    # The solver reports overflow, once; NumPy should not warn of it.
    with np.errstate(over="ignore", invalid="ignore"):
        base = float(kernel.gamma) * _dot(x, y) + float(kernel.coef0)
        return base**kernel.degree


@host_gram.register
def _sigmoid(kernel: Sigmoid, x: Any, y: Any) -> np.ndarray:
    return np.tanh(float(kernel.gamma) * _dot(x, y) + float(kernel.coef0))


@host_gram.register
def _scaled(kernel: Scaled, x: Any, y: Any) -> np.ndarray:
    scale = np.asarray(kernel.scale, np.float64)[None, :]
    return host_gram(kernel.kernel, dense(x) / scale, dense(y) / scale)


def host_diagonal(kernel: Any, x: Any) -> Float[np.ndarray, " n"]:
    """k(x_i, x_i) for every row."""
    # The diagonals of small Gram matrices, whose other entries are not needed.
    pieces = [np.diagonal(host_gram(kernel, x[i], x[i])) for i in _slices(x.shape[0], 16)]
    return np.concatenate(pieces)


def host_sum(
    kernel: Any, centres: Any, coefficients: Float[np.ndarray, " m"], x: Any
) -> Float[np.ndarray, " q"]:
    """sum_j coefficients_j k(centres_j, x_i) for every row x_i, computed in tiles.

    Args:
      kernel: a kernel with a NumPy form.
      centres: (m, d) points, dense or CSR.
      coefficients: (m,) weights of the centres.
      x: (q, d) points, dense or CSR.
    """
    d = x.shape[1]
    out = np.zeros(x.shape[0])
    for rows in _slices(x.shape[0], tile_rows(_QUERIES, d)):
        for some in _slices(centres.shape[0], tile_rows(_CENTRES, d)):
            points, others = _alike(x[rows], centres[some])
            out[rows] += host_gram(kernel, points, others) @ coefficients[some]
    return out


def host_square(kernel: Any, x: Any) -> Float[np.ndarray, "n n"]:
    """The Gram matrix of x, in blocks of rows if x is sparse."""
    if not sparse.issparse(x):
        return host_gram(kernel, x, x)
    blocks = [host_gram(kernel, x[i], x) for i in _slices(x.shape[0], _QUERIES)]
    return np.concatenate(blocks)


def dense(x: Any) -> np.ndarray:
    """The points as an ordinary array."""
    return x.toarray() if sparse.issparse(x) else x


def squared_distances(x: Any, y: Any) -> Float[np.ndarray, "n m"]:
    """|x_i - y_j|^2, each to a relative 1e-12 or better."""
    if not sparse.issparse(x):
        return cdist(x, y, "sqeuclidean")
    squares = _squares(x)[:, None] + _squares(y)[None, :]
    distances = squares - 2 * _dot(x, y)
    # The small ones have cancelled and are recomputed from differences.
    close = np.argwhere(distances < _TRUSTED * squares)
    for some in _slices(len(close), _PAIRS):
        i, j = close[some].T
        distances[i, j] = _squares(x[i] - y[j])
    return distances


def tile_rows(most: int, d: int) -> int:
    """The number of points of d dimensions in a tile, at most `most`."""
    return max(1, min(most, _ENTRIES // max(d, 1)))


def _dot(x: Any, y: Any) -> Float[np.ndarray, "n m"]:
    return dense(x @ y.T)


def _squares(x: Any) -> Float[np.ndarray, " n"]:
    return np.asarray(x.multiply(x).sum(axis=1)).ravel()


def _alike(x: Any, y: Any) -> tuple[Any, Any]:
    """Both sparse, or both dense."""
    if sparse.issparse(x) and sparse.issparse(y) and x.shape[1] > DENSE_DIMENSIONS:
        return x, y
    return dense(x), dense(y)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
