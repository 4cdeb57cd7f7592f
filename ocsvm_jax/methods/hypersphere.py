"""Shared parts of the Deep SVDD family: a centre in latent space, and pretraining.

The first epochs pretrain the plain autoencoder. Then the centre is set to the mean latent (of the
untrained encoder if there is no pretraining), the optimizer is reset, and the distances to the
centre are minimised. Source: Ruff et al., Deep One-Class Classification, ICML 2018.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.methods.arguments import Number, at_least, check_pretrain
from ocsvm_jax.methods.base import (
    Batch,
    Forward,
    Method,
    Parts,
    State,
    encoded,
    forward,
    gradient_method,
    mean_error,
    plain_score,
)
from ocsvm_jax.methods.radius import FIXED, Radius
from ocsvm_jax.networks.pair import Network

_SMALLEST_COORDINATE = 0.1


class Sphere(NamedTuple):
    """The memory of these methods; see `base.State`.

    Attributes:
      centre: (d,) the centre c, 0 until it is set.
      squared_radius: () R^2; only the soft boundary changes it.
      started: () whether pretraining is over and the centre is set.
      moving: what moves the radius, see `Radius`.
    """

    centre: Float[Array, " d"]
    squared_radius: Float[Array, ""]
    started: Bool[Array, ""]
    moving: Any


def pretraining_epochs(pretrain: float, num_epochs: int) -> int:
    """Number of pretraining epochs: the share `pretrain`, rounded up, leaving at least one epoch.

    Raises:
      ArgumentError: `pretrain` is not in [0, 1) or `num_epochs` is below 1; a subclass of
        ValueError.
    """
    check_pretrain("pretrain", pretrain)
    at_least(1)("num_epochs", num_epochs)
    return min(math.ceil(pretrain * num_epochs), num_epochs - 1)


def squared_distance(z: Float[Array, "b d"], centre: Float[Array, " d"]) -> Float[Array, " b"]:
    """|z - c|^2 for each latent."""
    return jnp.sum((z - centre[None, :]) ** 2, axis=1)


def mean_distance(distances: Float[Array, " b"], squared_radius: Any) -> Float[Array, ""]:
    """The loss of a hard boundary: the mean squared distance from the centre."""
    del squared_radius
    return jnp.mean(distances)


def sphere_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    loss_of: Callable[..., Array],
    *,
    num_epochs: int,
    pretrain: float,
    reconstruction_weight: Number | None = None,
    radius: Radius = FIXED,
    warm_up: int = 0,
) -> Method:
    """Builds a method that scores "distance", |z - c|^2.

    Args:
      network: encoder and decoder, without biases.
      optimizer: an Optax transformation.
      loss_of: `loss_of(distances, R^2) -> ()`, the loss given the squared distances of a batch.
      num_epochs: length of the training.
      pretrain: share of the epochs, in [0, 1), that train the autoencoder first.
      reconstruction_weight: weight of the mean squared error added to the loss; None to drop the
        decoder after pretraining.
      radius: how R^2 moves.
      warm_up: number of first epochs, including pretraining, that early stopping ignores because
        their loss differs from that of later epochs.
    """
    epochs_before = pretraining_epochs(pretrain, num_epochs)
    with_decoder = epochs_before > 0 or reconstruction_weight is not None
    see = _sight(network, epochs_before, reconstruction_weight)

    def objective(params, stats, sphere, images, epoch, train):
        z, error, stats = see(params, stats, sphere, images, epoch, train)
        distances = squared_distance(z, sphere.centre)
        guided = loss_of(distances, sphere.squared_radius)
        if reconstruction_weight is not None:
            guided = guided + reconstruction_weight * error
        loss = jnp.where(sphere.started, guided, error)
        mean = jnp.mean(distances)
        parts = {
            "loss": loss,
            "distance": mean,
            # Near 0, all images have the same distance: see evaluation/collapse.py.
            "spread": jnp.std(distances) / jnp.maximum(mean, jnp.finfo(mean.dtype).tiny),
            "radius2": sphere.squared_radius,
        }
        if with_decoder:
            parts["reconstruction"] = error
        return loss, Forward(stats, parts, (jax.lax.stop_gradient(distances), epoch), z)

    def score(state: State, images: Batch):
        z, _ = encoded(network, state.params, state.stats, images, False)
        return {"distance": plain_score(squared_distance(z, state.memory.centre))}

    def prepare(state: State, mean_of: Callable[..., Array], epoch: Array):
        def start(state: State) -> State:
            centre = off_the_origin(mean_of(partial(_mean_latent, network, state)))
            squared = jnp.full_like(state.memory.squared_radius, radius.first**2)
            sphere = Sphere(centre, squared, jnp.bool(True), radius.init(squared))
            return state._replace(memory=sphere, opt_state=optimizer.init(state.params))

        state = jax.lax.cond(epoch == epochs_before, start, lambda state: state, state)
        return state, epoch < max(epochs_before, warm_up)

    def init_memory(params, stats, images, key):
        del key
        z = jax.eval_shape(lambda: encoded(network, params, stats, images, False)[0])
        zero = jnp.zeros((), z.dtype)
        return Sphere(jnp.zeros(z.shape[1:], z.dtype), zero, jnp.bool(False), radius.init(zero))

    def after_step(sphere: Sphere, record: tuple[Array, Array]) -> Sphere:
        squared, moving = radius.move(sphere.squared_radius, sphere.moving, *record)
        new = sphere._replace(squared_radius=squared, moving=moving)
        return jax.tree.map(lambda a, b: jnp.where(sphere.started, a, b), new, sphere)

    method = gradient_method(
        network,
        optimizer,
        objective,
        score,
        with_decoder=with_decoder,
        init_memory=init_memory,
        remember=after_step,
        prepare=prepare,
    )
    return method if radius.its_turn is None else _in_turns(method, radius.its_turn)


def _in_turns(method: Method, its_turn: Callable[[Any], Bool[Array, ""]]) -> Method:
    """The method whose network, and its optimizer, hold still in the steps of the radius."""

    def update(state: State, images: Batch, epoch: Array) -> tuple[State, Parts]:
        new, parts = method.update(state, images, epoch)
        holds = state.memory.started & its_turn(state.memory.moving)
        still = state._replace(memory=new.memory)
        return jax.tree.map(lambda a, b: jnp.where(holds, a, b), still, new), parts

    return method._replace(update=update)


def _sight(
    network: Network, epochs_before: int, reconstruction_weight: Number | None
) -> Callable[..., tuple[Array, Array, Any]]:
    """Returns `see(params, stats, sphere, images, epoch, train) -> (z, mean squared error, stats)`.

    The error is 0 if nothing is reconstructed: after pretraining, without a weight.
    """

    def reconstruct(params, stats, images, train):
        z, x_hat, stats = forward(network, params, stats, images, train)
        return z, mean_error(images, x_hat), stats

    def encode_only(params, stats, images, train):
        z, encoder_stats = encoded(network, params, stats, images, train)
        return z, jnp.zeros((), z.dtype), {**stats, "encoder": encoder_stats}

    def see(params, stats, sphere, images, epoch, train):
        if reconstruction_weight is not None:
            return reconstruct(params, stats, images, train)
        if epochs_before == 0:
            return encode_only(params, stats, images, train)
        return jax.lax.cond(
            # All models of a population share the epoch, so it stays a scalar under vmap; a batched
            # condition such as the memory's would compute both branches.
            sphere.started if not train else epoch >= epochs_before,
            *(partial(f, images=images, train=train) for f in (encode_only, reconstruct)),
            params,
            stats,
        )

    return see


def _mean_latent(network: Network, state: State, images: Batch) -> Float[Array, " d"]:
    """Mean latent of a batch in training mode."""
    return jnp.mean(encoded(network, state.params, state.stats, images, True)[0], axis=0)


def off_the_origin(centre: Float[Array, " d"]) -> Float[Array, " d"]:
    """The centre with every coordinate moved to at least 0.1 from 0 (Ruff et al.).

    An encoder without biases would reach a centre at 0 simply by shrinking its weights.
    """
    sign = jnp.where(centre < 0, -1, 1).astype(centre.dtype)
    return jnp.where(jnp.abs(centre) < _SMALLEST_COORDINATE, sign * _SMALLEST_COORDINATE, centre)
