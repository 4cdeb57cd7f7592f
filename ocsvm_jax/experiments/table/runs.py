"""The models of a table: trained or fitted, judged on validation images, kept on disk.

A trained model is never trained again; training that was killed continues from the last checkpoint
of its population in `partial/`.
"""

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ocsvm_jax import data
from ocsvm_jax.evaluation.density import DENSITY_SCORES
from ocsvm_jax.evaluation.final import FINAL_SCORES
from ocsvm_jax.evaluation.scores import Model
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.table import baselines
from ocsvm_jax.experiments.table.baselines import BASELINES
from ocsvm_jax.experiments.table.judge import on_validation
from ocsvm_jax.experiments.table.plan import TablePlan
from ocsvm_jax.experiments.table.progress import Progress
from ocsvm_jax.experiments.table.record import RunRecord
from ocsvm_jax.experiments.table.store import RunStore, Spec
from ocsvm_jax.methods import METHODS
from ocsvm_jax.reports import provenance
from ocsvm_jax.suggestions import did_you_mean
from ocsvm_jax.training import population
from ocsvm_jax.training.history import Entry


class Runs:
    """Trains and judges the runs of one table, and loads those that exist."""

    def __init__(
        self,
        plan: TablePlan,
        store: RunStore,
        train: data.ImageSet,
        valid: Mapping[str, data.ImageSet],
        progress: Progress,
    ):
        """Reads nothing yet.

        Args:
          plan: plan of the table.
          store: reads and writes the runs.
          train: all images for training and early stopping.
          valid: validation images by protocol.
          progress: reports progress.
        """
        self.plan, self.store = plan, store
        self._images, self._valid, self._progress = train, valid, progress
        self._told: set[str] = set()
        self._facts = provenance.facts()
        self._on_device = jnp.asarray(train.images)
        self._programs: dict[tuple, population.Program] = {}

    def ensure(self, specs: Sequence[Spec]) -> list[RunRecord]:
        """Returns the records of all runs, after training and judging the missing ones."""
        records, missing = {}, []
        for name, spec in {spec.name: spec for spec in specs}.items():
            if self.store.trained(spec) is None:
                missing.append(spec)
                continue
            records[name] = self._judge(spec)
            if name not in self._told:
                self._progress.known(spec)
            self._told.add(name)
        for made in self._make(missing):
            # All are on disk before the first is judged, which takes time and may be interrupted.
            for spec in made:
                records[spec.name] = self._judge(spec)
                self._told.add(spec.name)
                self._progress.finished(spec, records[spec.name])
        return [records[spec.name] for spec in specs]

    def model(self, spec: Spec) -> Model:
        """The model of a finished run, with its weights from disk."""
        if spec.method in BASELINES:
            shapes = baselines.state_shapes(self.plan.settings[spec.method])
            return baselines.model(self.store.state(spec, shapes))
        program, member = self._program(self._key(spec), 1), self._member(spec)
        state = self.store.state(spec, program.state_shapes(member, self._on_device))
        return program.see(member, state)

    def train_images(self, spec: Spec) -> data.ImageSet:
        """The images a run was trained on."""
        return data.take(self._images, self.rows(spec.seed)[0])

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training images and of the held-out images for this seed."""
        return data.holdout_rows(len(self._images.images), self.plan.train.held_out, seed)

    def _make(self, specs: Sequence[Spec]) -> Iterator[list[Spec]]:
        """Trains or fits runs; yields those that were made together."""
        for spec in specs:
            if spec.method in BASELINES:
                self._fit(spec)
                yield [spec]
        trained = [spec for spec in specs if spec.method not in BASELINES]
        for chunk, size in self._populations(trained):
            self._train(chunk, size)
            yield chunk

    def _fit(self, spec: Spec) -> None:
        """Fits a baseline and saves it."""
        since, images = time.perf_counter(), self.train_images(spec).images
        state = baselines.fit(self.plan.settings[spec.method], images)
        record = self._made(spec, [], seconds=time.perf_counter() - since)
        self.store.keep(spec, record, state, [])

    def _populations(self, specs: Sequence[Spec]) -> Iterator[tuple[list[Spec], int]]:
        """Yields groups of runs to train together, with the size of their compiled program."""
        for _, group in itertools.groupby(sorted(specs, key=self._key), self._key):
            together = list(group)
            size = min(population.models_at_once(self.plan.models_at_once), len(together))
            for first in range(0, len(together), size):
                yield together[first : first + size], size

    def _train(self, specs: Sequence[Spec], size: int) -> None:
        """Trains a population and saves its runs."""
        # The last population is padded to full size, so that one compiled program serves all.
        filled = [*specs, *[specs[-1]] * (size - len(specs))]
        program = self._program(self._key(specs[0]), size)
        members = [self._member(spec) for spec in filled]
        partial = self.store.workdir / "partial" / _digest([spec.name for spec in filled])
        partial.mkdir(parents=True, exist_ok=True)

        def progress(epochs: int, loss: float) -> None:
            # Padding members do not count.
            self._progress.epochs(epochs * len(specs) // size, loss)

        outcomes = population.train(program, members, self._on_device, partial, progress)
        for spec, outcome in zip(specs, outcomes, strict=False):
            seconds = sum(entry["seconds"] for entry in outcome.history)
            made = self._made(spec, outcome.history, seconds=seconds, diverged=outcome.diverged)
            self.store.keep(spec, made, outcome.state, outcome.history)
        population.forget(partial)

    def _made(
        self, spec: Spec, history: Sequence[Entry], *, seconds: float, diverged: bool = False
    ) -> RunRecord:
        return RunRecord(
            *spec,
            status="diverged" if diverged else "done",
            seconds=seconds,
            epochs_done=len(history),
            best_epoch=int(history[-1]["best_epoch"]) if history else 0,
            valid={},
            collapsed=[],
            commit=self._facts["commit"],
            devices=self._facts["devices"],
        )

    def _judge(self, spec: Spec) -> RunRecord:
        """Judges a trained run by the plan's scores, unless that is done; returns its record."""
        scores = [*FINAL_SCORES, *DENSITY_SCORES, *self.plan.finals]
        record = self.store.judged(spec)
        if record is not None and (record.status != "done" or record.judged_by == scores):
            return record
        record = record or self.store.trained(spec)
        assert record is not None, f"{spec.name} is trained"
        if record.status == "done":
            images = self.train_images(spec).images
            found = on_validation(self.model(spec), images, self._valid, self.plan.finals)
            status = "done" if found["valid"] else "diverged"
            record = record._replace(**found, judged_by=scores, status=status)
        self.store.keep_judged(spec, record)
        return record

    def _settings(self, spec: Spec) -> dict[str, Any]:
        card = self.plan.settings[spec.method]
        return card | spec.point | {"num_epochs": spec.epochs}

    def _key(self, spec: Spec) -> tuple[str, int, str]:
        """What the runs of a population must share: method, epochs and all static settings."""
        traced = METHODS[spec.method].numbers_in(self._settings(spec))
        static = {k: v for k, v in self._settings(spec).items() if k not in traced}
        return spec.method, spec.epochs, json.dumps(static, sort_keys=True)

    def _program(self, key: tuple[str, int, str], size: int) -> population.Program:
        if (key, size) not in self._programs:
            _, epochs, static = key
            settings, train = json.loads(static), self.plan.train
            self._programs[key, size] = population.Program(
                lambda traced: experiment.method_of(settings | traced, train.learning_rate),
                population.Plan(epochs, train.batch_size, train.patience, train.checkpoint_every),
                size,
            )
        return self._programs[key, size]

    def _member(self, spec: Spec) -> population.Member:
        traced = METHODS[spec.method].numbers_in(self._settings(spec))
        return population.Member(traced, spec.seed, *self.rows(spec.seed))


def check(plan: TablePlan, specs: Sequence[Spec]) -> None:
    """Raises ValueError on the first run with invalid settings, before any is trained."""
    for spec in specs:
        if spec.method in BASELINES:
            continue  # `plan_of` has checked their settings
        settings = plan.settings[spec.method]
        for name in spec.point:
            if name not in settings:
                raise ValueError(
                    f"the grid of {spec.method} names {name!r}, which is no field of this method."
                    + did_you_mean(name, settings)
                )
        settings = settings | spec.point | {"num_epochs": spec.epochs}
        experiment.method_of(settings, plan.train.learning_rate)


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
