"""The whole experiment of a table: search, repeat over seeds, test once, report."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ocsvm_jax import data, experiment, provenance
from ocsvm_jax.experiment import Config
from ocsvm_jax.files import sole_user, whole_file
from ocsvm_jax.methods import METHODS
from ocsvm_jax.table import directory, grid, judge, outcome, report, runs, search
from ocsvm_jax.table.rows import ROWS, Row

_PAPER_TASK = {
    "name": "mnist_c",
    "normal": [3],
    "anomalies": [8],
    "train_corruptions": ["identity", "motion_blur", "translate"],
    "test_corruptions": ["stripe", "canny_edges", "brightness"],
}
# What may change in a working directory: runs that are there already stay what they are.
_FREE = (
    "eval.",
    "table.methods",
    "table.ablations",
    "table.seeds",
    "table.search",
    "table.coarse_epochs",
    "table.finalists",
    "table.card_competes",
    "table.models_at_once",
    "table.alpha",
    "table.grids.",
    "table.main_axes.",
)


def resolve(config: Config) -> Config:
    """The card with its quick profile applied, if `config.quick` asks for it."""
    resolved = config.copy_and_resolve_references()
    if resolved.quick:
        with resolved.ignore_type():
            resolved.update(resolved.quick_profile)
    with resolved.unlocked():
        del resolved["quick_profile"]
    return resolved


def rows_of(config: Config) -> list[Row]:
    """The rows whose methods the card asks for."""
    wanted = config.table.methods
    return [
        row
        for row in ROWS
        if (not wanted or row.method in wanted) and (row.fixed is None or config.table.ablations)
    ]


def check(config: Config) -> None:
    """Raises ValueError on the first value that can not work, before anything is loaded."""
    experiment.check(config)
    table = config.table
    if table.search not in search.SEARCHES:
        raise ValueError(f"table.search is {table.search!r}; it is one of {search.SEARCHES}.")
    for field in ("methods", "card_competes"):
        unknown = [name for name in table[field] if name not in METHODS]
        if unknown:
            raise ValueError(
                f"table.{field} names {unknown[0]!r}; the methods are {sorted(METHODS)}."
            )
    for name in ("seeds", "protocols"):
        values = table[name]
        if not values or len(set(values)) < len(values):
            raise ValueError(f"table.{name} is {values}; name one or more, each once.")
    for name in ("coarse_epochs", "finalists"):
        if table[name] < 1:
            raise ValueError(f"table.{name} is {table[name]}; it must be at least 1.")
    for name in ("models_at_once", "max_images"):
        if table[name] < 0:
            raise ValueError(f"table.{name} is {table[name]}; it must be at least 0.")
    if not 0 < table.alpha < 1:
        raise ValueError(f"table.alpha is {table.alpha}; it must lie in (0, 1).")
    for method in {row.method: None for row in rows_of(config)}:
        runs.check(config, search.first_runs(config, method))
        axes = search.grid_of(config, method)
        swept = [point for values in grid.axes(axes) for point in values]
        runs.check(config, [runs.Spec(method, point, 0, 1, "sweep") for point in swept])
    for final in judge.finals_of(table.finals.to_dict()).values():
        changed = config.copy_and_resolve_references()
        with changed.ignore_type():
            changed.final.update(final)
        experiment.check(changed)


def load(config: Config) -> tuple[data.ImageSet, dict[str, data.Dataset]]:
    """The training images, and the dataset of each protocol."""
    fields = {k: v for k, v in config.data.to_dict().items() if k != "protocol"}
    sets = {name: data.load(**fields, protocol=name) for name in config.table.protocols}
    limit = config.table.max_images
    sets = {
        name: found._replace(
            train=_some(found.train, limit),
            valid=_some(found.valid, limit),
            test=_some(found.test, limit),
        )
        for name, found in sets.items()
    }
    train = next(iter(sets.values())).train
    kept, held = data.holdout_rows(len(train.images), config.train.held_out, 0)
    if len(kept) < config.train.batch_size or len(held) < 2:
        raise ValueError(
            f"there are {len(kept)} images to train on and {len(held)} held out, too few for "
            f"batches of {config.train.batch_size}: lower train.batch_size or raise "
            "table.max_images."
        )
    return train, sets


def _some(images: data.ImageSet, limit: int) -> data.ImageSet:
    """At most `limit` images, every k-th, so that all corruptions are there; all if it is 0."""
    every = -(-len(images.images) // limit) if limit else 1
    # Positions within a class and corruption alternate otherwise between few digits only.
    order = np.lexsort((np.arange(len(images.classes)), images.classes, images.corruption))
    return data.take(images, np.sort(order[::every]))


def main(config: Config, workdir: Path, command: str = "") -> dict[str, Any]:
    """Runs the experiment of a card with a `table` in `workdir`, or goes on with it there.

    Writes `results.json`, `table.md`, `report.html` and `figures/`; returns the results. A run that
    is finished is never repeated, whatever was killed in between.

    Raises:
      ValueError: on a card that can not work, data that do not fit, or a `workdir` that holds
        something else.
    """
    clock = directory.Clock(workdir)
    config = resolve(config)
    check(config)
    experiment.check_workdir(workdir, config, _FREE)
    train, sets = load(config)
    with sole_user(workdir):
        directory.check_rows(workdir, [row.name for row in rows_of(config)])
        images = directory.digests(train, sets)
        directory.check_images(workdir, images)
        experiment.claim_workdir(workdir, config, _FREE)
        directory.note_images(workdir, images)
        return _whole(config, workdir, train, sets, clock, command)


def _whole(
    config: Config,
    workdir: Path,
    train: data.ImageSet,
    sets: Mapping[str, data.Dataset],
    clock: directory.Clock,
    command: str,
) -> dict[str, Any]:
    """Searches, tests and reports, in a directory that is this call's own."""
    finals = judge.finals_of(config.table.finals.to_dict())
    rows = rows_of(config)
    with Progress(config, rows) as progress:

        def finished(spec: runs.Spec, record: Mapping[str, Any]) -> None:
            clock.note()
            progress.finished(spec, record)

        made = runs.Runs(
            config,
            workdir,
            train,
            {name: found.valid for name, found in sets.items()},
            finals,
            report=finished,
            progress=progress.epochs,
            known=progress.known,
        )
        specs = []
        for method in {row.method: None for row in rows}:
            of_method = [row for row in rows if row.method == method]
            specs += search.search(config, made.ensure, method, of_method)
    record, pictures = _results(config, made, specs, rows, finals, sets, train)
    record |= {"command": command, "wall_seconds": clock.note()}
    with whole_file(workdir / directory.RESULTS_FILE) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    path = report.write(workdir, record, pictures)
    print("\n## ".join(report.markdown(record).split("\n## ")[:2]))
    print(f"report: {path}")
    return record


def _results(
    config: Config,
    made: runs.Runs,
    specs: Sequence[runs.Spec],
    rows: Sequence[Row],
    finals: Mapping[str, Mapping[str, Any]],
    sets: Mapping[str, data.Dataset],
    train: data.ImageSet,
) -> tuple[dict[str, Any], report.PicturesData]:
    """Chooses, tests, compares; what the report is made of."""
    table = config.table
    test = {name: found.test for name, found in sets.items()}
    results: dict[str, dict[str, outcome.RowResult]] = {row.name: {} for row in rows}
    for row in rows:
        own = [spec for spec in specs if spec.method == row.method]
        for protocol in sets:
            choice = search.choose(config, made.ensure, own, row, protocol)
            results[row.name][protocol] = outcome.row_result(
                made, row, protocol, choice, finals, test[protocol]
            )
    maps = _latent_maps(config, made, results, test)
    paper_task = all(experiment.plain(config)["data"][k] == v for k, v in _PAPER_TASK.items())
    record = {
        "title": _title(config),
        "facts": provenance.facts(),
        "config": experiment.plain(config),
        "seeds": list(table.seeds),
        "resamples": config.eval.resamples,
        "alpha": table.alpha,
        "rows": [outcome.row_record(row, results[row.name], paper_task) for row in rows],
        "comparisons": _comparisons(config, rows, results, test),
        "comparisons_of_paper": _comparisons(
            config, [row for row in rows if row.group == "paper"], results, test
        ),
        "visited": outcome.visited(made, specs),
        "prevalence": outcome.prevalence(test),
        "counts": outcome.counts(
            config,
            train,
            {f"{p} valid": s.valid for p, s in sets.items()}
            | {f"{p} test": s.test for p, s in sets.items()},
        ),
    }
    return record, report.PicturesData(outcome.pictures_inputs(test, results), maps)


def _comparisons(
    config: Config,
    rows: Sequence[Row],
    results: Mapping[str, Mapping[str, outcome.RowResult]],
    test: Mapping[str, data.ImageSet],
) -> dict[str, Any]:
    """The paired bootstrap among these rows, by protocol."""
    return {
        protocol: outcome.comparisons(
            images,
            {row.name: results[row.name][protocol] for row in rows},
            config.eval.resamples,
            config.table.alpha,
        )
        for protocol, images in test.items()
    }


def _latent_maps(
    config: Config,
    made: runs.Runs,
    results: Mapping[str, Mapping[str, outcome.RowResult]],
    test: Mapping[str, data.ImageSet],
) -> dict[str, Any]:
    """The latents of the first run of every row; rows of one run share a map."""
    if config.method.latent_dim < 2:
        return {}
    protocol = config.table.protocols[0]
    rows: dict[str, list[str]] = {}
    specs: dict[str, runs.Spec] = {}
    for name, by_protocol in results.items():
        for spec in by_protocol[protocol].choice.specs[:1]:
            rows.setdefault(spec.name, []).append(name)
            specs[spec.name] = spec
    return {
        ", ".join(names): judge.plane(
            made.model(specs[run]), made.train_images(specs[run]), test[protocol]
        )
        for run, names in rows.items()
    }


def _title(config: Config) -> str:
    def classes(values: Sequence[int]) -> str:
        return ", ".join(map(str, values))

    task = f"{classes(config.data.normal)} against {classes(config.data.anomalies)}"
    return f"{config.data.name}, {task}" + (", quick profile" if config.quick else "")


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
