"""OgAE: an autoencoder guided by an exact one-class SVM (arXiv 2507.21164, equation (7))."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ocsvm_jax.guidance import (
    BetaSchedule,
    GuidanceAux,
    constant_betas,
    guidance_loss,
    phase_switch,
    two_phase_betas,
)
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.methods.base import (
    Forward,
    Method,
    Score,
    encoded,
    forward,
    gradient_method,
    reconstruction_score,
    squared_error,
)
from ocsvm_jax.networks.pair import Network


class Memory(NamedTuple):
    """The one-class SVMs of the last M steps, in a ring.

    Attributes:
      entries: each array has a leading axis of M; step i is at i % M.
      steps: () how many steps were taken, ever.
    """

    entries: GuidanceAux
    steps: Int[Array, ""]


def ogae(network: Network, optimizer: optax.GradientTransformation, settings: Any) -> Method:
    """Minimises mean squared error + lambda * guidance; scores "last_m", "reconstruction".

    Of the two-phase schedule, early stopping counts the second phase alone.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: with the attributes `guidance_weight` (the paper's lambda), `nu`, `gamma`,
        `standardize`, `differentiate_dual`, `last_m` (M), and those of `beta_schedule`.
    """

    def terms(params, stats, images, betas, train):
        z, x_hat, stats = forward(network, params, stats, images, train)
        reconstruction = jnp.mean(squared_error(images, x_hat))
        guidance, aux = guidance_loss(z, betas=betas, **guidance_settings(settings))
        loss = reconstruction + settings.guidance_weight * guidance
        parts = {
            "reconstruction": reconstruction,
            "guidance": guidance,
            "outside": aux.num_outside / (z.shape[0] // 2),
        }
        return loss, Forward(stats, parts, aux)

    return guided_method(network, optimizer, settings, terms)


def guidance_settings(settings: Any) -> dict[str, Any]:
    """The arguments of `guidance_loss` among the settings of a method."""
    names = ("nu", "gamma", "standardize", "differentiate_dual")
    return {name: getattr(settings, name) for name in names}


def guided_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    settings: Any,
    terms: Callable[..., tuple[Array, Forward]],
    *,
    target: Callable[[Array], Array] | None = None,
) -> Method:
    """A method guided by the one-class SVMs of its batches, the last of which it remembers.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      settings: with `last_m` and what `beta_schedule` needs.
      terms: `terms(params, stats, images, betas, train) -> (loss, Forward)`, whose record is a
        `GuidanceAux`.
      target: of images, what the decoder is to give back; None for the images themselves.
    """
    betas = beta_schedule(settings)

    def objective(params, stats, memory, images, epoch, train):
        del memory
        beta1, beta2 = betas(epoch)
        loss, out = terms(params, stats, images, (beta1, beta2), train)
        parts = {"loss": loss, **out.parts, "beta1": beta1, "beta2": beta2}
        return loss, out._replace(parts=parts)

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
        return _empty(record, settings.last_m)

    first_phase = phase_switch(settings.num_epochs) if settings.schedule == "two_phase" else 0

    def prepare(state, mean_of, epoch):
        del mean_of
        # Early stopping on the noisy held-out guidance could otherwise end a run, or keep a state
        # of it, before the compactor has begun.
        return state, epoch < first_phase

    return gradient_method(
        network,
        optimizer,
        objective,
        score,
        init_memory=init_memory,
        remember=_remember,
        prepare=prepare,
    )


def beta_schedule(settings: Any) -> BetaSchedule:
    """From `schedule` ("constant" or "two_phase"), `betas`, `betas_second` and `num_epochs`."""
    # Settings that were written as JSON come back with lists.
    first, second = tuple(settings.betas), tuple(settings.betas_second)
    if settings.schedule == "constant":
        return constant_betas(first)
    if settings.schedule == "two_phase":
        return two_phase_betas(settings.num_epochs, first, second)
    raise ValueError(
        f'the beta schedule is {settings.schedule!r}; it must be "constant" or "two_phase".'
    )


def _empty(record: GuidanceAux, size: int) -> Memory:
    zeros = jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), record)
    return Memory(zeros, jnp.int32(0))


def _remember(memory: Memory, record: GuidanceAux) -> Memory:
    size = memory.entries.gamma.shape[0]
    slot = memory.steps % size
    entries = jax.tree.map(lambda ring, new: ring.at[slot].set(new), memory.entries, record)
    return Memory(entries, memory.steps + 1)


def last_m_score(memory: Memory, z: Float[Array, "b d"]) -> Score:
    """Minus the mean decision function of the remembered one-class SVMs.

    Each latent is standardised by the statistics of each stored support half (the paper's score
    without a second fit). Steps not yet taken do not count.
    """

    def expansion(entry: GuidanceAux) -> Float[Array, " b"]:
        scaled = (z - entry.mean[None, :]) / entry.std[None, :]
        K = gram(rbf(entry.gamma), scaled, entry.z_sv)
        return jnp.matmul(K, entry.solution.alpha, precision=jax.lax.Precision.HIGHEST)

    size = memory.entries.gamma.shape[0]
    # A slot without an entry is all zero, and would divide by its std.
    filled = jnp.arange(size, dtype=memory.steps.dtype) < memory.steps
    entries = memory.entries._replace(std=jnp.where(filled[:, None], memory.entries.std, 1))
    sums = jax.lax.map(expansion, entries)
    share = filled.astype(z.dtype) / jnp.maximum(jnp.sum(filled, dtype=z.dtype), 1)
    values = -jnp.sum(jnp.where(filled[:, None], sums, 0) * share[:, None], axis=0)
    return Score(values, jnp.sum(entries.solution.rho * share))
