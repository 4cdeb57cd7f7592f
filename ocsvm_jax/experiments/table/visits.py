"""The search: how many runs it took, and every one of them."""

from collections.abc import Mapping

from ocsvm_jax.experiments.table.schema import PROTOCOLS, STATUSES, Record
from ocsvm_jax.reports.numbers import NONE, assignments, duration, finite, score
from ocsvm_jax.reports.page import Table


def counts(record: Record) -> Table:
    """How many points were visited, by method and stage."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for visit in record["visited"]:
        groups.setdefault((visit["method"], visit["stage"]), []).append(visit)
    lines = []
    for (method, stage), members in groups.items():
        points = {assignments(visit["settings"]) for visit in members}
        counts = [sum(v["status"] == status for v in members) for status in STATUSES]
        time = duration(sum(visit.get("seconds") or 0.0 for visit in members))
        numbers = [len(points), len({v["seed"] for v in members}), len(members), *counts]
        lines.append([method, stage, *(f"{number:,}" for number in numbers), time])
    header = ["method", "stage", "points", "seeds", "runs", *STATUSES, "time"]
    return Table("Runs by method and stage of the search", header, {"": lines}, words=(1,))


def runs(record: Record) -> Table:
    """Every run of the search."""
    lines = []
    for visit in record["visited"]:
        lines.append(
            [
                visit["method"],
                visit["stage"],
                str(visit["seed"]),
                str(visit["epochs"]),
                assignments(visit["settings"]),
                _best(visit.get("valid") or {}),
                visit["status"],
                f"{visit.get('seconds') or 0.0:,.1f}",
            ]
        )
    header = ["method", "stage", "seed", "epochs", "settings", "validation AUROC", "status", "s"]
    guide = PROTOCOLS[record["guide"]] if "guide" in record else ""
    caption = "Every point visited" + (f"; validation AUROC under {guide}" if guide else "")
    return Table(caption, header, {"": lines}, words=(1, 4, 5, 6))


def _best(valid: Mapping[str, float | None]) -> str:
    """The highest figure of a run: a grid of final one-class SVMs has too many to list."""
    known = {name: value for name, value in valid.items() if finite(value) is not None}
    if not known:
        return NONE
    name = max(known, key=lambda name: known[name] or 0.0)
    return f"{score(known[name])}, {name}" + (f", best of {len(known)}" if len(known) > 1 else "")
