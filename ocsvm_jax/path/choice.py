"""`choose_model`: nu and gamma without labels, in any dimension."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax.arrays.points import fitted_points
from ocsvm_jax.kernels import Kernel, gram, is_shift_invariant, rbf, resolve_gamma
from ocsvm_jax.path.criteria import finest_gamma
from ocsvm_jax.path.defaults import NU, neighbour_gamma
from ocsvm_jax.path.grid import check_axes
from ocsvm_jax.path.progress import Clock, GridProgress
from ocsvm_jax.path.rows import Rows, checked_rows, deal, draw
from ocsvm_jax.path.unseen import leave_folds_out

# The default grid, in units of the gamma of `robust_defaults`: a decade and a half to each side.
_MULTIPLES = 10 ** np.linspace(-1.5, 1.5, 13)
# The grid is left half way from the limit to rejecting all points: finer kernels reject even more,
# and take the longest.
_HOPELESS = 0.5
# The coarsest kernel has the smaller of the smallest gamma and, for rbf, the gamma of
# `robust_defaults`, times this factor.
_COARSE = 10**-1.5


class ModelChoice(NamedTuple):
    """The nu and gamma that `choose_model` chose, and the values it compared.

    Attributes:
      nu: the chosen nu.
      gamma: the chosen gamma; `ocsvm_fit(x, choice.nu, gamma=choice.gamma)` fits the model.
      nus: (p,) the values of nu compared, in rising order.
      gammas: (g,) the values of gamma compared, in rising order, in the units of the kernel.
      rejected: (g,) share of the unseen points that a model with nu = 0.5 rejects, per gamma. It
        rises to 1 as the kernel gets finer. The comparison stops half way from the limit to 1;
        finer kernels are NaN, and so are invalid solves.
      coarsest: the same share with a kernel coarser than all of these. It is 0.5 up to sampling, or
        more if rows that occur many times are held out together.
      limit: the largest share that was allowed.
      crossing: the gamma at which `rejected` reaches the limit, interpolated.
      inside: whether the crossing lies within the grid; otherwise the choice is at its end, and a
        longer grid might contain a better one.
      num_points: number of points used.
    """

    nu: float
    gamma: float
    nus: Float[np.ndarray, " p"]
    gammas: Float[np.ndarray, " g"]
    rejected: Float[np.ndarray, " g"]
    coarsest: float
    limit: float
    crossing: float
    inside: bool
    num_points: int


def choose_model(
    x: Num[ArrayLike, "n d"],
    nus: Any = None,
    gammas: Any = None,
    key: Array | None = None,
    *,
    gamma_unit: Any = None,
    kernel: Callable[[Any], Kernel] = rbf,
    sample_weight: Num[ArrayLike, " n"] | None = None,
    keep: float = 0.8,
    num_folds: int = 5,
    max_points: int = 500,
    tol: float | None = None,
    max_steps: int | None = None,
    callback: Callable[[GridProgress], Any] | None = None,
) -> ModelChoice:
    """Chooses the finest kernel that still generalises to unseen points, and the nu nearest to 0.5.

    A model with nu = 0.5 has half of its points outside, or slightly fewer. It also rejects half of
    the points it has not seen, if its kernel is coarse enough to describe more than its own points
    (the nu-property: Schoelkopf, Platt, Shawe-Taylor, Smola and Williamson 2001, "Estimating the
    support of a high-dimensional distribution", where it is asymptotic). A finer kernel follows the
    distribution better, but more unseen points fall outside. The rule takes the gamma at which,
    over `num_folds` folds, only a share `keep` of the unseen points inside the coarsest model are
    still inside. If there are several such crossings it takes the last one, interpolated between
    the gammas compared. The choice is the value in `gammas` nearest to it on a logarithmic scale,
    and the value in `nus` nearest to 0.5: smaller nus rank as well if the points are clean, and
    much worse if they contain outliers. benchmarks/choice.py compares this rule, by labels, with
    about ninety others (benchmarks/results/nu_gamma.md).

    The choice is made for ranking points, not for the threshold f = 0, outside of which half of the
    points lie: take a threshold from a calibration set (`OCSVM.calibrate`, `conformal_threshold`).
    Standardise columns of different units first. If there are more than `max_points` points, that
    many are drawn at random. A host-level function, compiled once per number of points.

    Args:
      x: (n, d) points, at least two different ones; a few outliers do no harm.
      nus: (p,) each in (0, 1]; by default 0.5 alone.
      gammas: (g,) each positive; by default 13 in three decades around that of `robust_defaults`.
      key: deals the folds and draws the points; by default `jax.random.key(0)`.
      gamma_unit: unit of `gammas`: None for 1, a positive number, "scale" or "auto"
        (`resolve_gamma` of all points).
      kernel: makes a kernel from a gamma, as in `ocsvm_path`; it must get finer with gamma. If it
        is not `rbf`, `gammas` are required.
      sample_weight: (n,) non-negative weights; a weight counts as repetitions, ratios matter.
      keep: share in (0, 1); smaller values allow finer kernels.
      num_folds: at least 2.
      max_points: largest number of points to use.
      tol: as in `ocsvm_solve`.
      max_steps: as in `ocsvm_solve`.
      callback: called with a `GridProgress` after each gamma; `callback=print` shows progress and
        remaining time.

    Raises:
      ValueError: if nus, gammas, keep, num_folds or max_points are out of range, gammas are left
        out with a kernel other than `rbf`, or x is not as in `robust_defaults`.
    """
    if not 0 < keep < 1:
        raise ValueError(f"keep is {keep}; it must lie in (0, 1).")
    rows = checked_rows("choose_model", x, sample_weight)
    draw_key, fold_key = jax.random.split(jax.random.key(0) if key is None else key)
    some = draw(rows, max_points, draw_key)
    nus, gammas = _axes(nus, gammas, gamma_unit, kernel, rows, some)
    fold = deal(some.x, num_folds, fold_key)
    run = _runner(kernel, some, gammas, fold, {"tol": tol, "max_steps": max_steps})
    # The coarsest is run first and compiles, so that the clock measures the others without it.
    coarsest = run(_COARSE * min(gammas[0], neighbour_gamma(some) if kernel is rbf else np.inf))
    limit = 1 - keep * (1 - max(coarsest, NU))
    rejected = _rejected(run, gammas, limit, callback)
    crossing, inside = finest_gamma(gammas, rejected, limit)
    return ModelChoice(
        nu=_nearest(nus, NU),
        gamma=_nearest(gammas, crossing),
        nus=nus,
        gammas=gammas,
        rejected=rejected,
        coarsest=coarsest,
        limit=limit,
        crossing=crossing,
        inside=inside,
        num_points=len(some.x),
    )


def _axes(
    nus: Any, gammas: Any, unit: Any, kernel: Any, rows: Rows, some: Rows
) -> tuple[np.ndarray, np.ndarray]:
    """nus and gammas in float64 and in rising order, with the defaults filled in."""
    if gammas is None and kernel is not rbf:
        raise ValueError(
            "gammas is left out, but the default grid is for rbf only; pass gammas for this kernel."
        )
    if gammas is None and unit is not None:
        raise ValueError(f"gamma_unit is {unit!r}, but there are no gammas to multiply; pass both.")
    nus = (NU,) if nus is None else nus
    if gammas is None:
        gammas, unit = _MULTIPLES, neighbour_gamma(some)
    check_axes(nus, gammas)
    unit = float(resolve_gamma(1.0 if unit is None else unit, rows.x, rows.weight))
    return np.sort(np.asarray(nus, np.float64)), np.sort(unit * np.asarray(gammas, np.float64))


def _nearest(values: Float[np.ndarray, " k"], wanted: float) -> float:
    return float(values[np.argmin(np.abs(np.log(values / wanted)))])


def _runner(
    kernel: Any,
    rows: Rows,
    gammas: Float[np.ndarray, " g"],
    fold: Int[np.ndarray, " n"],
    limits: dict[str, Any],
) -> Callable[[float], float]:
    """A function of gamma: the weighted share of points outside the model of the other folds."""
    x, _ = fitted_points(rows.x, is_shift_invariant(kernel(gammas[0])))
    run = partial(_outside, kernel, int(np.max(fold)) + 1, limits["max_steps"])
    given = x, jnp.asarray(fold), jnp.asarray(rows.weight, x.dtype), limits["tol"]
    return lambda gamma: float(run(*given, jnp.asarray(gamma, x.dtype)))


def _rejected(
    run: Callable[[float], float],
    gammas: Float[np.ndarray, " g"],
    limit: float,
    callback: Callable[[GridProgress], Any] | None,
) -> Float[np.ndarray, " g"]:
    """`run` for each gamma; NaN after the first gamma that rejects hopelessly many points."""
    clock, shares = Clock(len(gammas), callback), np.full(len(gammas), np.nan)
    for i, gamma in enumerate(gammas):
        shares[i] = run(gamma)
        hopeless = shares[i] > limit + _HOPELESS * (1 - limit)
        result = f"gamma {gamma:.3g} rejects {shares[i]:.0%} of the points it has not seen"
        clock.tell(result, left=0 if hopeless else None)
        if hopeless:
            break
    return shares


@partial(jax.jit, static_argnums=(0, 1, 2))
def _outside(
    kernel: Any,
    num_folds: int,
    max_steps: int | None,
    x: Float[Array, "n d"],
    fold: Int[Array, " n"],
    w: Float[Array, " n"],
    tol: Any,
    gamma: Float[Array, ""],
) -> Float[Array, ""]:
    K = gram(kernel(gamma), x)
    unseen = leave_folds_out(
        K, NU, fold, num_folds, sample_weight=w, tol=tol, max_steps=max_steps
    ).decision
    share = jnp.sum(jnp.where(unseen < 0, w, 0)) / jnp.sum(w)
    return lax.select(jnp.any(jnp.isnan(unseen)), jnp.full_like(share, jnp.nan), share)
