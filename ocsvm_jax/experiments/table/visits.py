"""Tables about the search: its runs counted by stage, and listed one by one."""

from collections.abc import Mapping

from ocsvm_jax.experiments.table.record import PROTOCOLS, STATUSES, TableRecord, Visit
from ocsvm_jax.reports.numbers import NONE, assignments, duration, finite, score
from ocsvm_jax.reports.page import Table


def counts(record: TableRecord) -> Table:
    """Numbers of points and runs visited by the search, by method and stage."""
    groups: dict[tuple[str, str], list[Visit]] = {}
    for visit in record.visited:
        groups.setdefault((visit.method, visit.stage), []).append(visit)
    lines = []
    for (method, stage), members in groups.items():
        points = {assignments(visit.settings) for visit in members}
        lost = [sum(visit.status == status for visit in members) for status in STATUSES]
        numbers = [len(points), len({visit.seed for visit in members}), len(members), *lost]
        time = duration(sum(visit.seconds or 0.0 for visit in members))
        lines.append([method, stage, *(f"{count:,}" for count in numbers), time])
    header = ["method", "stage", "points", "seeds", "runs", *STATUSES, "time"]
    return Table("Runs by method and stage of the search", header, {"": lines}, words=(1,))


def runs(record: TableRecord) -> Table:
    """Every run of the search."""
    lines = [
        [
            *(visit.method, visit.stage, str(visit.seed), str(visit.epochs)),
            *(assignments(visit.settings), _best(visit.valid), visit.status),
            f"{visit.seconds or 0.0:,.1f}",
        ]
        for visit in record.visited
    ]
    header = ["method", "stage", "seed", "epochs", "settings", "validation AUROC", "status", "s"]
    guide = f"; validation AUROC under {PROTOCOLS[record.guide]}" if record.guide else ""
    return Table(f"Every point visited{guide}", header, {"": lines}, words=(1, 4, 5, 6))


def _best(valid: Mapping[str, float]) -> str:
    """The highest value of a run: a grid of final one-class SVMs gives too many to list."""
    known = {name: value for name, value in valid.items() if finite(value) is not None}
    if not known:
        return NONE
    name = max(known, key=known.__getitem__)
    return f"{score(known[name])}, {name}" + (f", best of {len(known)}" if len(known) > 1 else "")
