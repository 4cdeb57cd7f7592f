"""The loop over epochs of one model or many: checkpoints, histories, early stopping, divergence.

A run that was killed continues from its last checkpoint with the same bits.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

from ocsvm_jax import extras
from ocsvm_jax.methods.base import Method
from ocsvm_jax.training.checkpoints import Checkpoints
from ocsvm_jax.training.epoch import Run, begin, check_enough, epoch_function, feed_of, start
from ocsvm_jax.training.history import Entry, History, histories, not_finite

Progress = Callable[[int, float], Any]
_CHECKPOINTS = "checkpoints"


class Plan(NamedTuple):
    """How long to train, and in which steps.

    Attributes:
      epochs: at most this many.
      batch_size: even; images that do not fill a last batch are skipped.
      patience: stop after this many epochs without a smaller held-out loss; 0: never stop early,
        and keep the last state.
      checkpoint_every: epochs between checkpoints; the last epoch has one in any case.
    """

    epochs: int
    batch_size: int
    patience: int
    checkpoint_every: int


def run_epochs(
    epoch: Callable[[Run, Bool[np.ndarray, " k"], int], tuple[Run, Mapping[str, Array]]],
    unstarted: Callable[[], Run],
    plan: Plan,
    workdir: Path | None,
    *,
    unit: str,
    steps: int,
    progress: Progress | None = None,
    raises: bool = False,
) -> tuple[Run, list[History]]:
    """Trains k models, or continues from the last checkpoint in `workdir`.

    Args:
      epoch: `epoch(run, active, done) -> (run, parts)`: one more epoch of the models that are
        `active`, after `done` of them; "loss" and "valid_loss" are among the parts. All leaves of
        `run` and all parts have an axis of k models in front, or for a single model none.
      unstarted: the run before its first epoch; also traced, for the shapes of a checkpoint.
      plan: how long to train.
      workdir: existing directory for checkpoints and histories; None to write none.
      unit: what a batch consists of, such as "images", for the speed.
      steps: batches per epoch.
      progress: called with the epochs of all models together done since the last call (at first
        those restored from disk), and their mean training loss (at first NaN); after each epoch,
        before its checkpoint. What it raises ends the training, which can be continued. A bar on
        the terminal if left out.
      raises: raise an error where a loss is not finite, and write nothing of that epoch; otherwise
        the model stops there, and the others go on.

    Returns:
      The run, and the history of each model. `seconds` are the model's share of an epoch's.

    Raises:
      ValueError: if `raises` and a loss is not finite, or if there is a checkpoint without the
        history that was written before it.
    """
    with (
        Checkpoints(workdir / _CHECKPOINTS) if workdir else nullcontext() as checkpoints,
        nullcontext(progress) if progress else _bar(plan.epochs) as progress,
    ):
        done = (checkpoints.latest() if checkpoints else None) or 0
        if checkpoints and done:
            run = checkpoints.restore(jax.eval_shape(unstarted))
        else:
            run = unstarted()
        models = histories(workdir, np.size(run.epoch), done)
        progress(sum(len(model.entries) for model in models), math.nan)
        active = _active(run, models, plan)
        while active.any():
            began = time.perf_counter()
            run, parts = epoch(run, active, done)
            parts = {name: np.atleast_1d(part) for name, part in jax.device_get(parts).items()}
            seconds, done = (time.perf_counter() - began) / int(active.sum()), done + 1
            speed = {f"{unit}_per_s": steps * plan.batch_size / seconds}
            trained = np.flatnonzero(active)
            for i in trained:
                values = {name: part[i].item() for name, part in parts.items()}
                entry = {"epoch": done, **values, "seconds": seconds, **speed}
                if raises:
                    _check_finite(entry)
                # Before the checkpoint: a line too many is dropped, one too few would be missing.
                models[i].append(entry)
            progress(len(trained), float(np.mean(parts["loss"][trained])))
            active = _active(run, models, plan)
            if checkpoints and (not active.any() or done % plan.checkpoint_every == 0):
                checkpoints.save(done, run)
    return run, models


def _active(run: Run, models: Sequence[History], plan: Plan) -> Bool[np.ndarray, " k"]:
    """Which models are still trained: they have epochs and patience left, and finite losses."""
    epoch, best = np.atleast_1d(run.epoch), np.atleast_1d(run.best_epoch)
    impatient = (plan.patience > 0) & (epoch - best >= plan.patience)
    return (epoch < plan.epochs) & ~impatient & ~np.array([model.diverged for model in models])


def _check_finite(entry: Entry) -> None:
    if broken := not_finite(entry):
        raise ValueError(
            f"training has diverged: in epoch {entry['epoch']}, {broken[0]} is {entry[broken[0]]}. "
            "Lower the learning rate or the guidance weight."
        )


@contextmanager
def _bar(epochs: int) -> Iterator[Progress]:
    """A progress bar over the epochs of a single model."""
    tqdm = extras.load("tqdm", "training", "train").tqdm
    # disable=None: silent when not a terminal.
    with tqdm(total=epochs, unit="epoch", disable=None) as bar:

        def progress(number: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.5f}")
            bar.update(number)

        yield progress


def train(
    method: Method,
    images: Shaped[np.ndarray, "n *shape"],
    held_out: Shaped[np.ndarray, "m *shape"],
    plan: Plan,
    *,
    seed: int,
    workdir: Path,
    progress: Progress | None = None,
) -> tuple[Run, list[Entry]]:
    """Trains one model in `workdir`, or continues there; returns the run and its history.

    Args:
      method: what to train.
      images: (n, ...) to train on: uint8, or float values as the method takes them.
      held_out: (m, ...) whose loss decides which epoch's state is kept.
      plan: how long to train; batches of at most n.
      seed: of the initial weights and of the order of the images.
      workdir: existing directory for checkpoints and metrics.jsonl.
      progress: see `run_epochs`.

    Raises:
      ValueError: if there are too few images, or if the loss is no longer finite.
    """
    check_enough(len(images), len(held_out), plan.batch_size)
    feed = feed_of(images, held_out)
    epoch = epoch_function(method, plan.batch_size, seed)
    run, (history,) = run_epochs(
        lambda run, active, done: epoch(run, feed),
        lambda: start(method, images, plan.batch_size, seed),
        plan,
        workdir,
        unit="images",
        steps=len(images) // plan.batch_size,
        progress=progress,
        raises=True,
    )
    return run, history.entries


def load(method: Method, shape: tuple[int, ...], workdir: Path) -> Run:
    """The newest checkpoint of a run, whose batches have this `shape`.

    Raises:
      ValueError: if there is none.
    """
    directory = workdir / _CHECKPOINTS
    if directory.is_dir():
        with Checkpoints(directory, read_only=True) as checkpoints:
            if checkpoints.latest() is not None:
                example = jax.ShapeDtypeStruct(shape, jnp.float32)
                like = jax.eval_shape(partial(begin, method), example, jax.random.key(0))
                return checkpoints.restore(like)
    raise ValueError(f"{workdir} holds no checkpoint; train.py has not written one there yet.")
