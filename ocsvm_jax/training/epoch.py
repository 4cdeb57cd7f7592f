"""One epoch: shuffled steps in one compiled scan over data that stay on the device.

The randomness of an epoch comes from the seed and the number of the epoch alone, and everything
else that training changes is in one pytree, `Run`. So a run that was killed and restored from its
last checkpoint continues with the same bits.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ocsvm_jax.arrays.dimensions import effective_dimensions
from ocsvm_jax.arrays.packing import Packed, packed
from ocsvm_jax.methods.base import Method, Score


class Run(NamedTuple):
    """All that training changes.

    Attributes:
      state: the method's state after the last epoch.
      best: the method's state after the epoch with the smallest held-out loss.
      best_loss: () that loss.
      best_epoch: () that epoch, counted from 1.
      epoch: () number of epochs done.
    """

    state: Any
    best: Any
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]


class Feed(NamedTuple):
    """What a model is trained on: rows of images that other models may share.

    Attributes:
      images: all images, on the device: uint8, or float values as the method takes them.
      rows: indices of the images to train on.
      held_out: indices of the images that decide on early stopping.
    """

    images: Shaped[Array, "n *shape"]
    rows: Int[Array, " m"]
    held_out: Int[Array, " h"]


def feed_of(
    images: Shaped[np.ndarray, "m *shape"], held_out: Shaped[np.ndarray, "h *shape"]
) -> Feed:
    """The feed of one model, from the images of the two parts."""
    m, h = len(images), len(held_out)
    together = jnp.asarray(np.concatenate([images, held_out]))
    return Feed(together, jnp.arange(m, dtype=jnp.int32), jnp.arange(m, m + h, dtype=jnp.int32))


def check_enough(images: int, held_out: int, batch_size: int) -> None:
    """Raises ValueError if there are too few images for one batch, or to decide on stopping."""
    if images < batch_size or held_out < 2:
        raise ValueError(
            f"{images} images to train on and {held_out} held out are too few for batches of "
            f"{batch_size}."
        )


def to_unit(images: Shaped[Array, "b *shape"]) -> Float[Array, "b *shape"]:
    """Grey values or colours 0..255 (uint8) to [0, 1]; float values pass through as they are."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def begin(method: Method, images: Shaped[Array, "b *shape"], key: Array) -> Run:
    """A run before its first epoch; only the shape of the images matters. Can be traced."""
    state = method.init(to_unit(images), key)
    # A copy, because an epoch reuses the memory of what it is given.
    best = jax.tree.map(jnp.copy, state)
    return Run(state, best, jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0))


def start(method: Method, images: Shaped[Any, "n *shape"], batch_size: int, seed: int) -> Run:
    """A run before its first epoch, from all images; compiled."""
    return jax.jit(partial(begin, method))(jnp.asarray(images[:batch_size]), jax.random.key(seed))


def epoch_function(method: Method, batch_size: int, seed: int) -> Callable[..., Any]:
    """A compiled `(run, feed) -> (run, parts)`, see `one_epoch`."""

    @partial(jax.jit, donate_argnums=0)
    def epoch(run: Run, feed: Feed) -> tuple[Run, Mapping[str, Array]]:
        return one_epoch(method, run, run.epoch, feed, seed, batch_size)

    return epoch


def one_epoch(
    method: Method, run: Run, epoch: Int[Array, ""], feed: Feed, seed: Any, batch_size: int
) -> tuple[Run, Mapping[str, Array]]:
    """Shuffled steps, then the held-out images; can be traced, also under vmap.

    The parts are the means of those of the steps, "valid_loss", the held-out loss, and
    "dimensions", the effective number of dimensions of the held-out latents: near 1, the network
    has compressed them to one direction.

    Args:
      method: the method to train.
      run: its current run.
      epoch: () number of epochs done; under vmap preferably one number for all models.
      feed: the images.
      seed: seed of the order of the images; may be traced.
      batch_size: images that do not fill a last batch are skipped.
    """
    m = feed.rows.shape[0]
    steps = m // batch_size
    key = jax.random.fold_in(jax.random.key(seed), epoch + 1)
    order = feed.rows[jax.random.permutation(key, m)[: steps * batch_size]]
    batches = order.reshape(steps, batch_size)

    def images(index: Int[Array, " b"]) -> Float[Array, "b *shape"]:
        return to_unit(feed.images[index])

    def mean_of(function: Callable[..., Array]) -> Array:
        return jnp.mean(jax.lax.map(lambda index: function(images(index)), batches), axis=0)

    state, preparing = method.prepare(run.state, mean_of, epoch)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, run.state)  # as the steps need it
    state, parts = steps_over(batches, images, method, state, epoch)
    loss, dimensions = _held_out(method, state, feed, batch_size)
    run = advanced(run, state, loss, epoch + 1, preparing)
    return run, {**parts, "valid_loss": loss, "dimensions": dimensions}


def steps_over(
    batches: Any,
    images: Callable[[Any], Array],
    method: Method,
    state: Any,
    epoch: Int[Array, ""],
) -> tuple[Any, Mapping[str, Float[Array, ""]]]:
    """One step for each batch, in a scan: the state after them, and the mean of each part.

    Args:
      batches: arrays with a leading axis of the steps.
      images: `images(batch)`, the images of a step.
      method: the method to train.
      state: its state before.
      epoch: () number of epochs done.
    """

    def step(state: Any, batch: Any) -> tuple[Any, Packed]:
        state, parts = method.update(state, images(batch), epoch)
        return state, packed(parts)

    state, parts = jax.lax.scan(step, method.pack(state), batches)
    return method.unpack(state), jax.tree.map(jnp.mean, parts.unpacked())


def advanced(
    run: Run, state: Any, loss: Float[Array, ""], done: Int[Array, ""], preparing: Any = False
) -> Run:
    """The run after an epoch that ended with `state` and the held-out `loss`."""
    # A pretraining is not compared with what follows: its last state is the best until then.
    better = (loss < run.best_loss) | preparing
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state, run.best)
    best_loss = jnp.where(better, loss, run.best_loss)
    return Run(
        state,
        best,
        jnp.where(preparing, jnp.inf, best_loss).astype(run.best_loss.dtype),
        jnp.where(better, done, run.best_epoch),
        done,
    )


def _held_out(
    method: Method, state: Any, feed: Feed, batch_size: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean loss over whole batches of the training size, and effective dimensions of their latents.

    Some losses depend on the size of the batch.
    """
    size = min(batch_size, feed.held_out.shape[0] // 2 * 2)
    blocks = feed.held_out.shape[0] // size
    batches = feed.held_out[: blocks * size].reshape(blocks, size)

    def see(index: Int[Array, " b"]) -> tuple[Array, Array]:
        images = to_unit(feed.images[index])
        # Where both encode the same images, XLA does so once.
        return method.loss(state, images), method.encode(state, images)

    losses, latents = jax.lax.map(see, batches)
    return jnp.mean(losses), effective_dimensions(latents.reshape(-1, latents.shape[-1]))


def kept_state(run: Run, patience: int) -> Any:
    """The state to use: with early stopping that of the smallest held-out loss, else the last."""
    return run.best if patience > 0 else run.state


def seen(
    method: Method, state: Any, images: Shaped[Array, "b *shape"]
) -> tuple[Float[Array, "b d"], dict[str, Score]]:
    """Latents of a batch of images, and the method's own scores. Can be traced."""
    x = to_unit(images)
    return method.encode(state, x), method.score(state, x)
