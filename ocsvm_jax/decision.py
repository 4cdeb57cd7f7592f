"""The decision function, with the same sign and scale everywhere in this package."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from ocsvm_jax.arrays.arguments import as_float
from ocsvm_jax.solver.solution import OCSVMSolution


def decision_function(
    solution: OCSVMSolution, k_query: Num[ArrayLike, "m n"]
) -> Float[Array, " m"]:
    """f(z) = sum_j alpha_j k(z_j, z) - rho, with sum(alpha) = 1; positive inside, negative outside.

    Args:
      solution: solution of a problem with n points, as returned by `ocsvm_solve`.
      k_query: (m, n) kernel of each query with each point, `gram(kernel, queries, points)`.

    Returns:
      (m,) decision values in units of K, in the dtype of the solution. scikit-learn's are larger
      by the factor nu * n.

    Raises:
      TypeError: if solution is not a solution.
      ValueError: if k_query does not have one column per point.

    Example:
      >>> import jax.numpy as jnp
      >>> from ocsvm_jax import decision_function, gram, ocsvm_solve, rbf
      >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
      >>> queries = jnp.array([[0.5, 0.5], [9.0, 9.0]])
      >>> solution = ocsvm_solve(gram(rbf(0.5), x), 0.5)
      >>> f = decision_function(solution, gram(rbf(0.5), queries, x))
      >>> (f > 0).tolist()
      [True, False]
    """
    _check_solution(solution, k_query)
    k_query = as_float(k_query, "k_query").astype(solution.alpha.dtype)
    n = solution.alpha.shape[-1]
    if k_query.ndim != 2 or k_query.shape[1] != n:
        raise ValueError(
            f"k_query has shape {k_query.shape}; the solution has {n} points, so it must be "
            f"(m, {n}): gram(kernel, queries, points)."
        )
    # At full precision, since values near the boundary are differences of numbers near rho.
    product = jnp.matmul(k_query, solution.alpha, precision=lax.Precision.HIGHEST)
    return product - solution.rho


def _check_solution(solution: Any, k_query: Any) -> None:
    if hasattr(solution, "alpha") and hasattr(solution, "rho"):
        return
    call = "decision_function(solution, gram(kernel, queries, points))"
    if hasattr(solution, "support_vectors"):
        hint = "a model scores points itself: model.decision_function(x)"
    elif hasattr(k_query, "alpha"):
        hint = f"the arguments are the other way round: {call}"
    else:
        hint = f"it must be what ocsvm_solve returned: {call}"
    raise TypeError(f"solution is of type {type(solution).__name__}; {hint}.")
