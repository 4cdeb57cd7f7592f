"""The models of a table: trained in populations, each judged on validation and kept on disk.

A run is a directory `runs/<method>-<digest>-seed<n>` that holds the weights, `trained.json`, which
is written when they are safe, and `run.json`, when they are judged. What is trained is never
trained again; what a kill interrupts goes on from the last checkpoint of its population in
`partial/`.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ocsvm_jax import data
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.method_fields import settings_of
from ocsvm_jax.experiments.table import grid
from ocsvm_jax.experiments.table.judge import FINAL_SCORES, Model, on_validation
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods import METHODS
from ocsvm_jax.reports import provenance
from ocsvm_jax.suggestions import did_you_mean
from ocsvm_jax.training import population
from ocsvm_jax.training.checkpoints import Checkpoints

Record = dict[str, Any]


class Spec(NamedTuple):
    """One run.

    Attributes:
      method: name of the method.
      point: its settings that are not those of the card, as JSON would give them back.
      seed: of the weights, the order of the images and those held out.
      epochs: at most so many.
      stage: at which stage of the search it was first asked for.
    """

    method: str
    point: grid.Point
    seed: int
    epochs: int
    stage: str

    @property
    def name(self) -> str:
        """The name of its directory; the stage does not count."""
        text = json.dumps([self.point, self.epochs], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"{self.method}-{digest}-seed{self.seed}"


class Runs:
    """Trains, judges, keeps and finds again the runs of one table."""

    def __init__(
        self,
        config: Config,
        workdir: Path,
        train: data.ImageSet,
        valid: Mapping[str, data.ImageSet],
        finals: Mapping[str, Final],
        report: Callable[[Spec, Record], Any] = lambda spec, record: None,
        progress: Callable[[int, float], Any] = lambda epochs, loss: None,
        known: Callable[[Spec], Any] = lambda spec: None,
    ):
        """Reads nothing yet.

        Args:
          config: the card.
          workdir: where runs are kept.
          train: all images for training and early stopping.
          valid: validation images by protocol.
          finals: final one-class SVMs to judge every run by, see `judge.finals_of`.
          report: called with every run and its record when it is finished.
          progress: as that of `population.train`.
          known: called once with every run that an earlier call has finished.
        """
        self.config, self.workdir, self._images = config, workdir, train
        self._valid, self._finals = valid, finals
        self._report, self._progress, self._known = report, progress, known
        self._reported: set[str] = set()
        self._facts = provenance.facts()
        self._on_device = jnp.asarray(train.images)
        self._programs: dict[tuple, population.Program] = {}

    def finished(self, spec: Spec) -> Record | None:
        """The record of a run, or None while it is not trained.

        A run that was trained, but not judged, or by other scores than are now asked for, is judged
        first.
        """
        path = self._directory(spec) / "run.json"
        if not path.exists():
            trained = self._directory(spec) / "trained.json"
            return self._judged(spec, json.loads(trained.read_text())) if trained.exists() else None
        record = json.loads(path.read_text())
        if record["status"] == "done" and record.get("judged_by") != self._judged_by():
            return self._judged(spec, record)
        return record

    def ensure(self, specs: Sequence[Spec]) -> list[Record]:
        """The records of all runs; those not finished are trained first."""
        missing = [spec for spec in specs if self.finished(spec) is None]
        missing = list({spec.name: spec for spec in missing}.values())
        unknown = self._reported | {spec.name for spec in missing}
        for spec in {spec.name: spec for spec in specs if spec.name not in unknown}.values():
            self._reported.add(spec.name)
            self._known(spec)
        missing.sort(key=self._key)
        for key, group in itertools.groupby(missing, self._key):
            together = list(group)
            size = min(population.models_at_once(self.config.table.models_at_once), len(together))
            for first in range(0, len(together), size):
                # The last, smaller population is filled up: one compiled program serves them all.
                chunk = together[first : first + size]
                self._train(key, chunk + [chunk[-1]] * (size - len(chunk)), len(chunk))
        return [self._record(spec) for spec in specs]

    def model(self, spec: Spec) -> Model:
        """The function of a finished run, from its weights on disk."""
        program, member = self._program(self._key(spec), 1), self._member(spec)
        shapes = program.state_shapes(member, self._on_device)
        with Checkpoints(self._directory(spec) / "state", read_only=True) as kept:
            state = kept.restore(shapes)
        return program.see(member, state)

    def all_finished(self) -> list[Record]:
        """The records of all runs in the directory, also of those no longer asked for."""
        paths = sorted((self.workdir / "runs").glob("*/run.json"))
        return [json.loads(path.read_text()) for path in paths]

    def train_images(self, spec: Spec) -> data.ImageSet:
        """The images a run was trained on."""
        return data.take(self._images, self._rows(spec.seed)[0])

    def _train(self, key: tuple, specs: Sequence[Spec], number: int) -> None:
        program = self._program(key, len(specs))
        members = [self._member(spec) for spec in specs]
        partial = self.workdir / "partial" / _digest([spec.name for spec in specs])
        partial.mkdir(parents=True, exist_ok=True)

        def progress(epochs: int, loss: float) -> None:
            # Those that fill up a population are nobody's.
            self._progress(epochs * number // len(specs), loss)

        outcomes = population.train(program, members, self._on_device, partial, progress)
        for spec, outcome in list(zip(specs, outcomes, strict=True))[:number]:
            self._keep(spec, outcome)
        # All are safe before the first is judged: judging takes its time, and may be interrupted.
        population.forget(partial)
        for spec in specs[:number]:
            self._reported.add(spec.name)
            self._report(spec, self._record(spec))

    def _keep(self, spec: Spec, outcome: population.Outcome) -> None:
        """Puts the weights of a trained run away, then the record of its training."""
        record: Record = {
            "method": spec.method,
            "settings": spec.point,
            "seed": spec.seed,
            "epochs": spec.epochs,
            "stage": spec.stage,
            "status": "diverged" if outcome.diverged else "done",
            "seconds": sum(entry["seconds"] for entry in outcome.history),
            "epochs_done": len(outcome.history),
            "best_epoch": outcome.history[-1]["best_epoch"],
            "valid": {},
            "collapsed": [],
            "commit": self._facts["commit"],
            "devices": self._facts["devices"],
        }
        directory = self._directory(spec)
        directory.mkdir(parents=True, exist_ok=True)
        # Of a run that was killed while it was put away, or whose records were removed by hand.
        shutil.rmtree(directory / "state", ignore_errors=True)
        with Checkpoints(directory / "state", keep=1) as kept:
            kept.save(0, outcome.state)
        with whole_file(directory / "history.jsonl") as file:
            file.write("".join(json.dumps(e) + "\n" for e in outcome.history).encode())
        self._write(spec, record, "trained.json")

    def _judged(self, spec: Spec, record: Record) -> Record:
        """The record with the figures of the run on validation; also on disk."""
        if record["status"] == "done":
            record = record | self._judge(self.model(spec), self.train_images(spec).images)
            if not record["valid"]:
                record["status"] = "diverged"
        self._write(spec, record)
        return record

    def _judge(self, model: Model, train_images: np.ndarray) -> Record:
        found = on_validation(model, train_images, self._valid, self._finals)
        return found | {"judged_by": self._judged_by()}

    def _judged_by(self) -> list[str]:
        return [*FINAL_SCORES, *self._finals]

    def _write(self, spec: Spec, record: Record, name: str = "run.json") -> None:
        with whole_file(self._directory(spec) / name) as file:
            file.write(json.dumps(record, indent=1).encode())

    def _record(self, spec: Spec) -> Record:
        record = self.finished(spec)
        assert record is not None, f"{spec.name} was trained above"
        return record

    def _directory(self, spec: Spec) -> Path:
        return self.workdir / "runs" / spec.name

    def _settings(self, spec: Spec) -> dict[str, Any]:
        card = settings_of(self.config, spec.method)
        return card | spec.point | {"num_epochs": spec.epochs}

    def _key(self, spec: Spec) -> tuple[str, int, str]:
        """What runs must share to be one population: method, epochs and all static settings."""
        traced = _traced(spec.method, self._settings(spec))
        static = {k: v for k, v in self._settings(spec).items() if k not in traced}
        return spec.method, spec.epochs, json.dumps(static, sort_keys=True)

    def _program(self, key: tuple[str, int, str], size: int) -> population.Program:
        if (key, size) not in self._programs:
            _, epochs, static = key
            settings, train = json.loads(static), self.config.train
            self._programs[key, size] = population.Program(
                lambda traced: experiment.method_of(settings | traced, train.learning_rate),
                population.Plan(epochs, train.batch_size, train.patience, train.checkpoint_every),
                size,
            )
        return self._programs[key, size]

    def _member(self, spec: Spec) -> population.Member:
        traced = _traced(spec.method, self._settings(spec))
        return population.Member(traced, spec.seed, *self._rows(spec.seed))

    def _rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return data.holdout_rows(len(self._images.images), self.config.train.held_out, seed)


def check(config: Config, specs: Sequence[Spec]) -> None:
    """Raises ValueError on the first run whose settings cannot work, before any is trained."""
    for spec in specs:
        settings = settings_of(config, spec.method)
        for name in spec.point:
            if name not in settings:
                raise ValueError(
                    f"the grid of {spec.method} names {name!r}, which is no field of this method."
                    + did_you_mean(name, settings)
                )
        settings |= spec.point | {"num_epochs": spec.epochs}
        experiment.method_of(settings, config.train.learning_rate)


def _traced(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that are numbers, or lists of numbers, and may be traced."""
    return {
        name: settings[name]
        for name in METHODS[method].traced
        if not isinstance(settings[name], str)
    }


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
