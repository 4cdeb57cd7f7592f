"""The whole experiment of a table: search, repeat over seeds, test once, report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ocsvm_jax import data
from ocsvm_jax.experiments import fields, method_fields
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import grid, judge, report, results, runs, search
from ocsvm_jax.experiments.table.progress import Clock, Progress
from ocsvm_jax.experiments.table.rows import ROWS, Row
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods import METHODS
from ocsvm_jax.methods.arguments import at_least, number, one_of

_RESULTS_FILE = "results.json"
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
    return method_fields.resolved(resolved)


def rows_of(config: Config) -> list[Row]:
    """The rows whose methods the card asks for."""
    wanted = config.table.methods
    return [
        row
        for row in ROWS
        if (not wanted or row.method in wanted) and (row.fixed is None or config.table.ablations)
    ]


_RULES = {
    "table.search": one_of(search.SEARCHES),
    "table.methods": fields.names_of(METHODS),
    "table.card_competes": fields.names_of(METHODS),
    "table.seeds": fields.seeds,
    "table.protocols": fields.each_once,
    "table.coarse_epochs": at_least(1),
    "table.finalists": at_least(1),
    "table.models_at_once": at_least(0),
    "table.max_images": at_least(0),
    "table.alpha": number(lambda value: 0 < value < 1, "it must lie in (0, 1)"),
    **fields.IMAGES,
}


def check(config: Config) -> None:
    """Raises ValueError on the first value that cannot work, before anything is loaded."""
    fields.check(config, _RULES)
    for method in {row.method: None for row in rows_of(config)}:
        runs.check(config, search.first_runs(config, method))
        axes = search.grid_of(config, method)
        swept = [point for values in grid.axes(axes) for point in values]
        runs.check(config, [runs.Spec(method, point, 0, 1, "sweep") for point in swept])
    for final in judge.finals_of(config.table.finals.to_dict()).values():
        fields.check(ConfigDict({"final": final._asdict()}), fields.FINAL)


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
    clock = Clock(workdir)
    config = resolve(config)
    check(config)
    workdirs.check(workdir, config, _FREE)
    _check_rows(workdir, config)
    train, sets = load(config)
    with workdirs.entered(workdir, config, workdirs.identity_of(train, sets), _FREE):
        _check_rows(workdir, config)
        return _whole(config, workdir, train, sets, clock, command)


def _check_rows(workdir: Path, config: Config) -> None:
    """Raises ValueError if the results there hold a row that a new report would drop."""
    path, asked = workdir / _RESULTS_FILE, {row.name for row in rows_of(config)}
    there = json.loads(path.read_text())["rows"] if path.exists() else []
    lost = [row["name"] for row in there if row["name"] not in asked]
    workdirs.check_nothing_lost(path, lost, "--config.table.methods, --config.table.ablations")


def _whole(
    config: Config,
    workdir: Path,
    train: data.ImageSet,
    sets: Mapping[str, data.Dataset],
    clock: Clock,
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
    record, pictures = results.of_search(config, made, specs, rows, finals, sets, train)
    record |= {"command": command, "wall_seconds": clock.note()}
    with whole_file(workdir / _RESULTS_FILE) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
    path = report.write(workdir, record, pictures)
    print("\n## ".join(report.markdown(record).split("\n## ")[:2]))
    print(f"report: {path}")
    return record
