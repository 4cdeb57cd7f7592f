"""`choose_model`: nu and gamma without labels."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import Kernel, gram, rbf
from ocsvm_jax.path.criteria import uniform_in_ball, uniform_outlier_error
from ocsvm_jax.path.grid import checked_grid
from ocsvm_jax.path.unseen import leave_one_out
from ocsvm_jax.solver import ocsvm_solve


class ModelChoice(NamedTuple):
    """The pair that `choose_model` found best, and what it compared.

    Attributes:
      nu: () the chosen nu.
      gamma: () the chosen gamma.
      error: (g, p) the criterion; NaN where a solve was invalid.
      rejected: (g, p) share of the points outside the model of the others.
      accepted: (g, p) share of the uniform points inside the model, its volume.
    """

    nu: Float[Array, ""]
    gamma: Float[Array, ""]
    error: Float[Array, "g p"]
    rejected: Float[Array, "g p"]
    accepted: Float[Array, "g p"]


def choose_model(
    x: Float[Array, "n d"],
    nus: Float[Array, " p"],
    gammas: Float[Array, " g"],
    key: Array,
    *,
    kernel: Callable[[Any], Kernel] = rbf,
    weight: float = 0.5,
    num_uniform: int = 2000,
    tol: float | None = None,
    max_steps: int | None = None,
) -> ModelChoice:
    """The pair of nu and gamma with the least `uniform_outlier_error`, by leave-one-out; no labels.

    Of equals the first gamma, then the first nu, wins. In few dimensions only (`uniform_in_ball`).
    A pair takes one solve for each of its support vectors, so a gamma so large that most points
    are support vectors takes the longest by far.

    Args:
      x: (n, d) points, n up to about 1,000.
      nus: (p,) each in (0, 1].
      gammas: (g,) each positive.
      key: a `jax.random.key` for the uniform points.
      kernel: as in `ocsvm_path`.
      weight: as in `uniform_outlier_error`; larger asks for smaller sets.
      num_uniform: how many uniform points measure the volume.
      tol: as in `ocsvm_solve`.
      max_steps: as in `ocsvm_solve`.

    Raises:
      ValueError: as `ocsvm_path`, and if weight is not in (0, 1).
    """
    x, nus, gammas = checked_grid(x, nus, gammas)
    uniform = uniform_in_ball(x, num_uniform, key)
    f_points, f_uniform = _decisions(kernel, max_steps, x, uniform, nus, gammas, tol)
    criterion = partial(uniform_outlier_error, weight=weight)
    invalid = jnp.any(jnp.isnan(f_points), axis=-1)
    error, rejected, accepted = (
        jnp.where(invalid, jnp.nan, value)
        for value in (
            jax.vmap(jax.vmap(criterion))(f_points, f_uniform),
            jnp.mean(f_points < 0, axis=-1, dtype=x.dtype),
            jnp.mean(f_uniform >= 0, axis=-1, dtype=x.dtype),
        )
    )
    best = jnp.argmin(jnp.where(invalid, jnp.inf, error))
    g, p = jnp.unravel_index(best, error.shape)
    return ModelChoice(nus[p], gammas[g], error, rejected, accepted)


@partial(jax.jit, static_argnums=(0, 1))
def _decisions(
    kernel: Any, max_steps: int | None, x: Array, u: Array, nus: Array, gammas: Array, tol: Any
) -> tuple[Float[Array, "g p n"], Float[Array, "g p m"]]:
    """For every pair: of x by leave-one-out, and of u under the model of all of x."""
    limits: dict[str, Any] = {"tol": tol, "max_steps": max_steps}

    def of_gamma(gamma: Array) -> tuple[Array, Array]:
        K, K_u = gram(kernel(gamma), x), gram(kernel(gamma), u, x)

        def of_nu(nu: Array) -> tuple[Array, Array]:
            f_u = decision_function(ocsvm_solve(K, nu, **limits), K_u)
            return leave_one_out(K, nu, **limits).decision, f_u

        return lax.map(of_nu, nus)

    return lax.map(of_gamma, gammas)
