"""The whole experiment of a table: search, repeat over seeds, test once, report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from ocsvm_jax import data
from ocsvm_jax.experiments import fields, method_fields
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import baselines, grid, report, results, runs, search
from ocsvm_jax.experiments.table.baselines import BASELINES
from ocsvm_jax.experiments.table.plan import TablePlan, plan_of
from ocsvm_jax.experiments.table.progress import Clock, Progress
from ocsvm_jax.experiments.table.record import TableRecord, table_from_json, to_json
from ocsvm_jax.experiments.table.store import RunStore, Spec
from ocsvm_jax.files import write_json
from ocsvm_jax.methods import METHODS
from ocsvm_jax.methods.arguments import at_least, number, one_of

_RESULTS_FILE = "results.json"
_PARTS = ("train", "valid", "test")
# Fields that may change between calls in a working directory: finished runs do not depend on them.
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


_RULES = {
    "table.search": one_of(search.SEARCHES),
    "table.methods": fields.names_of((*METHODS, *BASELINES)),
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
    """Raises ValueError on the first invalid value, before anything is loaded."""
    fields.check(config, _RULES)
    plan = plan_of(config)
    for method in plan.methods:
        runs.check(plan, search.first_runs(plan, method))
        swept = [point for values in grid.axes(plan.grid(method)) for point in values]
        runs.check(plan, [Spec(method, point, 0, 1, "sweep") for point in swept])
    for final in plan.finals.values():
        fields.check(ConfigDict({"final": final._asdict()}), fields.FINAL)


def load(config: Config) -> tuple[data.ImageSet, dict[str, data.Dataset]]:
    """The training images, and the dataset of each protocol."""
    fields = {k: v for k, v in config.data.to_dict().items() if k != "protocol"}
    sets = {name: data.load(**fields, protocol=name) for name in config.table.protocols}
    limit = config.table.max_images
    sets = {
        name: found._replace(**{part: _some(getattr(found, part), limit) for part in _PARTS})
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
    baselines.check(config, len(kept))
    return train, sets


def _some(images: data.ImageSet, limit: int) -> data.ImageSet:
    """Every k-th image, at most `limit` of them, over all corruptions; all images if it is 0."""
    every = -(-len(images.images) // limit) if limit else 1
    # Sorted by corruption and class, so that every k-th image covers all of them.
    order = np.lexsort((np.arange(len(images.classes)), images.classes, images.corruption))
    return data.take(images, np.sort(order[::every]))


def main(
    config: Config,
    workdir: Path,
    command: str = "",
    progress: Callable[[TablePlan, Clock], Progress] = Progress,
) -> TableRecord:
    """Runs the experiment of a card with a `table` in `workdir`, or continues it there.

    Writes `results.json`, `table.md`, `report.html` and `figures/`. A finished run is
    never repeated, even if the process was killed in between.

    Args:
      config: the card.
      workdir: created if it does not exist.
      command: command line that repeats the call.
      progress: reports progress.

    Returns:
      The results.

    Raises:
      ValueError: the card is invalid, the data do not fit it, or `workdir` holds another
        experiment.
    """
    clock = Clock(workdir)
    config = resolve(config)
    check(config)
    workdirs.check(workdir, config, _FREE)
    plan = plan_of(config)
    _check_rows(workdir, plan)
    train, sets = load(config)
    with workdirs.entered(workdir, config, workdirs.identity_of(train, sets), _FREE):
        _check_rows(workdir, plan)
        with progress(plan, clock) as watch:
            valid = {name: found.valid for name, found in sets.items()}
            made = runs.Runs(plan, RunStore(workdir), train, valid, watch)
            specs = _search_all(made)
        record, pictures = results.of_search(made, specs, sets, command)
        return _report(workdir, record._replace(wall_seconds=clock.note()), pictures)


def _check_rows(workdir: Path, plan: TablePlan) -> None:
    """Raises ValueError if the existing results hold a row that a new report would drop."""
    path, asked = workdir / _RESULTS_FILE, {row.name for row in plan.rows}
    there = table_from_json(json.loads(path.read_text())).rows if path.exists() else []
    lost = [row.name for row in there if row.name not in asked]
    workdirs.check_nothing_lost(path, lost, "--config.table.methods, --config.table.ablations")


def _search_all(made: runs.Runs) -> list[Spec]:
    """Trains the runs of all methods and returns their specs."""
    plan, specs = made.plan, []
    for method in plan.methods:
        specs += search.search(plan, made.ensure, method, plan.rows_of(method))
    return specs


def _report(workdir: Path, record: TableRecord, pictures: report.PicturesData) -> TableRecord:
    """Writes the results and the report, and prints the first table."""
    write_json(workdir / _RESULTS_FILE, to_json(record))
    path = report.write(workdir, record, pictures)
    print("\n## ".join(report.markdown(record).split("\n## ")[:2]))
    print(f"report: {path}")
    return record
