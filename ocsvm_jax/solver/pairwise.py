"""Duals whose K is a simple function of pairs of points, so that a GPU program can make K itself.

K then never passes through the memory of the device as a whole: per problem a program reads n d
numbers in place of n^2, and what it writes of K it reads again from the cache.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Float

from ocsvm_jax.solver import dual, fused
from ocsvm_jax.solver.batching import lanes_function
from ocsvm_jax.solver.checks import check_arguments
from ocsvm_jax.solver.implicit import ocsvm_solve, with_derivatives
from ocsvm_jax.solver.solution import OCSVMSolution

# With more coordinates, a matrix product makes K faster than sums of differences do.
_MOST_DIMENSIONS = 64


class Pairwise(NamedTuple):
    """A kernel form(sum_k term(x_k, y_k, factor_k), parameter).

    Attributes:
      term: what one coordinate adds; symmetric in x and y to the bit.
      form: of the sum over the coordinates and the parameter.
      matrix: K of `Points` in plain JAX; differentiable.
    """

    term: Callable[[Array, Array, Array], Array]
    form: Callable[[Array, Array], Array]
    matrix: Callable[[Array, Array, Array], Array]


class Points(NamedTuple):
    """What K is made from.

    Attributes:
      x: (n, d) points.
      factor: (d,) factors of the coordinates.
      parameter: () parameter of the kernel.
    """

    x: Float[Array, "n d"]
    factor: Float[Array, " d"]
    parameter: Float[Array, ""]


def solve_points(
    kernel: Pairwise, points: Points, nu: Any, *, sample_weight: Any = None
) -> OCSVMSolution:
    """As `ocsvm_solve(kernel.matrix(*points), nu)`, which it is wherever no GPU program serves.

    Args:
      kernel: the kernel, with the same functions each time, or JAX compiles again.
      points: of one dtype.
      nu: scalar in (0, 1].
      sample_weight: (n,) as in `ocsvm_solve`.

    Raises:
      TypeError, ValueError: as `ocsvm_solve`.
    """
    K = kernel.matrix(*points)
    n, d = points.x.shape
    how = fused.choice(n, K.dtype)
    if how == "plain" or not isinstance(d, int) or not 0 < d <= _MOST_DIMENSIONS:
        return ocsvm_solve(K, nu, sample_weight=sample_weight)
    K, nu, w, tol, max_steps = check_arguments(K, nu, sample_weight, None, None)

    def iterate(C: Float[Array, " n"]) -> dual.LaneSolution:
        held = lax.stop_gradient((*points, C, tol))
        return _iterate(*held, kernel=kernel, max_steps=max_steps, how=how)

    return with_derivatives(iterate, K, nu, w)


# Jitted for the reason given in `implicit`.
@partial(jax.jit, static_argnames=("kernel", "max_steps", "how"))
def _iterate(*given: Array, kernel: Pairwise, max_steps: int, how: fused.Choice) -> Any:
    def plain(x: Array, factor: Array, parameter: Array, C: Array, tol: Array) -> Any:
        K = jax.vmap(kernel.matrix)(x, factor, parameter)
        return dual.solve_lanes(K, C, tol, max_steps)

    one_program = partial(fused.solve_points, kernel, max_steps=max_steps)
    return lanes_function(plain, one_program, how)(*given)
