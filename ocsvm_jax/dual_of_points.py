"""The dual of points under an RBF or a linear kernel: a GPU program can make their K itself."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ocsvm_jax.arrays.distances import squared_distances
from ocsvm_jax.kernels import RBF, Kernel, Linear, gram, linear, rbf
from ocsvm_jax.solver import OCSVMSolution, ocsvm_solve
from ocsvm_jax.solver.pairwise import Pairwise, Points, solve_points


def solve_gram(kernel: Kernel, x: Float[Array, "n d"], nu: Any) -> OCSVMSolution:
    """`ocsvm_solve(gram(kernel, x), nu)`.

    Args:
      kernel: any kernel.
      x: (n, d) points.
      nu: scalar in (0, 1].
    """
    ones = jnp.ones(x.shape[1], x.dtype)
    if isinstance(kernel, RBF):
        gamma = jnp.asarray(kernel.gamma).astype(x.dtype)
        return solve_points(_RBF, Points(x, ones, gamma), nu)
    if isinstance(kernel, Linear):
        return solve_points(_LINEAR, Points(x, ones, jnp.ones((), x.dtype)), nu)
    return ocsvm_solve(gram(kernel, x), nu)


def _square(x: Array, y: Array, factor: Array) -> Array:
    difference = (x - y) * factor
    return difference * difference


def _exponent(total: Array, gamma: Array) -> Array:
    """-gamma |x - y|^2, finite; a comparison, since a GPU's minimum would lose NaN."""
    largest = jnp.finfo(total.dtype).max
    return -gamma * jnp.where(total > largest, largest, total)


def _rbf_minus_1(total: Array, gamma: Array) -> Array:
    return jnp.expm1(_exponent(total, gamma))


def _rbf(total: Array, gamma: Array) -> Array:
    # Triton's exp is less accurate than its expm1.
    return 1 + jnp.expm1(_exponent(total, gamma))


def _rbf_minus_1_matrix(x: Array, factor: Array, gamma: Array) -> Array:
    return jnp.expm1(-gamma * squared_distances(x, x, factor))


_RBF = Pairwise(_square, _rbf, lambda x, _, gamma: gram(rbf(gamma), x))
_LINEAR = Pairwise(
    lambda x, y, _: x * y, lambda total, _: total, lambda x, _, __: gram(linear(), x)
)
# k - 1: if all of K is close to 1, in float32 k itself would lose the digits that matter.
RBF_MINUS_1 = Pairwise(_square, _rbf_minus_1, _rbf_minus_1_matrix)
