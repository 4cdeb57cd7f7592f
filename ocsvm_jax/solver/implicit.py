"""`ocsvm_solve` and its derivative, by the implicit function theorem on the optimality system.

Derivation. Hold the active set fixed: F free, B at the upper bound, the rest at zero. Then

    (K alpha)_F = rho 1,     alpha_B = C_B,     sum(alpha) = 1.

Differentiating, with dK symmetric and x = d alpha on F:

    K_FF x - d rho 1 = -(dK alpha)_F - K_FB dC_B,     1'x = -1' dC_B.

Put x = t 1/m + y with t = -1' dC_B, m = |F| and 1'y = 0; then
H y = -P (dK alpha + K_FB dC_B + K_FF 1 t/m), with the reduced Hessian H of free_set.py, and d rho
is the mean over F of (dK alpha + K d alpha).
Everything is linear in (dK, dC), so the reverse rule is its transpose. H y = b is solved through
`lax.custom_linear_solve`, which can itself be differentiated, to any order.

Where the solution map has a kink, the derivative is chosen as follows. If H is singular, y has
minimum norm (the derivatives of f and rho are the same for any y). If no index is free,
alpha_i = C_i / sum_B C, and rho keeps the weights of `kkt.rho_weights`. At a change of the active
set, the derivative belongs to the side on which the solve ended.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Num

from ocsvm_jax.solver import dual, free_set, fused, kkt
from ocsvm_jax.solver.batching import lanes_function
from ocsvm_jax.solver.checks import check_arguments
from ocsvm_jax.solver.conditioning import meaningful
from ocsvm_jax.solver.inverse import one_by_one
from ocsvm_jax.solver.solution import OCSVMSolution, Status


def ocsvm_solve(
    K: Num[ArrayLike, "n n"],
    nu: Any,
    *,
    sample_weight: Num[ArrayLike, " n"] | None = None,
    tol: Float[ArrayLike, ""] | float | None = None,
    max_steps: int | None = None,
) -> OCSVMSolution:
    """Solves the one-class SVM dual exactly; differentiable in K, nu and sample_weight.

    Minimises 1/2 alpha' K alpha subject to sum(alpha) = 1 and 0 <= alpha_i <= w_i / (nu * sum w)
    (arXiv 2507.21164, equation (2) scaled to sum 1). Works under jit, vmap, grad, jvp, jacfwd,
    jacrev and hessian. The derivative holds the active set, as the solution does almost everywhere;
    this module's docstring states which one-sided or minimum-norm derivative is taken elsewhere.

    Args:
      K: (n, n) Gram matrix, symmetric positive semi-definite. The dtype of K is the dtype of the
        solve; integers are promoted to the default float, half precision to float32.
      nu: scalar in (0, 1], may be traced: an upper bound on the share of points with f < 0 and a
        lower bound on the share of support vectors.
      sample_weight: (n,) non-negative weights, all 1 by default. A point of weight 0 takes no part,
        so the weights also serve as a padding mask.
      tol: bound on the KKT gap, in units of K. By default 1e-10 (float64) or 4e-6 (float32) times
        alpha' |K - c| alpha, the scale of K as the support sees it, so that one far row with
        entries larger by many orders of magnitude does not make it coarser. c is 0, or a number
        that most entries of K are close to. If that scale exceeds both k(x, x) of most points and
        alpha' (K - c) alpha a thousand times, huge terms cancel, and the scale is
        alpha' (K - c) alpha.
      max_steps: bound on the two-variable steps, by default 10,000 + 100 n.

    Returns:
      An `OCSVMSolution`. Check `status` and `gap`: `gap` is an upper bound on the violation of the
      optimality conditions by the returned alpha, rounding included, and `status` says whether it
      is within `tol`. CONVERGED means that every point lies on the same side of the boundary as in
      the exact solution, except points whose f is 0 within the tolerance (counted on ill-scaled
      problems in benchmarks/results/hard.md).

    Raises:
      TypeError: if an argument does not hold real numbers.
      ValueError: if shapes do not fit; if K holds NaN or infinite values, nu is outside (0, 1], or
        weights are negative or all zero. Values can only be checked outside jit; under jit the
        solution of an invalid problem is NaN and its status INVALID.

    Example:
      >>> import jax.numpy as jnp
      >>> from ocsvm_jax import Status, gram, ocsvm_solve, rbf
      >>> x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0]])
      >>> solution = ocsvm_solve(gram(rbf(0.5), x), 0.5)
      >>> Status(int(solution.status)).name
      'CONVERGED'
      >>> float(jnp.sum(solution.alpha).round(3))
      1.0
      >>> bool(jnp.all(solution.alpha <= 1 / (0.5 * 4)))
      True
    """
    K, nu, w, gap_bound, steps = check_arguments(K, nu, sample_weight, tol, max_steps)
    how = fused.choice(K.shape[0], K.dtype)

    def iterate(C: Float[Array, " n"]) -> dual.LaneSolution:
        return _iterate(*lax.stop_gradient((K, C, gap_bound)), steps, how)

    return with_derivatives(iterate, K, nu, w)


def with_derivatives(
    iterate: Callable[[Float[Array, " n"]], dual.LaneSolution],
    K: Float[Array, "n n"],
    nu: Float[Array, ""],
    w: Float[Array, " n"],
) -> OCSVMSolution:
    """The solution, as a differentiable function of K, nu and the weights.

    Args:
      iterate: solves the dual of K for the upper bounds on alpha; its derivative is not used.
      K: (n, n) Gram matrix, which is read for derivatives only.
      nu: scalar in (0, 1].
      w: (n,) weights, as `check_arguments` returns them.
    """
    total = jnp.sum(w)
    part = w > 0
    valid = (nu > 0) & (nu <= 1) & jnp.all(w >= 0) & (total > 0) & jnp.isfinite(total)
    # An invalid problem is replaced by a valid one for the iteration, and its solution by NaN.
    C = jnp.where(valid, w / jnp.where(valid, nu * total, 1), 1)
    solved = iterate(C)
    valid = valid & (solved.status != Status.INVALID)
    # Only the derivative needs this K; without a derivative the compiler removes it.
    K = jnp.where(valid, meaningful(K, part), 0)
    held = _Held(solved.alpha, solved.rho, solved.rho_weights, solved.shift)
    alpha, rho = _with_derivative(K, C, held)
    nan = lambda x: jnp.where(valid, x, jnp.nan)  # noqa: E731
    return OCSVMSolution(
        alpha=nan(alpha),
        rho=nan(rho),
        free=kkt.free_set(solved.alpha, C) & valid,
        gap=nan(solved.gap),
        num_steps=solved.num_steps,
        status=jnp.where(valid, solved.status, jnp.int32(Status.INVALID)),
    )


# Jitted here, since an eager call would otherwise trace and compile the loops each time.
@partial(jax.jit, static_argnums=(3, 4))
def _iterate(
    K: Float[Array, "n n"],
    C: Float[Array, " n"],
    tol: Float[Array, ""],
    max_steps: int,
    how: fused.Choice,
) -> dual.LaneSolution:
    run = partial(dual.solve_lanes, max_steps=max_steps)
    one_program = None if how == "plain" else partial(fused.solve_lanes, max_steps=max_steps)
    return lanes_function(run, one_program, how)(K, C, tol)


class _Held(NamedTuple):
    """The solution, held constant in the derivative."""

    alpha: Float[Array, " n"]
    rho: Float[Array, ""]
    rho_weights: Float[Array, " n"]
    shift: Float[Array, ""]


@jax.custom_jvp
def _with_derivative(
    K: Float[Array, "n n"], C: Float[Array, " n"], held: _Held
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """alpha and rho as functions of K and C."""
    del K, C
    return held.alpha, held.rho


@_with_derivative.defjvp
def _with_derivative_jvp(primals: Any, tangents: Any) -> Any:
    K, C, held = primals
    dK, dC, _ = tangents
    # Through the function again, so that the rule itself can be differentiated.
    alpha, rho = _with_derivative(*primals)
    free = kkt.free_set(held.alpha, C)
    inside = free.astype(K.dtype)
    m = jnp.sum(inside)
    d_bound = jnp.where((alpha > 0) & ~free, dC, 0)
    # With no free index all support vectors are bounded: alpha_i = C_i / sum_B C.
    total = jnp.where(m == 0, jnp.sum(jnp.where(alpha > 0, C, 0)), 1)
    d_bound = (d_bound - jnp.where(m == 0, jnp.sum(d_bound), 0) * alpha) / total
    even = -jnp.sum(d_bound) * inside / jnp.maximum(m, 1)

    # The shift has no effect: K_shifted only multiplies vectors that sum to zero.
    K_shifted = K - held.shift
    dg = free_set.matvec(dK, alpha) + free_set.matvec(K_shifted, d_bound + even)
    y = _solve_free_set(K_shifted, free, -dg)
    d_alpha = d_bound + even + y
    d_rho = jnp.sum(held.rho_weights * (dg + free_set.matvec(K_shifted, y)))

    return (alpha, rho), (d_alpha, d_rho)


def _solve_free_set(
    K: Float[Array, "n n"], free: Bool[Array, " n"], b: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Solves P K P y = P b with y = P y, of minimum norm if that is not unique."""
    how = fused.choice(K.shape[0], K.dtype)
    inverse = _projected_inverse(lax.stop_gradient(K), free, how)

    def operator(y: Array) -> Array:
        return free_set.project(free_set.matvec(K, free_set.project(y, free)), free)

    def solve(_: Any, b: Array) -> Array:
        inner = free_set.project(b, free)
        y = free_set.matvec(inverse, inner)
        residual = free_set.project(inner - free_set.matvec(K, y), free)
        return y + free_set.matvec(inverse, residual)

    y = lax.custom_linear_solve(operator, free_set.project(b, free), solve, symmetric=True)
    return free_set.project(y, free)


@partial(jax.jit, static_argnums=2)
def _projected_inverse(
    K: Float[Array, "n n"], free: Bool[Array, " n"], how: fused.Choice
) -> Float[Array, "n n"]:
    one_program = None if how == "plain" else fused.projected_inverses
    return lanes_function(_projected_inverses, one_program, how)(K, free)


def _projected_inverses(
    K: Float[Array, "lanes n n"], free: Bool[Array, "lanes n"]
) -> Float[Array, "lanes n n"]:
    """The pseudo-inverse of H = P K P for each lane, on all n indices (zero off the free set)."""
    n = K.shape[1]
    parts = jax.vmap(free_set.reduction)(K, jnp.diagonal(K, axis1=1, axis2=2), free)
    ones = free.astype(K.dtype)
    scale, to_reference, used, reference = jax.vmap(free_set.on_slots)(
        parts, parts.scale, parts.to_reference, ones, parts.reference.astype(K.dtype)
    )

    def at_size(size: int) -> Array:
        systems = free_set.reduced_systems(K, parts, scale, to_reference, size)
        ours = scale[:, :size], reference[:, :size] > 0, used[:, :size] > 0

        def by_eigenvalues() -> Array:
            return lax.platform_dependent(
                systems.matrix,
                *ours,
                cpu=partial(one_by_one, free_set.pseudo_inverse),
                default=jax.vmap(free_set.pseudo_inverse),
            )

        inverses = jax.vmap(free_set.projected_inverse)(systems.inverse, *ours[:2])
        # An eigendecomposition costs as much as twenty Cholesky factorisations: only if needed.
        pseudo = lax.cond(jnp.any(systems.singular), by_eigenvalues, lambda: inverses)
        inverses = jnp.where(systems.singular[:, None, None], pseudo, inverses)
        return jnp.pad(inverses, ((0, 0), (0, n - size), (0, n - size)))

    return jax.vmap(free_set.on_indices)(parts, free_set.at_smallest_size(free, at_size))
