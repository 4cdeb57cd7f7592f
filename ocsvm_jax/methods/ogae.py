"""OgAE: an autoencoder guided by an exact one-class SVM (arXiv 2507.21164, equation (7))."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ocsvm_jax.guidance import (
    BetaSchedule,
    constant_betas,
    guidance_loss,
    phase_switch,
    two_phase_betas,
)
from ocsvm_jax.kernels import Kernel
from ocsvm_jax.methods import ring
from ocsvm_jax.methods.arguments import (
    ArgumentError,
    Gamma,
    Number,
    at_least,
    check_betas,
    check_flag,
    check_gamma,
    check_nu,
    check_weight,
    one_of,
)
from ocsvm_jax.methods.base import (
    Error,
    Forward,
    Method,
    Objective,
    encoded,
    forward,
    gradient_method,
    mean_error,
    reconstruction_score,
)
from ocsvm_jax.methods.kernel_names import check_kernel, other_than_rbf
from ocsvm_jax.networks.pair import Network

GAMMA = 0.1  # by default


class Phases(NamedTuple):
    """Weights of the two gradient routes as a function of the epoch.

    Attributes:
      betas: `betas(epoch) -> (beta1, beta2)`, the weights of expander and compactor.
      first: length of the first of two phases in epochs; 0 if there is only one phase.
    """

    betas: BetaSchedule
    first: int


def ogae(
    network: Network,
    optimizer: optax.GradientTransformation,
    *,
    num_epochs: int,
    guidance_weight: Number = 1e-3,
    nu: Number = 0.03,
    kernel: str = "rbf",
    gamma: Gamma = GAMMA,
    standardize: bool = True,
    differentiate_dual: bool = True,
    schedule: str = "two_phase",
    betas: Sequence[Number] = (1.0, 0.0),
    betas_second: Sequence[Number] = (1.0, 1.0),
    last_m: int = 10,
) -> Method:
    """Minimises mean squared error + lambda * guidance; scores "last_m", "reconstruction".

    The guidance is n_sv * sum_i max(0, -f(z_L,i)), as in the authors' code and as reported here.
    The authors also write it as mean_i max(0, -f(z_L,i)), which is n_sv^2 times smaller: at batches
    of 100, with n_sv = 50, a lambda for the mean is 2,500 times that for the sum (.0004 here is 1
    there). With the two-phase schedule, early stopping only considers the second phase.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      guidance_weight: lambda of the paper, for the sum; finite and at least 0, may be traced.
      nu: nu of the one-class SVMs, in (0, 1]; may be traced.
      kernel: of the one-class SVMs: "rbf", "laplacian" or "linear". With the linear kernel,
        `standardize` must be False: where the latents have mean 0, equal weights solve the dual,
        and the decision function and the guidance are 0 everywhere.
      gamma: of their kernel: a positive number, which may be traced; with the RBF kernel also
        "scale" or "auto". The linear kernel has none.
      standardize: whether latents are standardised before the kernel, see `guidance_loss`.
      differentiate_dual: whether the gradient passes through the solution of the dual.
      schedule: "two_phase", or "constant" for `betas` in all epochs.
      betas: weights of expander and compactor, two finite numbers of at least 0; may be traced.
      betas_second: the same for the second half of the epochs.
      last_m: number of last steps over which the score "last_m" is averaged, at least 1.

    Raises:
      ArgumentError: an argument is outside its range; a subclass of ValueError.
    """
    phases = phases_of(num_epochs, schedule, betas, betas_second)
    options = guidance_options(nu, gamma, standardize, differentiate_dual, kernel)
    objective = guided_objective(network, phases, options, guidance_weight)
    score_kernel = options["kernel"]
    return guided_method(network, optimizer, objective, phases, last_m=last_m, kernel=score_kernel)


def guidance_options(
    nu: Number,
    gamma: Gamma,
    standardize: bool,
    differentiate_dual: bool,
    kernel: str = "rbf",
) -> dict[str, Any]:
    """Checks the arguments that methods pass on to `guidance_loss` or `solve_halves`."""
    check_nu("nu", nu)
    check_gamma("gamma", gamma)
    check_flag("standardize", standardize)
    check_flag("differentiate_dual", differentiate_dual)
    check_kernel(kernel, gamma, GAMMA)
    if kernel == "linear" and standardize:
        raise ArgumentError(
            "standardize is True; with the kernel 'linear' it must be False: latents of mean 0 "
            "have a decision function of 0 everywhere, and the guidance is 0."
        )
    of_kernel = {"kernel": other_than_rbf(kernel, gamma), "gamma": gamma}
    return {
        "nu": nu,
        "differentiate_dual": differentiate_dual,
        "standardize": standardize,
        **of_kernel,
    }


def phases_of(
    num_epochs: int, schedule: str, betas: Sequence[Number], betas_second: Sequence[Number]
) -> Phases:
    """Checks these arguments of `ogae` and returns its `Phases`."""
    at_least(1)("num_epochs", num_epochs)
    one_of(("two_phase", "constant"))("schedule", schedule)
    check_betas("betas", betas)
    check_betas("betas_second", betas_second)
    # Settings read from JSON have lists, not tuples.
    first, second = (betas[0], betas[1]), (betas_second[0], betas_second[1])
    if schedule == "constant":
        return Phases(constant_betas(first), 0)
    return Phases(two_phase_betas(num_epochs, first, second), phase_switch(num_epochs))


def guided_objective(
    network: Network,
    phases: Phases,
    options: dict[str, Any],
    guidance_weight: Number,
    error: Error = mean_error,
) -> Objective:
    """The objective: reconstruction error + lambda * guidance, with a one-class SVM per location.

    Latents are (b, d) or (*locations, b, d); the guidance is averaged over the locations.

    Args:
      network: encoder and decoder.
      phases: see `phases_of`.
      options: see `guidance_options`.
      guidance_weight: lambda of the paper.
      error: `error(images, x_hat) -> ()`.
    """
    check_weight("guidance_weight", guidance_weight)

    def objective(params, stats, memory, images, epoch, train):
        del memory
        betas = phases.betas(epoch)
        z, x_hat, stats = forward(network, params, stats, images, train)
        reconstruction = error(images, x_hat)

        def guide(z):
            guidance, aux = guidance_loss(z, betas=betas, **options)
            return guidance, aux.num_outside / (z.shape[0] // 2), aux

        for _ in z.shape[:-2]:
            guide = jax.vmap(guide)
        guidance, outside, aux = guide(z)
        if z.ndim > 2:
            guidance, outside = jnp.mean(guidance), jnp.mean(outside)
        loss = reconstruction + guidance_weight * guidance
        parts = {"loss": loss, "reconstruction": reconstruction, "guidance": guidance}
        return loss, Forward(stats, parts | {"outside": outside}, aux, z)

    return objective


def guided_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    phases: Phases,
    *,
    last_m: int,
    target: Callable[[Array], Array] | None = None,
    kernel: Kernel | None = None,
    draws: bool = False,
) -> Method:
    """Builds a method guided by one-class SVMs of its batches, and stores the last M of them.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      objective: its record is a `GuidanceAux`.
      phases: see `phases_of`.
      last_m: as in `ogae`.
      target: `target(images)` is what the decoder should reconstruct; None for the images.
      kernel: of the one-class SVMs; None for RBF kernels of the gammas in the records.
      draws: whether the objective draws, from the `noise` of its memory.
    """
    at_least(1)("last_m", last_m)

    def with_betas(params, stats, memory, images, epoch, train):
        loss, out = objective(params, stats, memory, images, epoch, train)
        beta1, beta2 = phases.betas(epoch)
        return loss, out._replace(parts=out.parts | {"beta1": beta1, "beta2": beta2})

    reconstruction = reconstruction_score(network)

    def score(state, images):
        z, _ = encoded(network, state.params, state.stats, images, False)
        of_what = images if target is None else target(images)
        return {
            "last_m": ring.last_m_score(state.memory, z, kernel),
            **reconstruction(state, of_what),
        }

    def init_memory(params, stats, images, key):
        noise = jax.random.key_data(key) if draws else ()
        memory = ring.Memory((), jnp.int32(0), noise)
        record = jax.eval_shape(
            lambda: objective(params, stats, memory, images, jnp.int32(0), True)[1].record
        )
        return ring.empty(record, last_m, noise)

    def prepare(state, mean_of, epoch):
        del mean_of
        # Otherwise the noisy held-out guidance could stop a run, or select one of its states,
        # before the compactor has begun.
        return state, epoch < phases.first

    return gradient_method(
        network,
        optimizer,
        with_betas,
        score,
        init_memory=init_memory,
        remember=ring.remember,
        prepare=prepare,
    )._replace(pack=ring.pack, unpack=ring.unpack)
