"""Training: an epoch is one compiled scan over data that stay on the device.

The randomness of an epoch comes from the seed and the number of the epoch alone, and everything
else that training changes is in one pytree, `Run`. So a run that was killed and restored from its
last checkpoint goes on to the same bits.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods.base import Method

_CHECKPOINTS = "checkpoints"


class Run(NamedTuple):
    """All that training changes.

    Attributes:
      state: of the method, after the last epoch.
      best: of the method, after the epoch with the smallest held-out loss.
      best_loss: () that loss.
      best_epoch: () that epoch, counted from 1.
      epoch: () epochs done.
    """

    state: Any
    best: Any
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]


def to_unit(images: UInt8[Array, "b *image"]) -> Float[Array, "b *image"]:
    """Grey values 0..255 to [0, 1]."""
    return images.astype(jnp.float32) / 255


def start(method: Method, images: UInt8[Any, "n 28 28 1"], batch_size: int, seed: int) -> Run:
    """A run before its first epoch."""
    first = to_unit(jnp.asarray(images[:batch_size]))
    return jax.jit(lambda x, key: unstarted(method.init(x, key)))(first, jax.random.key(seed))


def unstarted(state: Any) -> Run:
    """A run before its first epoch, from the state of a method's `init`."""
    # A copy, because an epoch reuses the memory of what it is given.
    best = jax.tree.map(jnp.copy, state)
    return Run(state, best, jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0))


def load(method: Method, batch_size: int, workdir: Path) -> Run:
    """The newest checkpoint of a run.

    Raises:
      ValueError: if there is none.
    """
    from ocsvm_jax.training.checkpoints import Checkpoints

    missing = f"{workdir} holds no checkpoint; train.py has not come to writing one there."
    directory = workdir / _CHECKPOINTS
    if not directory.is_dir():
        raise ValueError(missing)
    with Checkpoints(directory, read_only=True) as checkpoints:
        if checkpoints.latest() is None:
            raise ValueError(missing)
        return checkpoints.restore(_shapes(method, batch_size))


def _shapes(method: Method, batch_size: int) -> Run:
    """A run without numbers: what a checkpoint is restored into."""
    images = jax.ShapeDtypeStruct((batch_size, 28, 28, 1), jnp.float32)
    return jax.eval_shape(lambda x: unstarted(method.init(x, jax.random.key(0))), images)


class Feed(NamedTuple):
    """What a model is trained on: rows of images that others may be trained on too.

    Attributes:
      images: all images, on the device.
      rows: indices of those trained on.
      held_out: indices of those that decide on early stopping.
    """

    images: UInt8[Array, "n 28 28 1"]
    rows: Int[Array, " m"]
    held_out: Int[Array, " h"]


def epoch_function(method: Method, batch_size: int, seed: int) -> Callable[..., Any]:
    """A compiled `(run, feed) -> (run, parts)`, see `one_epoch`."""

    @partial(jax.jit, donate_argnums=0)
    def epoch(run: Run, feed: Feed) -> tuple[Run, Mapping[str, Array]]:
        return one_epoch(method, run, run.epoch, feed, seed, batch_size)

    return epoch


def one_epoch(
    method: Method, run: Run, epoch: Int[Array, ""], feed: Feed, seed: Any, batch_size: int
) -> tuple[Run, Mapping[str, Array]]:
    """Shuffled steps, then the held-out loss; can be traced, also under vmap.

    Args:
      method: what is trained.
      run: where it stands.
      epoch: () epochs done, counted from 0; under vmap better one number for all.
      feed: the images.
      seed: of the order of the images, may be traced.
      batch_size: what is left over of an epoch's shuffled images is skipped.
    """
    m = feed.rows.shape[0]
    steps = m // batch_size
    key = jax.random.fold_in(jax.random.key(seed), epoch + 1)
    order = feed.rows[jax.random.permutation(key, m)[: steps * batch_size]]
    batches = order.reshape(steps, batch_size)

    def images(index: Int[Array, " b"]) -> Float[Array, "b 28 28 1"]:
        return to_unit(feed.images[index])

    def mean_of(function: Callable[..., Array]) -> Array:
        return jnp.mean(jax.lax.map(lambda index: function(images(index)), batches), axis=0)

    def step(state: Any, index: Int[Array, " b"]) -> tuple[Any, Mapping[str, Array]]:
        return method.update(state, images(index), epoch)

    state, preparing = method.prepare(run.state, mean_of, epoch)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, run.state)  # as the steps need it
    state, parts = jax.lax.scan(step, state, batches)
    parts = jax.tree.map(jnp.mean, parts)
    loss = _held_out_loss(method, state, feed, batch_size)
    run = advanced(run, state, loss, epoch + 1, preparing)
    return run, {**parts, "valid_loss": loss}


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


def _held_out_loss(method: Method, state: Any, feed: Feed, batch_size: int) -> Float[Array, ""]:
    """Mean loss over whole batches, of the size of training: some losses depend on the size."""
    size = min(batch_size, feed.held_out.shape[0] // 2 * 2)
    blocks = feed.held_out.shape[0] // size
    batches = feed.held_out[: blocks * size].reshape(blocks, size)
    return jnp.mean(
        jax.lax.map(lambda index: method.loss(state, to_unit(feed.images[index])), batches)
    )


def feed_of(images: np.ndarray, held_out: np.ndarray) -> Feed:
    """The feed of one model, from the images of the two parts."""
    m, h = len(images), len(held_out)
    together = jnp.asarray(np.concatenate([images, held_out]))
    return Feed(together, jnp.arange(m, dtype=jnp.int32), jnp.arange(m, m + h, dtype=jnp.int32))


class History:
    """Metrics of each epoch, one JSON object a line, kept in step with the checkpoints."""

    def __init__(self, path: Path, epochs_done: int):
        # A run that was killed may have lines beyond its last checkpoint, the last one cut short.
        self.entries = [e for e in _entries(path) if e["epoch"] <= epochs_done]
        self._path = path
        with whole_file(path) as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in self.entries).encode())

    def append(self, entry: dict[str, Any]) -> None:
        """Adds an epoch, in memory and on disk."""
        self.entries.append(entry)
        with open(self._path, "a") as file:
            file.write(json.dumps(entry) + "\n")


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file up to the first that is damaged."""
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def train(
    method: Method,
    images: UInt8[np.ndarray, "n 28 28 1"],
    held_out: UInt8[np.ndarray, "m 28 28 1"],
    *,
    seed: int,
    epochs: int,
    batch_size: int,
    patience: int,
    checkpoint_every: int,
    workdir: Path,
) -> tuple[Run, list[dict[str, Any]]]:
    """Trains, or goes on training, in `workdir`; returns the run and its history.

    Args:
      method: what to train.
      images: (n, 28, 28, 1) uint8 to train on.
      held_out: (m, 28, 28, 1) uint8 whose loss decides which epoch's state is kept.
      seed: of the initial weights and of the order of the images.
      epochs: at most so many.
      batch_size: even, at most n; what is left over of an epoch's shuffled images is skipped.
      patience: stop after so many epochs without a smaller held-out loss; 0: never stop early, and
        keep the last state.
      checkpoint_every: epochs between checkpoints; the last epoch has one in any case.
      workdir: existing directory for checkpoints and metrics.jsonl.

    Raises:
      ValueError: if there are too few images, or if the loss is no longer finite.
    """
    if len(images) < batch_size or len(held_out) < 2:
        raise ValueError(
            f"{len(images)} images to train on and {len(held_out)} held out are too few for "
            f"batches of {batch_size}."
        )
    feed = feed_of(images, held_out)
    run_epoch = epoch_function(method, batch_size, seed)
    return run_epochs(
        lambda run: run_epoch(run, feed),
        lambda: start(method, images, batch_size, seed),
        _shapes(method, batch_size),
        epochs=epochs,
        patience=patience,
        checkpoint_every=checkpoint_every,
        workdir=workdir,
        unit="images",
        per_epoch=images.shape[0] // batch_size * batch_size,
    )


def run_epochs(
    run_epoch: Callable[[Run], tuple[Run, Mapping[str, Array]]],
    begin: Callable[[], Run],
    shapes: Run,
    *,
    epochs: int,
    patience: int,
    checkpoint_every: int,
    workdir: Path,
    unit: str,
    per_epoch: int,
) -> tuple[Run, list[dict[str, Any]]]:
    """The loop of `train`, whatever an epoch is made of; checkpoints, history, progress.

    Args:
      run_epoch: `run_epoch(run) -> (run, parts)`, from the run alone; "loss" and "valid_loss" are
        among the parts.
      begin: the run before its first epoch.
      shapes: of a run, what a checkpoint is restored into.
      epochs: see `train`, as for the next three.
      patience: likewise.
      checkpoint_every: likewise.
      workdir: likewise.
      unit: what is counted by the second, such as "images".
      per_epoch: so many of them an epoch.

    Raises:
      ValueError: if the loss is no longer finite.
    """
    from ocsvm_jax.training.checkpoints import Checkpoints

    tqdm = extras.load("tqdm", "training", "train").tqdm

    with Checkpoints(workdir / _CHECKPOINTS) as checkpoints:
        run = begin() if checkpoints.latest() is None else checkpoints.restore(shapes)
        history = History(workdir / "metrics.jsonl", int(run.epoch))
        # disable=None: silent when not a terminal.
        with tqdm(total=epochs, initial=int(run.epoch), unit="epoch", disable=None) as bar:
            while not finished(run, epochs, patience):
                began = time.perf_counter()
                run, parts = run_epoch(run)
                parts = {name: float(value) for name, value in jax.device_get(parts).items()}
                _check_finite(parts, int(run.epoch))
                seconds = time.perf_counter() - began
                speed = {f"{unit}_per_s": per_epoch / seconds}
                entry = {"epoch": int(run.epoch), **parts}
                # Before the checkpoint: a line too many is dropped, one too few would be missing.
                history.append(entry | {"seconds": seconds} | speed)
                over = finished(run, epochs, patience)
                if over or int(run.epoch) % checkpoint_every == 0:
                    checkpoints.save(int(run.epoch), run)
                rates = {name: f"{value:.0f}" for name, value in speed.items()}
                bar.set_postfix({"loss": f"{parts['loss']:.5f}"} | rates)
                bar.update()
    return run, history.entries


def _check_finite(parts: Mapping[str, float], epoch: int) -> None:
    broken = [name for name in ("loss", "valid_loss") if not math.isfinite(parts[name])]
    if broken:
        raise ValueError(
            f"training has diverged: in epoch {epoch}, {broken[0]} is {parts[broken[0]]}. Lower "
            "the learning rate or the guidance weight."
        )


def finished(run: Run, epochs: int, patience: int) -> bool:
    """Whether all epochs are done, or the held-out loss has not improved for `patience` of them."""
    return stops(int(run.epoch), int(run.best_epoch), epochs, patience)


def stops(epoch: int, best_epoch: int, epochs: int, patience: int) -> bool:
    """The rule of `finished`, from the epochs done and the one with the smallest held-out loss."""
    return epoch >= epochs or (patience > 0 and epoch - best_epoch >= patience)


def kept_state(run: Run, patience: int) -> Any:
    """The state to use: that of the smallest held-out loss, or without early stopping the last."""
    return run.best if patience > 0 else run.state
