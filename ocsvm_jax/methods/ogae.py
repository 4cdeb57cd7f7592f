"""OgAE: an autoencoder guided by an exact one-class SVM (arXiv 2507.21164, equation (7))."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.guidance import (
    BetaSchedule,
    GuidanceAux,
    constant_betas,
    guidance_loss,
    phase_switch,
    two_phase_betas,
)
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.methods import ring
from ocsvm_jax.methods.arguments import (
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
    Score,
    encoded,
    forward,
    gradient_method,
    mean_error,
    reconstruction_score,
)
from ocsvm_jax.networks.pair import Network


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
    gamma: Gamma = 0.1,
    standardize: bool = True,
    differentiate_dual: bool = True,
    schedule: str = "two_phase",
    betas: Sequence[Number] = (1.0, 0.0),
    betas_second: Sequence[Number] = (1.0, 1.0),
    last_m: int = 10,
) -> Method:
    """Minimises mean squared error + lambda * guidance; scores "last_m", "reconstruction".

    With the two-phase schedule, early stopping only considers the second phase.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      num_epochs: length of the training, at least 1.
      guidance_weight: lambda of the paper, finite and at least 0; may be traced.
      nu: nu of the one-class SVMs, in (0, 1]; may be traced.
      gamma: gamma of their RBF kernel: a positive number, which may be traced, "scale" or "auto".
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
    options = guidance_options(nu, gamma, standardize, differentiate_dual)
    objective = guided_objective(network, phases, options, guidance_weight)
    return guided_method(network, optimizer, objective, phases, last_m=last_m)


def guidance_options(
    nu: Number, gamma: Gamma, standardize: bool, differentiate_dual: bool
) -> dict[str, Any]:
    """Checks the arguments that methods pass on to `guidance_loss` or `solve_halves`."""
    check_nu("nu", nu)
    check_gamma("gamma", gamma)
    check_flag("standardize", standardize)
    check_flag("differentiate_dual", differentiate_dual)
    scaling = {"gamma": gamma, "standardize": standardize}
    return {"nu": nu, "differentiate_dual": differentiate_dual, **scaling}


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
) -> Method:
    """Builds a method guided by one-class SVMs of its batches, and stores the last M of them.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      objective: its record is a `GuidanceAux`.
      phases: see `phases_of`.
      last_m: as in `ogae`.
      target: `target(images)` is what the decoder should reconstruct; None for the images.
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
        return {"last_m": last_m_score(state.memory, z), **reconstruction(state, of_what)}

    def init_memory(params, stats, images, key):
        del key
        record = jax.eval_shape(
            lambda: objective(params, stats, None, images, jnp.int32(0), True)[1].record
        )
        return ring.empty(record, last_m)

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


def last_m_score(memory: ring.Memory, z: Float[Array, "b d"]) -> Score:
    """Minus the mean decision function of the stored one-class SVMs.

    Latents are standardised by the statistics of each stored support half (the paper's score
    without a second fit). Slots that are still empty do not count.
    """

    def expansion(entry: GuidanceAux) -> Float[Array, " b"]:
        scaled = (z - entry.mean[None, :]) / entry.std[None, :]
        K = gram(rbf(entry.gamma), scaled, entry.z_sv)
        return jnp.matmul(K, entry.solution.alpha, precision=jax.lax.Precision.HIGHEST)

    size = memory.entries.gamma.shape[0]
    # An empty slot is all zero: replace its std, which is a divisor.
    filled = jnp.arange(size, dtype=memory.steps.dtype) < memory.steps
    entries = memory.entries._replace(std=jnp.where(filled[:, None], memory.entries.std, 1))
    sums = jax.lax.map(expansion, entries)
    share = filled.astype(z.dtype) / jnp.maximum(jnp.sum(filled, dtype=z.dtype), 1)
    values = -jnp.sum(jnp.where(filled[:, None], sums, 0) * share[:, None], axis=0)
    return Score(values, jnp.sum(entries.solution.rho * share))
