"""Training of the patch autoencoder: each step uses all subjects at a few locations.

The slices of all subjects stay on the device, and each step cuts its patches from them.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ocsvm_jax.arrays.dimensions import effective_dimensions
from ocsvm_jax.methods.base import Method, State
from ocsvm_jax.networks.pair import Network
from ocsvm_jax.networks.patch import PATCH, pad_slices, patch_at
from ocsvm_jax.training.epoch import Run, advanced, begin, steps_over
from ocsvm_jax.training.history import Entry
from ocsvm_jax.training.loop import Plan, run_epochs

# Batches for computing the batch-norm statistics after training.
_CALIBRATION = 64
_HELD_OUT_LOCATIONS = 256


class PatchFeed(NamedTuple):
    """Training data of a patch autoencoder.

    Attributes:
      slices: (n, z, x + 14, y + 14), padded, of the n >= 2 training subjects.
      held_out: (m, z, x + 14, y + 14), padded, of the m >= 2 subjects for early stopping.
      locations: (l, 3) voxels (z, x, y) inside the masks of all these subjects.
    """

    slices: Float[Array, "n z h w"]
    held_out: Float[Array, "m z h w"]
    locations: Int[Array, "l 3"]


def feed_of(
    images: np.ndarray, masks: np.ndarray, held_out: np.ndarray, held_out_masks: np.ndarray
) -> PatchFeed:
    """The feed of two cohorts, images (n, z, x, y) and masks of the same shape.

    Raises:
      ValueError: if either has fewer than 2 subjects, or no voxel lies inside all masks.
    """
    if len(images) < 2 or len(held_out) < 2:
        raise ValueError(
            f"{len(images)} subjects to train on and {len(held_out)} held out are too few: "
            "the subjects at a location are split in halves, so at least 2 of each are needed."
        )
    everywhere = masks.all(axis=0) & held_out_masks.all(axis=0)
    if not everywhere.any():
        raise ValueError(
            "no voxel lies in the mask of every subject, training and held-out: the masks do not "
            "overlap. Check that the volumes are registered to one another."
        )
    locations = np.argwhere(everywhere).astype(np.int32)
    slices, others = (pad_slices(jnp.asarray(a, jnp.float32)) for a in (images, held_out))
    return PatchFeed(slices, others, jnp.asarray(locations))


def batch(
    slices: Float[Array, "n z h w"], locations: Int[Array, "l 3"], key: Array
) -> Float[Array, "l b 15 15 1"]:
    """Patches of an even number of subjects at each location, in random order."""
    n = slices.shape[0]
    order = jnp.argsort(jax.random.uniform(key, (locations.shape[0], n)), axis=1)
    order = order[:, : n // 2 * 2]

    def at(location: Array, order: Array) -> Array:
        return patch_at(slices, (location[0], location[1], location[2]))[order]

    return jax.vmap(at)(locations, order)[..., None]


def train(
    method: Method,
    feed: PatchFeed,
    *,
    seed: int,
    epochs: int,
    steps: int,
    locations: int,
    patience: int,
    checkpoint_every: int,
    workdir: Path,
) -> tuple[Run, list[Entry]]:
    """Trains or continues training in `workdir`; see `ocsvm_jax.training.loop.train`.

    Args:
      method: one built by `methods.patch_method`.
      feed: the subjects.
      seed: for the initial weights, the locations and the halves.
      epochs: maximum number of epochs.
      steps: gradient steps per epoch.
      locations: locations per step.
      patience: epochs without a smaller held-out loss before stopping; 0: never stop early.
      checkpoint_every: epochs between checkpoints.
      workdir: existing directory.

    Raises:
      ValueError: if the loss is no longer finite.
    """
    subjects = feed.slices.shape[0] // 2 * 2
    plan = Plan(epochs, locations * subjects, patience, checkpoint_every)
    start = jax.jit(partial(begin, method))
    epoch = jax.jit(
        partial(_epoch, method, seed=seed, steps=steps, locations=locations), donate_argnums=0
    )
    run, (history,) = run_epochs(
        lambda run, active, done: epoch(run, feed),
        lambda: start(
            jnp.zeros((locations, subjects, PATCH, PATCH, 1), jnp.float32), jax.random.key(seed)
        ),
        plan,
        workdir,
        unit="patches",
        steps=steps,
        raises=True,
    )
    return run, history.entries


def _epoch(
    method: Method, run: Run, feed: PatchFeed, *, seed: int, steps: int, locations: int
) -> tuple[Run, Mapping[str, Array]]:
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), run.epoch + 1), steps)

    patches = partial(_random_batch, feed.slices, feed.locations, locations)
    state, parts = steps_over(keys, patches, method, run.state, run.epoch)
    loss, dimensions = _held_out(method, state, feed, seed, locations)
    run = advanced(run, state, loss, run.epoch + 1)
    return run, {**parts, "valid_loss": loss, "dimensions": dimensions}


def _random_batch(slices: Array, locations: Array, count: int, key: Array) -> Array:
    place_key, half_key = jax.random.split(key)
    chosen = jax.random.randint(place_key, (count,), 0, locations.shape[0])
    return batch(slices, locations[chosen], half_key)


def _held_out(
    method: Method, state: Any, feed: PatchFeed, seed: int, locations: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss over locations and halves that are the same in every epoch.

    Also the effective number of dimensions in which latents differ from the mean of their location.
    """
    # An epoch number that training never reaches.
    key = jax.random.fold_in(jax.random.key(seed), 2**31 - 2)
    keys = jax.random.split(key, max(1, _HELD_OUT_LOCATIONS // locations))

    def see(key: Array) -> tuple[Array, Array]:
        patches = _random_batch(feed.held_out, feed.locations, locations, key)
        z = method.encode(state, patches)
        return method.loss(state, patches), z - jnp.mean(z, axis=-2, keepdims=True)

    losses, centred = jax.lax.map(see, keys)
    return jnp.mean(losses), effective_dimensions(centred.reshape(-1, centred.shape[-1]))


def calibrated(
    momentless: Network, state: State, feed: PatchFeed, *, seed: int, locations: int
) -> State:
    """Recomputes the batch-norm statistics of a trained state over many batches.

    During training the weights change, so running statistics cover only the last few batches of a
    few dozen locations each, while maps need all locations. The pooled variances include the
    variance of the batch means.

    Args:
      momentless: network whose batch norms replace their running statistics at each call.
      state: state of the method.
      feed: the subjects.
      seed: for the choice of locations.
      locations: locations per batch.
    """

    def statistics(key: Array) -> dict[str, Any]:
        patches = _random_batch(feed.slices, feed.locations, locations, key)
        z, encoder = momentless.encoder.apply(
            state.params["encoder"], state.stats["encoder"], patches, True
        )
        _, decoder = momentless.decoder.apply(
            state.params["decoder"], state.stats["decoder"], z, True
        )
        return {"encoder": encoder, "decoder": decoder}

    key = jax.random.fold_in(jax.random.key(seed), 2**31 - 3)
    found = jax.lax.map(statistics, jax.random.split(key, _CALIBRATION))
    return state._replace(stats=_pooled(found))


def _pooled(found: Any) -> Any:
    """Mean and variance over all batches, from the statistics of each batch."""
    if set(found) != {"mean", "var"}:
        return {name: _pooled(part) for name, part in found.items()}
    mean = jnp.mean(found["mean"], axis=0)
    between = jnp.mean((found["mean"] - mean[None]) ** 2, axis=0)
    return {"mean": mean, "var": jnp.mean(found["var"], axis=0) + between}
