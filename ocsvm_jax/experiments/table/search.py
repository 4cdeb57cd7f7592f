"""The search: which points of each grid are trained, and which of them a row reports.

"two_stage" suits a CPU: on the first seed, with fewer epochs, the main axes of each grid are
crossed, then the others swept around the best point; the best few points of every row are trained
on all seeds. "full" trains every point on all seeds, for an accelerator. "defaults" trains the
card's own settings. A baseline is fitted on all seeds. All choices are made by validation AUROC;
this module uses no test image.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ocsvm_jax.evaluation.final import family, final_of
from ocsvm_jax.experiments.table import grid
from ocsvm_jax.experiments.table.baselines import BASELINES
from ocsvm_jax.experiments.table.plan import TablePlan
from ocsvm_jax.experiments.table.record import RunRecord
from ocsvm_jax.experiments.table.rows import ROWS, Row
from ocsvm_jax.experiments.table.store import Spec

# Returns the records of runs after training the missing ones: `Runs.ensure`.
Ensure = Callable[[Sequence[Spec]], list[RunRecord]]
SEARCHES = ("two_stage", "full", "defaults")


class Choice(NamedTuple):
    """The settings that a row reports, and their runs.

    Attributes:
      specs: the runs of the chosen point that have a result, one per seed.
      records: their records.
      point: the settings of the method.
      final: name of the chosen final one-class SVM, or None for a score without one.
      valid: validation metrics of each of these runs.
      collapsed: seeds whose scores collapsed.
      diverged: seeds whose training diverged.
    """

    specs: list[Spec]
    records: list[RunRecord]
    point: grid.Point
    final: str | None
    valid: list[Mapping[str, float]]
    collapsed: list[int]
    diverged: list[int]


def first_runs(plan: TablePlan, method: str) -> list[Spec]:
    """The runs that do not depend on the results of others."""
    if _staged(plan, method):
        points = grid.crossed(plan.grid(method), plan.crossed(method))
        return [Spec(method, p, plan.seeds[0], plan.coarse_epochs, "coarse") for p in points]
    return _all_seeds(plan, method, grid.product(plan.grid(method)))


def runs_at_most(plan: TablePlan, method: str, rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(number of runs, epochs per run) for each stage of a method; an upper bound."""
    seeds, epochs = len(plan.seeds), plan.epochs(method)
    first = first_runs(plan, method)
    fixed = sum(row.fixed is not None for row in rows)
    out = [(len(first), first[0].epochs), (fixed * seeds, epochs)]
    rows = _searched(rows)
    if _staged(plan, method):
        axes = plan.grid(method)
        swept = sum(len(v) for name, v in axes.items() if name not in plan.crossed(method))
        out.append((len(rows) * swept, first[0].epochs))
        finalists = min(len(grid.product(axes)), plan.finalists)
        finalists = finalists * len(rows) + (method in plan.card_competes)
        out.append((finalists * seeds, epochs))
    return out


def search(plan: TablePlan, ensure: Ensure, method: str, rows: Sequence[Row]) -> list[Spec]:
    """Searches one method: trains its runs and returns them in the order of training."""
    searched, card = _searched(rows), plan.settings[method]
    specs = first_runs(plan, method) if searched else []
    records, points = ensure(specs), []
    if _staged(plan, method):
        specs += _sweep(plan, method, [_ranked(plan, specs, records, row)[0] for row in searched])
        records = ensure(specs)
        for row in searched:
            points += [s.point for s in _ranked(plan, specs, records, row)[: plan.finalists]]
        if method in plan.card_competes:
            # Settings that are good over several seeds may lose on one seed with few epochs.
            of_card = [s.point for s in specs if card | s.point == card]
            points += of_card[:1] or [{}]
    points += [dict(row.fixed) for row in rows if row.fixed is not None]
    last = _all_seeds(plan, method, grid.distinct(points))
    ensure(last)
    return specs + last


def _staged(plan: TablePlan, method: str) -> bool:
    return plan.search == "two_stage" and method not in BASELINES


def _searched(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.searched and row.fixed is None]


def _sweep(plan: TablePlan, method: str, best: Sequence[Spec]) -> list[Spec]:
    """Runs around the best one of each row, along the axes that the first stage did not vary."""
    axes, crossed, card = plan.grid(method), plan.crossed(method), plan.settings[method]
    centres = {str(spec.point): spec for spec in best}.values()
    points = [p for spec in centres for p in grid.sweeps(axes, crossed, spec.point)]
    # The first stage included the card's values along these axes.
    known = [card | point for point in grid.crossed(axes, crossed)]
    new = [p for p in grid.distinct(points) if card | p not in known]
    return [best[0]._replace(point=point, stage="sweep") for point in new]


def _all_seeds(plan: TablePlan, method: str, points: Iterable[grid.Point]) -> list[Spec]:
    """Specs of these points, with all epochs, on all seeds."""
    epochs = plan.epochs(method)
    return [Spec(method, point, s, epochs, "seeds") for point in points for s in plan.seeds]


def choose(
    plan: TablePlan, ensure: Ensure, specs: Iterable[Spec], row: Row, protocol: str
) -> Choice:
    """The point and final one-class SVM with the largest mean validation AUROC over the seeds.

    Only points that were trained with all epochs on all seeds compete. Collapsed and diverged runs
    are left out of the mean, and points with fewer of them come first. A point without any other
    run has no result, and is chosen only if all points fail.
    """
    points: dict[str, list[Spec]] = {}
    ablations = [
        dict(other.fixed)
        for other in ROWS
        if other.fixed is not None and other.method == row.method
    ]
    for spec in specs:
        wanted = spec.point not in ablations if row.fixed is None else spec.point == row.fixed
        if wanted and spec.epochs == plan.epochs(row.method) and spec.stage == "seeds":
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
    row: Row, protocol: str, specs: Sequence[Spec], records: Sequence[RunRecord]
) -> Iterator[Choice]:
    """Yields one choice per score of the row: a single one, or one per final one-class SVM."""
    runs = list(zip(specs, records, strict=True))
    alive = [(spec, record) for spec, record in runs if record.status == "done"]
    names = {name: None for _, record in alive for name in _scores(record, row, protocol)}
    for name in names or [row.score]:
        good = [
            (spec, record)
            for spec, record in alive
            if name not in record.collapsed and name in record.valid[protocol]
        ]
        yield Choice(
            specs=[spec for spec, _ in good],
            records=[record for _, record in good],
            point=specs[0].point,
            final=final_of(name),
            valid=[record.valid[protocol][name] for _, record in good],
            collapsed=[run[0].seed for run in alive if run not in good],
            diverged=[spec.seed for spec, record in runs if record.status == "diverged"],
        )


def _scores(record: RunRecord, row: Row, protocol: str) -> list[str]:
    """The names under which a record holds metrics of the row's score."""
    if record.status != "done":
        return []
    return [name for name in record.valid[protocol] if family(name) == row.score]


def best_final(choice: Choice, protocol: str) -> str | None:
    """The final one-class SVM on the latents of a choice's runs to report beside other scores.

    That of the choice, or else the one whose -f has the largest mean validation AUROC over the
    runs; None if a run has none.
    """
    if choice.final is not None or not choice.records:
        return choice.final
    names = [n for n in choice.records[0].valid[protocol] if family(n) == "ocsvm"]
    values = {
        name: float(np.mean([run.valid[protocol][name]["AUROC"] for run in choice.records]))
        for name in names
        if all(name in run.valid[protocol] for run in choice.records)
    }
    return final_of(max(values, key=values.__getitem__)) if values else None


def best_value(record: RunRecord, row: Row, protocol: str) -> float:
    """The best validation AUROC of the row's score in a run; -inf without a result."""
    names = [name for name in _scores(record, row, protocol) if name not in record.collapsed]
    return max((record.valid[protocol][name]["AUROC"] for name in names), default=-math.inf)


def _ranked(
    plan: TablePlan, specs: Sequence[Spec], records: Sequence[RunRecord], row: Row
) -> list[Spec]:
    """The runs, best first; ties keep the order of the grid."""
    pairs = sorted(
        zip(specs, records, strict=True), key=lambda pair: -best_value(pair[1], row, plan.guide)
    )
    return [spec for spec, _ in pairs]
