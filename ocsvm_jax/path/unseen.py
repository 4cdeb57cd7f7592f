"""Decision values of points under models fitted without them: exact leave-one-out, and folds."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax.arrays.arguments import as_float, is_concrete
from ocsvm_jax.decision import decision_function
from ocsvm_jax.path.batches import map_in_batches
from ocsvm_jax.solver import ocsvm_solve
from ocsvm_jax.solver.checks import check_nu

# A batch in which no point needs a refit is skipped, and small batches are skipped more often.
_REFITS_AT_ONCE = 32


class LeaveOneOut(NamedTuple):
    """Decision value of each point under the model fitted without it.

    Attributes:
      decision: (n,) f_{-i}(x_i), the decision value of point i under the model fitted to the n - 1
        other points, or to the other folds.
      gap: (n,) the KKT gap of that model, in units of K.
      status: (n,) its `Status`.
    """

    decision: Float[Array, "*batch n"]
    gap: Float[Array, "*batch n"]
    status: Int[Array, "*batch n"]


def leave_one_out(
    K: Num[ArrayLike, "n n"], nu: Any, *, tol: float | None = None, max_steps: int | None = None
) -> LeaveOneOut:
    """The decision value of each point under the model refitted without it, exactly.

    A refit has n - 1 points and the same nu, so its bound on alpha is C' = 1 / (nu (n - 1)), not
    1 / (nu n). Solve once for all points with the bound C'. A point with alpha = 0 there can be
    removed without any change, so that solution is its refit already. Only the support vectors are
    solved again, each with its weight set to 0 (all points, if no alpha is free and rho is not
    unique). Under `vmap` all n are solved again. In reverse mode the refits are solved a second
    time, to save memory.

    Args:
      K: (n, n) Gram matrix, n >= 2, as in `ocsvm_solve`.
      nu: scalar in (0, 1], may be traced.
      tol: as in `ocsvm_solve`.
      max_steps: as in `ocsvm_solve`.

    Returns:
      A `LeaveOneOut`; `jnp.mean(result.decision < 0)` is the leave-one-out rejection rate. Its
      expectation is the share of the distribution that a model of n - 1 points rejects.

    Raises:
      ValueError: if K is not a square matrix of at least two points; if K holds NaN or infinite
        values, or nu is outside (0, 1], unless they are traced.
    """
    K = as_float(K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.shape[0] < 2:
        raise ValueError(
            f"K has shape {K.shape}; leave_one_out takes a square Gram matrix of at least 2 points."
        )
    if is_concrete(nu):
        check_nu(nu)
    if is_concrete(K) and not np.all(np.isfinite(K)):
        raise ValueError("K holds NaN or infinite values; check the points and the kernel.")
    return _leave_one_out(max_steps, K, jnp.asarray(nu).astype(K.dtype), tol)


# Jitted here, since an eager call would otherwise trace and compile the loop each time.
@partial(jax.jit, static_argnums=0)
def _leave_one_out(
    max_steps: int | None, K: Float[Array, "n n"], nu: Float[Array, ""], tol: Any
) -> LeaveOneOut:
    n = K.shape[0]
    solve = partial(ocsvm_solve, tol=tol, max_steps=max_steps)
    # C' is the bound for n points and a slightly smaller nu.
    whole = solve(K, nu * (n - 1) / n)
    of_whole = [jnp.broadcast_to(a, (n,)) for a in (whole.gap, whole.status)]
    known = LeaveOneOut(decision_function(whole, K), *of_whole)
    needed = (whole.alpha > 0) | ~jnp.any(whole.free)

    def refit(i: Int[Array, ""]) -> LeaveOneOut:
        others = solve(K, nu, sample_weight=jnp.ones(n, K.dtype).at[i].set(0))
        f = decision_function(others, K[i][None, :])[0]
        return LeaveOneOut(f, others.gap, others.status)

    def look_up(batch: Int[Array, " size"]) -> LeaveOneOut:
        return jax.tree.map(lambda a: a[batch], known)

    # Without the checkpoint the gradient would store a matrix of K's size for each refit.
    @jax.checkpoint
    def run(batch: Int[Array, " size"]) -> LeaveOneOut:
        return lax.cond(jnp.any(needed[batch]), jax.vmap(refit), look_up, batch)

    needed_first = jnp.argsort(~needed)
    out = map_in_batches(run, needed_first, num_points=n, at_most=_REFITS_AT_ONCE)
    return jax.tree.map(lambda a: jnp.zeros_like(a).at[needed_first].set(a), out)


def leave_folds_out(
    K: Num[ArrayLike, "n n"],
    nu: Any,
    fold: Int[ArrayLike, " n"],
    num_folds: int,
    *,
    sample_weight: Num[ArrayLike, " n"] | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
) -> LeaveOneOut:
    """The decision value of each point under the model fitted to the other folds.

    This takes `num_folds` solves, fewer than `leave_one_out` if many points are support vectors;
    each model is fitted to a share 1 / num_folds fewer points. It works under jit and vmap, and is
    differentiable as `ocsvm_solve` is.

    Args:
      K: (n, n) Gram matrix.
      nu: scalar in (0, 1], may be traced; the same for all models.
      fold: (n,) the fold of each point, 0 to num_folds - 1. Put copies of a point in one fold.
      num_folds: at least 2; each fold's complement needs a point of positive weight.
      sample_weight: (n,) non-negative weights, which count as repetitions.
      tol: as in `ocsvm_solve`.
      max_steps: as in `ocsvm_solve`.

    Raises:
      ValueError: if num_folds is less than 2, and as `ocsvm_solve`.
    """
    if num_folds < 2:
        raise ValueError(f"num_folds is {num_folds}; it must be at least 2.")
    K, fold = as_float(K), jnp.asarray(fold)
    w = jnp.ones(K.shape[0], K.dtype) if sample_weight is None else as_float(sample_weight)
    w = w.astype(K.dtype)

    def of_others(k: Int[Array, ""]) -> tuple[Array, Array, Array]:
        others = jnp.where(fold == k, 0, w)
        solution = ocsvm_solve(K, nu, sample_weight=others, tol=tol, max_steps=max_steps)
        return decision_function(solution, K), solution.gap, solution.status

    f, gap, status = jax.vmap(of_others)(jnp.arange(num_folds, dtype=fold.dtype))
    return LeaveOneOut(f[fold, jnp.arange(K.shape[0])], gap[fold], status[fold])
