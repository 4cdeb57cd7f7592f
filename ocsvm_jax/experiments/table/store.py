"""The runs of a table on disk.

A run is a directory `runs/<method>-<digest>-seed<n>` that holds the weights, then `trained.json`,
written once they are saved, then `run.json`, written once the run is judged.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ocsvm_jax.experiments.table.grid import Point
from ocsvm_jax.experiments.table.record import RunRecord, run_from_json, to_json
from ocsvm_jax.files import write_json, write_json_lines
from ocsvm_jax.training.checkpoints import Checkpoints

_TRAINED, _JUDGED = "trained.json", "run.json"
# Fields that judging fills in: left out of the file while they are None.
_OF_JUDGING = ("unconverged", "dimensions", "judged_by")


class Spec(NamedTuple):
    """One run.

    Attributes:
      method: name of the method.
      point: its settings that differ from the card's, as JSON would return them.
      seed: seed of the weights, the order of the images and the choice of held-out images.
      epochs: maximum number of epochs.
      stage: stage of the search that requested it first.
    """

    method: str
    point: Point
    seed: int
    epochs: int
    stage: str

    @property
    def name(self) -> str:
        """The name of its directory, which does not depend on the stage."""
        text = json.dumps([self.point, self.epochs], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self.method}-{digest}-seed{self.seed}"


class RunStore:
    """Reads and writes runs. Each judged record is read from disk once."""

    def __init__(self, workdir: Path):
        """Reads nothing yet."""
        self.workdir = workdir
        self._judged: dict[str, RunRecord] = {}

    def trained(self, spec: Spec) -> RunRecord | None:
        """The record of a run, judged or not; None if it is not trained."""
        judged, path = self.judged(spec), self._directory(spec) / _TRAINED
        return _parsed(path) if judged is None and path.exists() else judged

    def judged(self, spec: Spec) -> RunRecord | None:
        """The record of a run; None if it is not judged."""
        return self._read(self._directory(spec) / _JUDGED)

    def every_judged(self) -> dict[str, RunRecord]:
        """Records of all judged runs in the directory, by name of the run."""
        paths = sorted((self.workdir / "runs").glob(f"*/{_JUDGED}"))
        found = {path.parent.name: self._read(path) for path in paths}
        return {name: record for name, record in found.items() if record is not None}

    def keep(
        self, spec: Spec, record: RunRecord, state: Any, history: Sequence[Mapping[str, Any]]
    ) -> None:
        """Saves a trained run: the weights, the history, then the record."""
        directory = self._directory(spec)
        directory.mkdir(parents=True, exist_ok=True)
        # Left by a call that was killed while saving, or by records removed by hand.
        shutil.rmtree(directory / "state", ignore_errors=True)
        with Checkpoints(directory / "state", keep=1) as kept:
            kept.save(0, state)
        write_json_lines(directory / "history.jsonl", history)
        self._write(directory / _TRAINED, record)

    def keep_judged(self, spec: Spec, record: RunRecord) -> None:
        """Saves the record of a judged run."""
        self._write(self._directory(spec) / _JUDGED, record)
        self._judged[spec.name] = record

    def state(self, spec: Spec, shapes: Any) -> Any:
        """Loads the state of a run; `shapes` is its pytree of shapes and dtypes."""
        with Checkpoints(self._directory(spec) / "state", read_only=True) as kept:
            return kept.restore(shapes)

    def _directory(self, spec: Spec) -> Path:
        return self.workdir / "runs" / spec.name

    def _read(self, path: Path) -> RunRecord | None:
        name = path.parent.name
        if name not in self._judged and path.exists():
            self._judged[name] = _parsed(path)
        return self._judged.get(name)

    def _write(self, path: Path, record: RunRecord) -> None:
        content = to_json(record)
        known = {k: v for k, v in content.items() if v is not None or k not in _OF_JUDGING}
        write_json(path, known)


def _parsed(path: Path) -> RunRecord:
    try:
        return run_from_json(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
