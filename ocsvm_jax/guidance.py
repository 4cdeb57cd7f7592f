"""The guidance loss of OgAE (arXiv 2507.21164, equation (7)).

A batch of latents is split into two halves. A one-class SVM is solved exactly on the first, z_sv;
the loss is how far the second, z_L, falls outside it. The gradient has two routes: the *expander*
through z_sv (and through alpha and rho) moves the boundary, and the *compactor* through z_L moves
the points. The weights (beta1, beta2) scale these gradients and never change the value.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax.arrays.arguments import as_float
from ocsvm_jax.arrays.scaling import standardized
from ocsvm_jax.decision import decision_function
from ocsvm_jax.dual_of_points import solve_gram
from ocsvm_jax.kernels import Kernel, gram, rbf, resolve_gamma
from ocsvm_jax.solver import OCSVMSolution


class GuidanceAux(NamedTuple):
    """Intermediate results of the loss, which suffice to score new latents later.

    Attributes:
      solution: solution of the dual on z_sv.
      gamma: () gamma of the RBF kernel; NaN if another kernel was given.
      z_sv: (b/2, d) the support half, standardised if asked for.
      mean: (d,) mean of the support half, 0 without standardisation.
      std: (d,) standard deviation of the support half + 1e-6, 1 without standardisation.
      num_outside: () number of points of z_L with a negative decision value.
    """

    solution: OCSVMSolution
    gamma: Float[Array, ""]
    z_sv: Float[Array, "half d"]
    mean: Float[Array, " d"]
    std: Float[Array, " d"]
    num_outside: Int[Array, ""]


def guidance_loss(
    z: Num[ArrayLike, "b d"],
    *,
    nu: Any,
    gamma: Any = "scale",
    kernel: Kernel | None = None,
    betas: tuple[Any, Any] = (1.0, 1.0),
    standardize: bool = True,
    differentiate_dual: bool = True,
) -> tuple[Float[Array, ""], GuidanceAux]:
    """n_sv * sum_i max(0, -f(z_L,i)), with f the one-class SVM of the first half (equation (7)).

    Args:
      z: (b, d) latents, b even: rows [:b/2] are z_sv, rows [b/2:] are z_L. Shuffle them first.
      nu: scalar in (0, 1], may be traced.
      gamma: gamma of the RBF kernel: a positive number (may be traced), "scale" or "auto". The
        latter are resolved on z_sv and held constant in the derivative, as in the authors'
        experiments.
      kernel: any function of two points, in place of the RBF kernel.
      betas: (beta1, beta2), the weights of the expander's and the compactor's gradient, may be
        traced. A route with weight 0 contributes exactly 0, even if its gradient is not finite.
      standardize: whether to scale each half per dimension by its own mean and (biased) standard
        deviation + 1e-6.
      differentiate_dual: whether the expander differentiates alpha and rho. If not, they are held
        constant, and only the kernel and the standardisation carry its gradient.

    Returns:
      The loss, a non-negative scalar, and a `GuidanceAux`.

    Raises:
      ValueError: if z is not two-dimensional with an even number of rows.

    Example:
      >>> import jax
      >>> from ocsvm_jax import guidance_loss
      >>> z = jax.random.normal(jax.random.key(0), (60, 8))
      >>> loss_and_grad = jax.value_and_grad(guidance_loss, has_aux=True)
      >>> (loss, aux), gradient = loss_and_grad(z, nu=0.1)
      >>> bool(loss >= 0), gradient.shape, aux.z_sv.shape
      (True, (60, 8), (30, 8))
    """
    halves = solve_halves(
        z,
        nu=nu,
        gamma=gamma,
        kernel=kernel,
        betas=betas,
        standardize=standardize,
        differentiate_dual=differentiate_dual,
    )
    loss, num_outside = misfit(halves)
    return loss, lax.stop_gradient(remembered(halves, num_outside))


class Halves(NamedTuple):
    """The two halves of a batch and the one-class SVM of the first, with both gradient routes.

    Attributes:
      z_sv: (b/2, d) the support half, standardised if asked for.
      z_L: (b/2, d) the other half, standardised by its own statistics if asked for.
      mean_sv: (d,) mean of the support half, 0 without standardisation.
      std_sv: (d,) its standard deviation + 1e-6, 1 without standardisation.
      mean_L: (d,) mean of the other half, 0 without standardisation.
      std_L: (d,) its standard deviation + 1e-6, 1 without standardisation.
      gamma: () gamma of the RBF kernel; NaN if another kernel was given.
      kernel: the kernel.
      solution: solution of the dual on z_sv, held constant unless the dual is differentiated.
    """

    z_sv: Float[Array, "half d"]
    z_L: Float[Array, "half d"]
    mean_sv: Float[Array, " d"]
    std_sv: Float[Array, " d"]
    mean_L: Float[Array, " d"]
    std_L: Float[Array, " d"]
    gamma: Float[Array, ""]
    kernel: Any
    solution: OCSVMSolution


def solve_halves(
    z: Num[ArrayLike, "b d"],
    *,
    nu: Any,
    gamma: Any,
    kernel: Kernel | None,
    betas: tuple[Any, Any],
    standardize: bool,
    differentiate_dual: bool,
) -> Halves:
    """The intermediate results of `guidance_loss`, for losses that are built from them.

    Args:
      z: (b, d) latents, b even.
      nu: scalar in (0, 1].
      gamma: gamma of the RBF kernel.
      kernel: any function of two points, or None for the RBF kernel.
      betas: (beta1, beta2), the weights of the two gradients.
      standardize: whether to standardise each half.
      differentiate_dual: whether alpha and rho are differentiated.

    Raises:
      ValueError: if z is not two-dimensional with an even number of rows.
    """
    z = as_float(z)
    if z.ndim != 2 or z.shape[0] % 2 or z.shape[0] == 0:
        raise ValueError(
            f"z has shape {z.shape}; guidance_loss splits it into two halves, so it must be (b, d) "
            "with an even b: choose an even batch size, or drop a row."
        )
    half = z.shape[0] // 2
    beta1, beta2 = (jnp.asarray(b).astype(z.dtype) for b in betas)
    z_sv, mean_sv, std_sv = _standardized(scale_gradient(z[:half], beta1), standardize)
    z_L, mean_L, std_L = _standardized(scale_gradient(z[half:], beta2), standardize)

    number = jnp.asarray(jnp.nan, z.dtype)
    if kernel is None:
        number = resolve_gamma(gamma, z_sv)
        number = lax.stop_gradient(number) if isinstance(gamma, str) else number
        kernel = rbf(number)
    solution = solve_gram(kernel, z_sv, nu)
    used = solution if differentiate_dual else lax.stop_gradient(solution)
    return Halves(z_sv, z_L, mean_sv, std_sv, mean_L, std_L, number, kernel, used)


def misfit(halves: Halves) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """n_sv * sum_i max(0, -f(z_L,i)), and the number of points of z_L with negative f."""
    f = decision_function(halves.solution, gram(halves.kernel, halves.z_L, halves.z_sv))
    return halves.z_sv.shape[0] * jnp.sum(jnp.maximum(-f, 0)), jnp.sum(f < 0, dtype=jnp.int32)


def remembered(halves: Halves, num_outside: Int[Array, ""]) -> GuidanceAux:
    """Packs the halves into a `GuidanceAux`, to score new latents later."""
    return GuidanceAux(
        halves.solution, halves.gamma, halves.z_sv, halves.mean_sv, halves.std_sv, num_outside
    )


def _standardized(
    z: Float[Array, "n d"], standardize: bool
) -> tuple[Float[Array, "n d"], Float[Array, " d"], Float[Array, " d"]]:
    if not standardize:
        return z, jnp.zeros(z.shape[1], z.dtype), jnp.ones(z.shape[1], z.dtype)
    return standardized(z)


@jax.custom_jvp
def scale_gradient(x: Float[Array, "..."], weight: Float[Array, ""]) -> Float[Array, "..."]:
    """x with its derivative multiplied by `weight`; a weight of 0 stops even NaN and infinity."""
    del weight
    return x


@scale_gradient.defjvp
def _scale_gradient_jvp(primals: Any, tangents: Any) -> Any:
    x, weight = primals
    dx, _ = tangents
    return x, jnp.where(weight == 0, 0, dx) * weight


BetaSchedule = Callable[[Any], tuple[Float[Array, ""], Float[Array, ""]]]


def constant_betas(betas: tuple[Any, Any]) -> BetaSchedule:
    """The same (beta1, beta2) in every epoch; the weights may be traced."""
    _check_betas(betas)
    return lambda epoch: (jnp.asarray(betas[0], jnp.float32), jnp.asarray(betas[1], jnp.float32))


def two_phase_betas(
    num_epochs: int,
    first: tuple[Any, Any] = (1.0, 0.0),
    second: tuple[Any, Any] = (1.0, 1.0),
) -> BetaSchedule:
    """`first` for the first half of the epochs, then `second` (the paper's best schedule).

    The paper ends on (0.5, 0.5) or (1, 1); a note of its authors says it was run with (1, 1).

    Args:
      num_epochs: number of epochs of the training; epochs count from 0 and may be traced.
      first: weights in epochs below num_epochs / 2 (rounded up), may be traced.
      second: weights in the remaining epochs.
    """
    _check_betas(first)
    _check_betas(second)
    switch = phase_switch(num_epochs)

    def betas(epoch: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
        early = jnp.asarray(epoch) < switch
        pairs = (jnp.asarray([a, b], jnp.float32) for a, b in zip(first, second, strict=True))
        beta1, beta2 = (jnp.where(early, pair[0], pair[1]) for pair in pairs)
        return beta1, beta2

    return betas


def phase_switch(num_epochs: int) -> int:
    """The epoch, counted from 0, at which the second of two phases begins."""
    return (num_epochs + 1) // 2


def _check_betas(betas: tuple[Any, Any]) -> None:
    if len(betas) != 2 or any(_known_wrong(b) for b in betas):
        raise ValueError(f"betas are {betas}; they must be two finite numbers of at least 0.")


def _known_wrong(beta: Any) -> bool:
    """Whether a weight is known not to be a finite number of at least 0; a traced one is not."""
    try:
        return not 0 <= float(beta) < float("inf")
    except jax.errors.ConcretizationTypeError:
        return False
