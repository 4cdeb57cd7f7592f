"""Trains the models of a detector: one after the other, or together on an accelerator."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

from ocsvm_jax.data.protocol import holdout_rows
from ocsvm_jax.detectors.design import Design, program_of
from ocsvm_jax.files import sha256, sole_user, write_json
from ocsvm_jax.training import population
from ocsvm_jax.training.loop import Plan
from ocsvm_jax.training.population import Member, Outcome

FEWEST_ROWS = 4
_HELD_OUT = 2  # at least
_STEPS = {"vectors": 2000, "series": 2000, "images": 1000}
_EPOCHS = (10, 1000)
_CHECKPOINTS = 10  # per training
_RECORD = "detector.json"


class Rows(NamedTuple):
    """Indices of the rows to train on, in rising order, and of those held out, at random."""

    train: Int[np.ndarray, " m"]
    held_out: Int[np.ndarray, " h"]

    @classmethod
    def of(cls, count: int, fraction: float, seed: int) -> "Rows":
        """A share of the rows is held out, at least two of them."""
        return cls(*holdout_rows(count, max(fraction, _HELD_OUT / count), seed))


def plan_of(kind: str, rows: int, epochs: int | None, batch_size: int, patience: int) -> Plan:
    """The plan for so many rows to train on: batches of an even size that they fill."""
    batch = min(batch_size, rows - rows % 2)
    if epochs is None:
        few, many = _EPOCHS
        epochs = min(max(math.ceil(_STEPS[kind] / (rows // batch)), few), many)
    return Plan(epochs, batch, patience, max(1, epochs // _CHECKPOINTS))


def train(
    design: Design,
    numbers: dict[str, Any],
    seeds: Sequence[int],
    x: Shaped[np.ndarray, "n *shape"],
    rows: Rows,
    *,
    workdir: Path | None,
    weights: Sequence[Any] | None,
    tell: Callable[[str], Any] | None,
) -> list[Outcome]:
    """The trained models, one for each seed.

    Args:
      design: what to train.
      numbers: settings that the program is given.
      seeds: of the models.
      x: all rows, scaled.
      rows: which of them to train on.
      workdir: for checkpoints, in folders of their own; or None.
      weights: states to start from, one for each seed; or None.
      tell: called with lines about the progress; or None.

    Raises:
      ValueError: if a loss is no longer finite.
    """
    images, size = jnp.asarray(x), min(population.models_at_once(), len(seeds))
    outcomes = []
    clock = _Clock(design.plan.epochs * len(seeds), tell)
    for first in range(0, len(seeds), size):
        chunk = slice(first, first + size)
        members = [Member(numbers, seed, *rows) for seed in seeds[chunk]]
        directory = None
        if workdir is not None:
            directory = workdir / f"models-{first}"
            directory.mkdir(exist_ok=True)
        outcomes += population.train(
            program_of(design, len(members)),
            members,
            images,
            directory,
            clock.progress,
            None if weights is None else weights[chunk],
        )
    if any(outcome.diverged for outcome in outcomes):
        raise ValueError(
            "training has diverged: a loss is no longer finite. Lower learning_rate"
            f"{' or the guidance weight' if 'ogae' in design.method else ''}, or scale the data."
        )
    return outcomes


@contextlib.contextmanager
def entered(workdir: Path | None, description: dict[str, Any], *data: Any) -> Iterator[None]:
    """Reserves a working directory for this process, this detector and these data.

    Args:
      workdir: created if it does not exist; None for none.
      description: the parameters that decide on the training, as JSON holds them.
      *data: arrays that decide on it.

    Raises:
      ValueError: if another process is at work there, or it belongs to another fit. Nothing is
        changed then.
    """
    if workdir is None:
        yield
        return
    now = json.loads(json.dumps(description | {"data": sha256(*data)}))
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"workdir is {workdir}, which is a file; pass a new or empty folder.")
    with sole_user(workdir):
        record = workdir / _RECORD
        if record.exists():
            _check_same(workdir, json.loads(record.read_text()), now)
        elif any(workdir.iterdir()):
            raise ValueError(
                f"workdir is {workdir}, which is not empty and holds no {_RECORD}; pass a new or "
                "empty folder. Nothing was changed."
            )
        else:
            write_json(record, now)
        yield


def _check_same(workdir: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    lines = [
        "data: other rows"
        if name == "data"
        else f"{name}: {then.get(name)!r} there, {now.get(name)!r} now"
        for name in changed
    ]
    if lines:
        raise ValueError(
            f"workdir is {workdir}, which holds another fit:\n  " + "\n  ".join(lines) + "\nPass "
            "another workdir, or remove that one. Nothing was changed."
        )


def digest_of(weights: Sequence[Any] | None) -> str | None:
    """A digest of the weights that a training starts from."""
    if weights is None:
        return None
    leaves = jax.tree.leaves([(state.params, state.stats) for state in weights])
    return hashlib.sha256(sha256(*map(np.asarray, leaves)).encode()).hexdigest()


class _Clock:
    """Tells of the epochs of all models together, about twenty times."""

    def __init__(self, total: int, tell: Callable[[str], Any] | None):
        self._total, self._tell = total, tell
        self._done, self._told = 0, 0.0
        self._first: tuple[int, float] | None = None
        if tell:
            tell("compiling, which takes some seconds")

    def progress(self, epochs: int, loss: float) -> None:
        self._done += epochs
        if self._tell is None or math.isnan(loss):
            return
        now = time.monotonic()
        # The first epoch contains the compilation.
        self._first = self._first or (self._done, now)
        if self._done < self._total and self._done - self._told < self._total / 20:
            return
        self._told = self._done
        before, began = self._first
        left = (now - began) / max(self._done - before, 1) * (self._total - self._done)
        self._tell(f"epoch {self._done} of {self._total}, loss {loss:.4g}, {left:.0f} s left")
