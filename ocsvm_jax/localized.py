"""Many one-class SVMs at once, one per location: the brain experiment has one per voxel.

Each location has its own training points (the latents of co-located patches of all subjects) and
its own model. `fit_locations` and `score_locations` are pure functions for use under `jit`;
`ocsvm_jax.blocks.in_blocks` streams any number of locations through them in blocks of one size, on
all devices, and on a CPU on all cores.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, section on localised one-class SVMs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num, Shaped

from ocsvm_jax import devices, forks
from ocsvm_jax.arrays.arguments import as_float, as_numbers, float_dtype, is_concrete
from ocsvm_jax.arrays.distances import squared_distances
from ocsvm_jax.arrays.parts import in_parts
from ocsvm_jax.arrays.points import warn_of_cast
from ocsvm_jax.arrays.scaling import check_resolvable, standardized
from ocsvm_jax.dual_of_points import RBF_MINUS_1
from ocsvm_jax.kernels import resolve_gamma
from ocsvm_jax.solver.pairwise import Points, solve_points

_TINY = 1e-30  # smaller than every alpha that is not 0
_HIGHEST = lax.Precision.HIGHEST
# Locations whose matrices an accelerator holds at once: at n = 60 some 130 MB, and enough problems
# to fill it twice over.
_AT_ONCE = 4096


class LocalizedModel(NamedTuple):
    """The one-class SVMs of v locations, with n training points of d dimensions each.

    The kernel is represented as k - 1, which only changes rho, since sum(alpha) = 1. If gamma is
    small compared with the distances, all of K is close to 1, and in float32 k itself would lose
    the digits that matter. The points are kept as they were given, since differences between them
    lose no digits: the relative error of each squared distance is at most (d / 2 + 5) eps, whatever
    the other points are.

    Attributes:
      z: (v, n, d) training points, not standardised; the mean in place of a missing point.
      alpha: (v, n) dual coefficients.
      rho: (v,) offset in units of k - 1, not positive.
      gamma: (v,) gamma of the RBF kernel.
      mean: (v, d) mean of the training points, 0 without standardisation; no score depends on it.
      std: (v, d) divisor of differences, 1 without standardisation.
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
    z: Num[ArrayLike, "v n d"],
    present: Shaped[ArrayLike, "v n"] | None = None,
    *,
    nu: Any,
    gamma: Any,
    standardize: bool = False,
) -> LocalizedModel:
    """Fits one one-class SVM per location, exactly.

    Args:
      z: (v, n, d) the n training points of each of v locations.
      present: (v, n) false where a point is missing (a subject whose brain does not reach there).
        A missing point has weight 0 and takes no part. A location where all points are missing ends
        as INVALID, and its scores are NaN.
      nu: scalar in (0, 1].
      gamma: gamma of the RBF kernel: a positive number, "scale" (1 / (d * variance of all entries),
        per location) or "auto" (1 / d).
      standardize: whether to subtract the mean and divide by the (biased) standard deviation + 1e-6
        of each location and dimension.

    Warns:
      PrecisionWarning: if the cast of NumPy points to the dtype of the computation moves them by
        more than 1e-3 of the spread of a dimension at a location.

    Raises:
      ValueError: if shapes do not fit, or gamma is another string or not a positive number.
    """
    forks.refuse("fit_locations")
    z = as_numbers(z, "z")
    if z.ndim != 3:
        raise ValueError(f"z has shape {z.shape}; it must be (locations, points, dimensions).")
    none_missing = present is None
    present = jnp.ones(z.shape[:2], bool) if present is None else jnp.asarray(present, bool)
    if present.shape != z.shape[:2]:
        raise ValueError(f"present has shape {present.shape}; z needs {z.shape[:2]}.")
    check_resolvable(gamma)
    _warn_of_cast(z, present)
    z = as_float(z, "z")

    def one(z: Array, present: Array) -> LocalizedModel:
        weight = present.astype(z.dtype)
        scaled, mean, std = standardized(z, weight)
        # A missing point is put at the mean, where it costs no distance its digits.
        z = jnp.where(present[:, None], z, mean[None, :])
        if not standardize:
            scaled, mean, std = z, jnp.zeros_like(mean), jnp.ones_like(std)
        number = resolve_gamma(gamma, scaled, weight)
        solution = solve_points(RBF_MINUS_1, Points(z, 1 / std, number), nu, sample_weight=weight)
        return LocalizedModel(
            z,
            solution.alpha,
            solution.rho,
            number,
            mean,
            std,
            solution.gap,
            solution.status,
        )

    if devices.on_cpu():
        return jax.vmap(one)(z, present)
    if none_missing:
        # All locations share one row: XLA would fold each reduction of a (v, n) constant while it
        # compiles, 9 s each for 68,000 locations.
        whole = jnp.ones(z.shape[1], bool)
        return _with_room(jax.vmap(lambda z: one(z, whole)), z)
    return _with_room(jax.vmap(one), z, present)


def _with_room(function: Callable[..., Any], *arrays: Array) -> Any:
    """`function(*arrays)`, of at most `_AT_ONCE` locations after another."""
    v = arrays[0].shape[0]
    if v <= _AT_ONCE:
        return function(*arrays)
    parts = -(-v // _AT_ONCE)
    return in_parts(function, arrays, -(-v // parts))


def _warn_of_cast(z: Any, present: Array) -> None:
    dtype = float_dtype(z.dtype)
    narrower = z.dtype.kind in "iuf" and z.dtype.itemsize >= 4 and z.dtype != dtype
    if not (narrower and isinstance(z, np.ndarray) and is_concrete(present) and z.size):
        return
    # A missing point may hold anything, so a present one takes its place.
    there = np.asarray(present)[..., None]
    z = np.where(there, z, np.take_along_axis(z, np.argmax(there, axis=1)[:, None], axis=1))
    columns = np.moveaxis(z, 1, 0).reshape(z.shape[1], -1)
    warn_of_cast(columns[:, np.all(np.isfinite(columns), axis=0)], dtype, stacklevel=5)


def score_locations(model: LocalizedModel, queries: Num[ArrayLike, "v m d"]) -> Float[Array, "v m"]:
    """-f of m queries at each location, in units of the kernel; larger is more anomalous.

    Args:
      model: the models of v locations.
      queries: (v, m, d) points, in the same form as the training points of `fit_locations`.

    Raises:
      ValueError: if the queries' locations or dimensions are not the model's.
    """

    def one(model: LocalizedModel, queries: Array) -> Array:
        return model.rho - _sum(model, _log_kernel(model, queries))

    return _scores(one, model, queries)


def log_score_locations(
    model: LocalizedModel, queries: Num[ArrayLike, "v m d"]
) -> Float[Array, "v m"]:
    """log(rho) - log(sum_j alpha_j k(z_j, z)): -f on an unbounded scale, 0 on the boundary.

    At one location it ranks points as -f does. It allows comparisons between locations, since it
    does not saturate: far from all training points every kernel value is 0 and -f is rho, whatever
    the distance, but this score still grows with the square of the distance.

    Args:
      model: the models of v locations.
      queries: (v, m, d) points, as in `score_locations`.

    Raises:
      ValueError: as `score_locations`.
    """

    def one(model: LocalizedModel, queries: Array) -> Array:
        log_k = _log_kernel(model, queries)
        # Near the points the score is computed from -f, which is accurate there. Far from them the
        # sum of k - 1 rounds to -1, and the logarithm is computed directly.
        total = _sum(model, log_k)
        near = total > -0.5
        total = jnp.where(near, total, 0)
        log_alpha = jnp.where(model.alpha > 0, jnp.log(jnp.maximum(model.alpha, _TINY)), -jnp.inf)
        log_total = jax.scipy.special.logsumexp(log_k + log_alpha[:, None], axis=0)
        return jnp.where(
            near,
            jnp.log1p((model.rho - total) / (1 + total)),
            jnp.log1p(model.rho) - log_total,
        )

    return _scores(one, model, queries)


def _scores(
    one: Callable[[LocalizedModel, Array], Array],
    model: LocalizedModel,
    queries: Num[ArrayLike, "v m d"],
) -> Float[Array, "v m"]:
    """Applies a score of one location to all."""
    queries = _checked(model, queries)
    if devices.on_cpu():
        return jax.vmap(one)(model, queries)
    of_some = lambda *rows: jax.vmap(one)(LocalizedModel(*rows[:-1]), rows[-1])  # noqa: E731
    return _with_room(of_some, *model, queries)


def _checked(model: LocalizedModel, queries: Num[ArrayLike, "v m d"]) -> Float[Array, "v m d"]:
    queries = as_float(queries).astype(model.z.dtype)
    v, _, d = model.z.shape
    if queries.ndim != 3 or queries.shape[0] != v or queries.shape[2] != d:
        raise ValueError(
            f"queries have shape {queries.shape}; the model has {v} locations and {d} dimensions, "
            f"so it must be ({v}, m, {d})."
        )
    return queries


def _log_kernel(model: LocalizedModel, queries: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """-gamma |(z_j - z) / std|^2 at one location; the mean cancels in the difference."""
    return -model.gamma * squared_distances(model.z, queries, 1 / model.std)


def _sum(model: LocalizedModel, log_k: Float[Array, "n m"]) -> Float[Array, " m"]:
    """sum_j alpha_j (k(z_j, z) - 1) at one location."""
    return jnp.matmul(model.alpha, jnp.expm1(log_k), precision=_HIGHEST)
