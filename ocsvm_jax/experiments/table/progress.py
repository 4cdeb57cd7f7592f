"""Progress of a call: a bar over all epochs, one line per finished run, and the wall time."""

import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ocsvm_jax.experiments.table import search
from ocsvm_jax.experiments.table.plan import TablePlan
from ocsvm_jax.experiments.table.record import RunRecord
from ocsvm_jax.experiments.table.rows import ROWS
from ocsvm_jax.experiments.table.store import Spec
from ocsvm_jax.files import write_json


class Clock:
    """Total wall time of all calls in a directory; a killed call counts up to its last note."""

    def __init__(self, workdir: Path):
        """Starts now; reads nothing."""
        self._path, self._since = workdir / "seconds.json", time.perf_counter()

    def note(self) -> float:
        """Adds the time since the last note; returns the total."""
        now = time.perf_counter()
        total = now - self._since
        total += json.loads(self._path.read_text()) if self._path.exists() else 0.0
        self._since = now
        write_json(self._path, total, indent=None)
        return total


class Progress:
    """One bar over the epochs of all runs, and a line per finished run."""

    def __init__(self, plan: TablePlan, clock: Clock):
        """Computes an upper bound on the number of epochs."""
        counts = [search.runs_at_most(plan, name, plan.rows_of(name)) for name in plan.methods]
        total = sum(number * epochs for own in counts for number, epochs in own)
        self._guide, self._clock = plan.guide, clock
        # disable=None: silent when not a terminal.
        self._bar = tqdm(total=total, unit="epoch", disable=None, smoothing=0.05)

    def epochs(self, number: int, loss: float) -> None:
        """Advances the bar by `number` epochs, summed over models; see `population.train`."""
        self._bar.set_postfix(loss=f"{loss:.4f}")
        self._bar.update(number)

    def known(self, spec: Spec) -> None:
        """Called once for a run that was already on disk."""
        self._bar.update(spec.epochs)

    def finished(self, spec: Spec, record: RunRecord) -> None:
        """Called when a run has been trained and judged."""
        self._clock.note()
        # Epochs that early stopping or divergence left out.
        self._bar.update(spec.epochs - record.epochs_done)
        best = {
            row.score: search.best_value(record, row, self._guide)
            for row in ROWS
            if row.method == spec.method and record.valid
        }
        values = ", ".join(f"{score} {value:.3f}" for score, value in best.items())
        status = "" if record.status == "done" else f" {record.status}"
        if record.collapsed:
            status += f" collapsed: {', '.join(record.collapsed)}"
        tqdm.write(
            f"{spec.stage} {spec.name} {spec.point} {record.seconds:.0f} s, "
            f"validation AUROC {values}{status}"
        )
        sys.stdout.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
