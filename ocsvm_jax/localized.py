"""One one-class SVM per location, many at once: the brain experiment has one per voxel.

Each location has its own training points (the latents of co-located patches of all subjects) and
its own model. `fit_locations` and `score_locations` are pure functions, to be used under `jit`;
`ocsvm_jax.blocks.in_blocks` streams any number of locations through them in blocks of one size,
over all devices there are, and on a CPU over all its cores.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, section on localised one-class SVMs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.arguments import as_float
from ocsvm_jax.solver import ocsvm_solve

_STD_FLOOR = 1e-6
_TINY = 1e-30  # below every alpha that is not 0
_HIGHEST = lax.Precision.HIGHEST


class LocalizedModel(NamedTuple):
    """The one-class SVMs of v locations, n training points of d dimensions each.

    The kernel is kept as k - 1, which sum(alpha) = 1 moves into rho: where gamma is small against
    the distances all of K is close to 1, and k itself has lost in float32 the digits that decide.

    Attributes:
      z: (v, n, d) training points, standardised if asked for.
      alpha: (v, n) dual coefficients.
      rho: (v,) offset in units of k - 1, not positive.
      gamma: (v,) of the RBF kernel.
      mean: (v, d) subtracted from a query, 0 without standardisation.
      std: (v, d) it is then divided by, 1 without standardisation.
      gap: (v,) largest violation of the optimality conditions.
      status: (v,) `ocsvm_jax.Status`.
    """

    z: Float[Array, "v n d"]
    alpha: Float[Array, "v n"]
    rho: Float[Array, " v"]
    gamma: Float[Array, " v"]
    mean: Float[Array, "v d"]
    std: Float[Array, "v d"]
    gap: Float[Array, " v"]
    status: Int[Array, " v"]


def fit_locations(
    z: Float[Array, "v n d"],
    present: Bool[Array, "v n"] | None = None,
    *,
    nu: Any,
    gamma: Any,
    standardize: bool = False,
) -> LocalizedModel:
    """Fits one one-class SVM per location, exactly.

    Args:
      z: (v, n, d) the n training points of each of v locations.
      present: (v, n) false where a point is missing (a subject whose brain does not reach there):
        it gets weight 0 and takes no part in anything. A location where all are missing ends as
        INVALID, its scores are NaN.
      nu: scalar in (0, 1].
      gamma: of the RBF kernel: a positive number, "scale" (1 / (d * variance of all entries), of
        each location) or "auto" (1 / d).
      standardize: subtract the mean and divide by the (biased) standard deviation + 1e-6 of each
        location and dimension.

    Raises:
      ValueError: if shapes do not fit, or gamma is another string.
    """
    z = as_float(z)
    if z.ndim != 3:
        raise ValueError(f"z has shape {z.shape}; it must be (locations, points, dimensions).")
    if present is None:
        present = jnp.ones(z.shape[:2], bool)
    if present.shape != z.shape[:2]:
        raise ValueError(f"present has shape {present.shape}; z asks for {z.shape[:2]}.")
    if isinstance(gamma, str) and gamma not in ("scale", "auto"):
        raise ValueError(f'gamma is {gamma!r}; it must be a positive number, "scale" or "auto".')

    def one(z: Array, present: Array) -> LocalizedModel:
        weight = present.astype(z.dtype)
        z = jnp.where(present[:, None], z, 0)
        mean = _mean(z, weight)
        centred = jnp.where(present[:, None], z - mean[None, :], 0)
        variance = _mean(centred**2, weight)
        if standardize:
            std = jnp.sqrt(variance) + _STD_FLOOR
        else:
            mean, std = 0 * mean, 0 * variance + 1
        scaled = (z - mean[None, :]) / std[None, :]
        number = _gamma(gamma, scaled, weight)
        K = jnp.expm1(-number * _squared_distances(scaled, scaled))
        K = jnp.where(jnp.eye(z.shape[0], dtype=bool), 0, K)
        solution = ocsvm_solve(K, nu, sample_weight=weight)
        return LocalizedModel(
            scaled,
            solution.alpha,
            solution.rho,
            number,
            mean,
            std,
            solution.gap,
            solution.status,
        )

    return jax.vmap(one)(z, present)


def score_locations(model: LocalizedModel, queries: Float[Array, "v m d"]) -> Float[Array, "v m"]:
    """-f of m queries at each location: larger for more anomalous, in units of the kernel.

    Args:
      model: of v locations.
      queries: (v, m, d) points, as the training points were given to `fit_locations`.
    """

    def one(model: LocalizedModel, queries: Array) -> Array:
        k = jnp.expm1(_log_kernel(model, queries))
        return model.rho - jnp.matmul(k, model.alpha, precision=_HIGHEST)

    return jax.vmap(one)(model, as_float(queries).astype(model.z.dtype))


def log_score_locations(
    model: LocalizedModel, queries: Float[Array, "v m d"]
) -> Float[Array, "v m"]:
    """log(rho) - log(sum_j alpha_j k(z_j, z)): -f on a scale without an end; 0 on the boundary.

    At one location it ranks as -f does. Between locations it does not saturate: far from all
    training points every kernel is 0 and -f is rho, however far; this still grows with the square
    of the distance.

    Args:
      model: of v locations.
      queries: (v, m, d), as in `score_locations`.
    """

    def one(model: LocalizedModel, queries: Array) -> Array:
        log_alpha = jnp.where(model.alpha > 0, jnp.log(jnp.maximum(model.alpha, _TINY)), -jnp.inf)
        exponents = _log_kernel(model, queries) + log_alpha[None, :]
        return jnp.log1p(model.rho) - jax.scipy.special.logsumexp(exponents, axis=1)

    return jax.vmap(one)(model, as_float(queries).astype(model.z.dtype))


def _log_kernel(model: LocalizedModel, queries: Float[Array, "m d"]) -> Float[Array, "m n"]:
    """-gamma |z - z_j|^2 of one location."""
    scaled = (queries - model.mean[None, :]) / model.std[None, :]
    return -model.gamma * _squared_distances(scaled, model.z)


def _mean(x: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, " d"]:
    return jnp.matmul(weight, x, precision=_HIGHEST) / jnp.maximum(jnp.sum(weight), 1)


def _gamma(gamma: Any, z: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, ""]:
    if gamma == "auto":
        return jnp.asarray(1 / z.shape[1], z.dtype)
    if gamma == "scale":
        mean = jnp.mean(_mean(z, weight))
        variance = jnp.mean(_mean((z - mean) ** 2, weight))
        positive = variance > 0
        return jnp.where(positive, 1 / (z.shape[1] * jnp.where(positive, variance, 1)), 1)
    return jnp.asarray(gamma).astype(z.dtype)


def _squared_distances(x: Float[Array, "m d"], y: Float[Array, "n d"]) -> Float[Array, "m n"]:
    """|x_i - y_j|^2, centred on y first so that nothing cancels that need not."""
    centre = jnp.mean(y, axis=0, keepdims=True)
    x, y = x - centre, y - centre
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * jnp.matmul(x, y.T, precision=_HIGHEST), 0)
