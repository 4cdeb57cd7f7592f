"""The search: which points of which grid are trained, and which of them a row reports.

"two_stage" suits a CPU: on the first seed, with fewer epochs, the main axes of each grid are
crossed, then the others swept around the best point; the best few of every row go on to all seeds.
"full" trains every point on all seeds, for an accelerator. "defaults" trains the card's own
settings. Everything is chosen on validation AUROC; nothing in here sees a test image.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.method_fields import settings_of
from ocsvm_jax.experiments.table import grid
from ocsvm_jax.experiments.table.judge import family
from ocsvm_jax.experiments.table.rows import ROWS, Row
from ocsvm_jax.experiments.table.runs import Record, Spec

# The records of runs, after training those that are missing: `Runs.ensure`.
Ensure = Callable[[Sequence[Spec]], list[Record]]
SEARCHES = ("two_stage", "full", "defaults")


class Choice(NamedTuple):
    """What a row reports.

    Attributes:
      specs: the runs of the chosen point that have a result, one a seed.
      point: the settings of the method.
      final: name of the chosen final one-class SVM, or None for a score without one.
      valid: validation figures of each of these runs.
      collapsed: seeds whose scores collapsed.
      diverged: seeds whose training diverged.
    """

    specs: list[Spec]
    point: grid.Point
    final: str | None
    valid: list[dict[str, float]]
    collapsed: list[int]
    diverged: list[int]


def grid_of(config: Config, method: str) -> dict[str, Any]:
    """The grid of a method in the card; empty if it has none."""
    grids = config.table.grids.to_dict()
    return grids.get(method, {}) if config.table.search != "defaults" else {}


def main_axes(config: Config, method: str) -> Sequence[str]:
    """The axes that the first stage crosses: all, unless the card names some."""
    axes = config.table.main_axes.to_dict().get(method, ())
    return axes or list(grid_of(config, method))


def guide(config: Config) -> str:
    """The protocol whose validation images the first stage goes by.

    The validation images of the paper's protocol hold test images of the leak-free one, whose own
    are among them: where both are asked for, the leak-free ones serve both.
    """
    protocols = config.table.protocols
    return "leak_free" if "leak_free" in protocols else protocols[0]


def first_runs(config: Config, method: str) -> list[Spec]:
    """The runs that depend on no other."""
    table, train = config.table, config.train
    if table.search == "two_stage":
        points = grid.crossed(grid_of(config, method), main_axes(config, method))
        epochs = min(table.coarse_epochs, train.epochs)
        return [Spec(method, point, table.seeds[0], epochs, "coarse") for point in points]
    points = grid.product(grid_of(config, method))
    return [Spec(method, point, s, train.epochs, "seeds") for point in points for s in table.seeds]


def runs_at_most(config: Config, method: str, rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(number of runs, epochs of each) of the stages of a method, an upper bound."""
    first = first_runs(config, method)
    fixed = sum(row.fixed is not None for row in rows)
    out = [(len(first), first[0].epochs), (fixed * len(config.table.seeds), config.train.epochs)]
    rows = _searched(rows)
    if config.table.search == "two_stage":
        axes = grid_of(config, method)
        rest = {name: v for name, v in axes.items() if name not in main_axes(config, method)}
        if rest:
            out.append((len(rows) * sum(map(len, rest.values())), first[0].epochs))
        finalists = min(len(grid.product(axes)), config.table.finalists)
        finalists = finalists * len(rows) + (method in config.table.card_competes)
        out.append((finalists * len(config.table.seeds), config.train.epochs))
    return out


def _searched(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.searched and row.fixed is None]


def search(config: Config, ensure: Ensure, method: str, rows: Sequence[Row]) -> list[Spec]:
    """Trains what the search of one method asks for; returns its runs in the order of training."""
    table, searched = config.table, _searched(rows)
    specs = first_runs(config, method) if searched else []
    records = ensure(specs)
    if table.search != "two_stage":
        return specs + _on_all_seeds(config, method, [], rows, ensure)
    axes, main = grid_of(config, method), main_axes(config, method)
    around = {}
    for row in searched:
        best = _ranked(specs, records, row, guide(config))[0]
        around[str(best.point)] = best.point
    points = [p for point in around.values() for p in grid.sweeps(axes, main, point)]
    card = settings_of(config, method)
    # What the card says already was part of the first stage.
    known = [card | spec.point for spec in specs]
    new = [p for p in grid.distinct(points) if card | p not in known]
    specs = specs + [specs[0]._replace(point=point, stage="sweep") for point in new]
    records = ensure(specs)
    finalists = [
        spec.point
        for row in searched
        for spec in _ranked(specs, records, row, guide(config))[: table.finalists]
    ]
    if method in table.card_competes:
        # What was good over several seeds before may lose on one seed and few epochs.
        finalists += [spec.point for spec in specs if card | spec.point == card][:1] or [{}]
    return specs + _on_all_seeds(config, method, finalists, rows, ensure)


def _on_all_seeds(
    config: Config,
    method: str,
    points: Sequence[grid.Point],
    rows: Sequence[Row],
    ensure: Ensure,
) -> list[Spec]:
    """Trains these points, and those of the rows that stand for one point, with all epochs."""
    points = [*points, *(dict(row.fixed) for row in rows if row.fixed is not None)]
    specs = [
        Spec(method, point, seed, config.train.epochs, "seeds")
        for point in grid.distinct(points)
        for seed in config.table.seeds
    ]
    ensure(specs)
    return specs


def choose(
    config: Config, ensure: Ensure, specs: Iterable[Spec], row: Row, protocol: str
) -> Choice:
    """The point and final one-class SVM of the largest validation AUROC, mean over the seeds.

    Only points that were trained with all epochs on all seeds compete. Runs that collapsed or
    diverged do not count; a point without any other run has no result, and is chosen only if all
    are such.
    """
    points: dict[str, list[Spec]] = {}
    ablations = [
        dict(other.fixed)
        for other in ROWS
        if other.fixed is not None and other.method == row.method
    ]
    for spec in specs:
        wanted = spec.point not in ablations if row.fixed is None else spec.point == row.fixed
        if wanted and spec.epochs == config.train.epochs and spec.stage == "seeds":
            points.setdefault(str(spec.point), []).append(spec)
    options = [
        option for same in points.values() for option in _choices(row, protocol, same, ensure(same))
    ]

    def order(option: Choice) -> tuple[int, float]:
        # A point that fails on fewer seeds comes first: the mean of the rest would flatter it.
        mean = float(np.mean([v["AUROC"] for v in option.valid])) if option.valid else -math.inf
        return len(option.specs), mean

    return max(options, key=order)


def _choices(
    row: Row, protocol: str, specs: Sequence[Spec], records: Sequence[Record]
) -> list[Choice]:
    """One choice for each score of the row: one, or one a final one-class SVM."""
    diverged = [s.seed for s, r in zip(specs, records, strict=True) if r["status"] == "diverged"]
    alive = [(s, r) for s, r in zip(specs, records, strict=True) if r["status"] == "done"]
    names = {name: None for _, r in alive for name in _scores(r, row, protocol)} or {
        row.score: None
    }
    out = []
    for name in names:
        good = [(s, r["valid"][protocol][name]) for s, r in alive if _has(r, name, protocol)]
        seeds = {s.seed for s, _ in good}
        out.append(
            Choice(
                specs=[s for s, _ in good],
                point=specs[0].point,
                final=name.split(" ", 1)[1] if " " in name else None,
                valid=[figures for _, figures in good],
                collapsed=[s.seed for s, _ in alive if s.seed not in seeds],
                diverged=diverged,
            )
        )
    return out


def _has(record: Record, name: str, protocol: str) -> bool:
    return name not in record["collapsed"] and name in record["valid"][protocol]


def _scores(record: Mapping[str, Any], row: Row, protocol: str) -> list[str]:
    """The names under which a record holds figures of the row's score."""
    if record["status"] != "done":
        return []
    found = record["valid"][protocol]
    return [name for name in found if family(name) == row.score]


def best_figure(record: Mapping[str, Any], row: Row, protocol: str) -> float:
    """The best validation AUROC of the row's score in a run; -inf without a result."""
    return max(
        (
            record["valid"][protocol][name]["AUROC"]
            for name in _scores(record, row, protocol)
            if name not in record["collapsed"]
        ),
        default=-math.inf,
    )


def _ranked(
    specs: Sequence[Spec], records: Sequence[Record], row: Row, protocol: str
) -> list[Spec]:
    """The runs, best first; equal ones in the order of the grid."""
    pairs = sorted(
        zip(specs, records, strict=True), key=lambda pair: -best_figure(pair[1], row, protocol)
    )
    return [spec for spec, _ in pairs]
