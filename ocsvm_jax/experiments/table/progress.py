"""What a call tells while it works: a bar over all epochs, a line for each run; the wall time."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import runs, search
from ocsvm_jax.experiments.table.rows import ROWS, Row
from ocsvm_jax.files import whole_file


class Progress:
    """One bar over the epochs of all runs; a line for each run that is finished."""

    def __init__(self, config: Config, rows: Sequence[Row]):
        """Counts at most how many epochs there are to come."""
        total = 0
        for method in {row.method: None for row in rows}:
            own = [row for row in rows if row.method == method]
            counts = search.runs_at_most(config, method, own)
            total += sum(number * epochs for number, epochs in counts)
        self._guide = search.guide(config)
        # disable=None: silent when not a terminal.
        self._bar = tqdm(total=total, unit="epoch", disable=None, smoothing=0.05)

    def epochs(self, number: int, loss: float) -> None:
        """So many epochs more."""
        self._bar.set_postfix(loss=f"{loss:.4f}")
        self._bar.update(number)

    def known(self, spec: runs.Spec) -> None:
        """A run was on disk already."""
        self._bar.update(spec.epochs)

    def finished(self, spec: runs.Spec, record: Mapping[str, Any]) -> None:
        """A run is on disk."""
        # What early stopping saved, and what is missing of a run that has diverged.
        self._bar.update(spec.epochs - record["epochs_done"])
        best = {
            row.score: search.best_figure(record, row, self._guide)
            for row in ROWS
            if row.method == spec.method and record["valid"]
        }
        figures = ", ".join(f"{score} {value:.3f}" for score, value in best.items())
        status = "" if record["status"] == "done" else f" {record['status']}"
        if record["collapsed"]:
            status += f" collapsed: {', '.join(record['collapsed'])}"
        tqdm.write(
            f"{spec.stage} {spec.name} {spec.point} {record['seconds']:.0f} s, "
            f"validation AUROC {figures}{status}"
        )
        sys.stdout.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()


class Clock:
    """Wall time of all calls in a directory together; of a killed one, up to its last note."""

    def __init__(self, workdir: Path):
        """Starts now; reads nothing."""
        self._path, self._since = workdir / "seconds.json", time.perf_counter()

    def note(self) -> float:
        """Adds the time since the last note; returns the sum."""
        now = time.perf_counter()
        total = now - self._since
        total += json.loads(self._path.read_text()) if self._path.exists() else 0.0
        self._since = now
        with whole_file(self._path) as file:
            file.write(json.dumps(total).encode())
        return total
