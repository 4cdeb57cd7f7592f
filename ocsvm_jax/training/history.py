"""Metrics of each epoch: one JSON object per line, in step with the checkpoints.

`metrics.jsonl` belongs to the only model trained in a directory, `metrics-<i>.jsonl` to each of
several. Earlier versions kept several histories in `history.json`, a list of lists.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ocsvm_jax.files import write_json_lines

Entry = dict[str, Any]


class History:
    """Metrics of each epoch of one model.

    Attributes:
      entries: one for each epoch, in memory as on disk.
    """

    def __init__(self, path: Path | None, epochs_done: int):
        """Reads the entries of the first `epochs_done` epochs, and drops all others.

        Without a path there is nothing to read, and nothing is written.
        """
        self._path, self.entries = path, []
        if path is not None:
            # A run that was killed may have lines beyond its last checkpoint, the last cut short.
            self.entries = [e for e in _entries(path) if e["epoch"] <= epochs_done]
            _write(path, self.entries)

    def append(self, entry: Entry) -> None:
        """Adds an epoch, in memory and on disk."""
        self.entries.append(entry)
        if self._path is not None:
            with open(self._path, "a") as file:
                file.write(json.dumps(entry) + "\n")

    @property
    def diverged(self) -> bool:
        """Whether a loss of the last epoch is not finite; no epoch follows such an epoch."""
        return bool(self.entries and not_finite(self.entries[-1]))


def histories(directory: Path | None, number: int, done: int) -> list[History]:
    """The histories of all models of a directory, up to its checkpoint after `done` epochs.

    Without a directory they are in memory only.

    Raises:
      ValueError: if there is a checkpoint (`done` > 0) without them.
    """
    if directory is None:
        return [History(None, 0) for _ in range(number)]
    names = ["metrics"] if number == 1 else [f"metrics-{i}" for i in range(number)]
    paths = [directory / f"{name}.jsonl" for name in names]
    before = directory / "history.json"
    if before.exists():
        for path, entries in zip(paths, json.loads(before.read_text()), strict=True):
            _write(path, entries)
        before.unlink()
    for path in paths:
        if done and not path.exists():
            raise ValueError(
                f"{path} is missing beside its checkpoint; put it back, or remove {directory} to "
                "train from the start."
            )
    return [History(path, done) for path in paths]


def not_finite(entry: Entry) -> list[str]:
    """Names of the losses of an epoch that are not finite."""
    return [name for name in ("loss", "valid_loss") if not math.isfinite(entry[name])]


def _entries(path: Path) -> list[Entry]:
    """The lines of a metrics file up to the first that is damaged."""
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _write(path: Path, entries: Sequence[Entry]) -> None:
    write_json_lines(path, entries)
