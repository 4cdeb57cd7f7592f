"""What the report of a table says: tables and sentences, made from the record alone.

The record is described at `report.write`.
"""

from collections.abc import Iterable, Sequence

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.comparisons import PAPER, kinds, level
from ocsvm_jax.experiments.table.schema import (
    GROUPS,
    PROTOCOLS,
    STATUSES,
    Record,
    protocols,
    tested,
)
from ocsvm_jax.reports.numbers import assignments, decimal, mean, published, score, spread
from ocsvm_jax.reports.page import Strong, Table

_MEANING = {
    "paper": "Normal test images show the digits that were trained on, under the corruptions of "
    "the test: the paper's choice.",
    "leak_free": "Validation and test images are of digits that were never trained on, under any "
    "corruption, and of which none is in both.",
}
_LEVEL, _LEVEL_OF_PAPER = "† ", "‡ "


def results(record: Record, protocol: str) -> Table:
    """Mean and standard deviation of each metric, beside the paper's figures in its protocol."""
    beside = protocol == "paper" and any(row.get("paper") for row in record["rows"])
    columns: list[list[str]] = []
    for metric in METRICS:
        marks = {name: _LEVEL for name in level(record, protocol, metric)}
        if PAPER in kinds(record):
            for name in level(record, protocol, metric, PAPER):
                marks[name] = marks.get(name, "") + _LEVEL_OF_PAPER
        stats = [(tested(row, protocol) or {}).get(metric) for row in record["rows"]]
        cells = _strongest([spread(stat) for stat in stats], [mean(stat) for stat in stats])
        names = [row["name"] for row in record["rows"]]
        columns.append(
            [
                cell if isinstance(cell, Strong) else marks.get(name, "") + cell
                for cell, name in zip(cells, names, strict=True)
            ]
        )
        if beside:
            figures = [(row.get("paper") or {}).get(metric) for row in record["rows"]]
            columns.append(_strongest([published(value) for value in figures], figures))
    runs = [_runs(row["protocols"].get(protocol), record) for row in record["rows"]]
    lines = [
        [row["name"], row["score"], *cells]
        for row, *cells in zip(record["rows"], *columns, runs, strict=True)
    ]
    headings = [[metric, *([f"{metric}, paper"] if beside else [])] for metric in METRICS]
    header = ["method", "score", *(name for names in headings for name in names), "runs"]
    caption = f"Test images, {PROTOCOLS[protocol]}, {_over(record)}"
    return Table(caption, header, _blocks(record, lines), words=(1, len(header) - 1))


def reading(record: Record, protocol: str) -> str:
    """What the protocol is, and how its table of results is to be read."""
    share = (record.get("prevalence") or {}).get(protocol)
    chance = "the share of anomalous images" + (f" ({score(share)})" if share is not None else "")
    if protocol != protocols(record)[0]:
        return f"{_MEANING[protocol]} Marks as above; chance for AUPR is {chance}."
    signs = {
        "†: not significantly different from the best (paired bootstrap, below). ": [
            level(record, name, metric) for name in PROTOCOLS for metric in METRICS
        ],
        "‡: not significantly different from the best of the paper's own rows. ": [
            level(record, name, metric, PAPER)
            for name in PROTOCOLS
            for metric in METRICS
            if PAPER in kinds(record)
        ],
    }
    marked = "".join(meaning for meaning, marks in signs.items() if any(marks))
    return (
        f"{_MEANING[protocol]} Bold: the highest mean of its column. {marked}"
        "Runs that gave no result are not in mean and sd (standard deviation); the last column "
        f"counts them. Chance is .5 for AUROC, {chance} for AUPR, and .5 for AUROC30: the area "
        "under the ROC curve up to a false positive rate of 0.3 in McClish's standardisation, "
        "which sends chance to .5 and perfection to 1."
    )


def choice(record: Record) -> str:
    """How the settings behind the figures were chosen."""
    seeds = record["seeds"]
    several = (
        " that fail on the fewest seeds, and of these the ones with the highest mean"
        if len(seeds) > 1
        else " with the highest"
    )
    return (
        "Every setting was chosen on the validation images alone: for each row the settings"
        f"{several} validation AUROC. {_scored(record)} "
        f"Seed{'s' * (len(seeds) > 1)}: {', '.join(map(str, seeds))}."
    )


def _scored(record: Record) -> str:
    """How often the test images were scored: other choices of a row may have been, before."""
    again = [
        row["name"]
        for row in record["rows"]
        if any(found and found.get("scored_before") for found in row["protocols"].values())
    ]
    once = "The test images were scored once, with these settings"
    if not again:
        return f"{once}."
    return (
        f"{once}, but for {', '.join(again)}: there, test figures of other settings could be seen "
        "before these were chosen."
    )


def by_corruption(record: Record, protocol: str) -> Table | None:
    """Test AUROC by corruption; None where no row has it."""
    own = [
        (row["protocols"].get(protocol) or {}).get("by_corruption") or {} for row in record["rows"]
    ]
    names = list(dict.fromkeys(name for stats in own for name in stats))
    if not names:
        return None
    columns = []
    for name in names:
        stats = [values.get(name) for values in own]
        columns.append(_strongest([spread(s) for s in stats], [mean(s) for s in stats]))
    lines = [[row["name"], *cells] for row, *cells in zip(record["rows"], *columns, strict=True)]
    caption = f"Test AUROC, {PROTOCOLS[protocol]}, {_over(record)}"
    return Table(caption, ["method", *names], _blocks(record, lines))


ENSEMBLES = (
    "The runs of a row, which differ in their seed, as one detector: the score of an image is the "
    "mean of its ranks among the test images under each of the models, so that it takes a set of "
    "images to score one. It costs as many trainings as there are models. Nothing was chosen for "
    "it; as a single detector it has no spread over seeds."
)


def ensembles(record: Record, protocol: str) -> Table | None:
    """The runs of each row as one detector, beside their mean; None where no row has several."""
    rows, lines = [], []
    for row in record["rows"]:
        together = (row["protocols"].get(protocol) or {}).get("ensemble")
        alone = tested(row, protocol)
        if not together or not alone:
            continue
        pairs = [(score(mean(alone[m])), score(together[m])) for m in METRICS]
        models = len(alone[METRICS[0]]["values"])
        rows.append(row)
        lines.append([row["name"], str(models), *(cell for pair in pairs for cell in pair)])
    if not rows:
        return None
    header = ["method", "models", *(h for m in METRICS for h in (f"{m}, mean", f"{m}, ensemble"))]
    caption = f"Runs of each row as one detector, {PROTOCOLS[protocol]}"
    return Table(caption, header, _blocks({"rows": rows}, lines))


def settings(record: Record, protocol: str) -> Table:
    """The settings that were chosen for each row, and their validation figures."""
    all_own = [row["protocols"].get(protocol) or {} for row in record["rows"]]
    measured = any(own.get("dimensions") for own in all_own)
    lines = []
    for row, own in zip(record["rows"], all_own, strict=True):
        valid = own.get("valid") or {}
        figures = [spread(valid.get(metric)) for metric in METRICS]
        dimensions = [decimal(mean(own.get("dimensions")))] if measured else []
        chosen = assignments(own.get("settings") or {})
        if short := own.get("unconverged"):
            chosen += f"; final one-class SVM not converged on seeds {', '.join(map(str, short))}"
        lines.append([row["name"], *figures, *dimensions, chosen])
    header = ["method", *METRICS, *(["latent dimensions"] if measured else []), "settings"]
    caption = f"Chosen settings and validation figures, {PROTOCOLS[protocol]}"
    if measured:
        caption += "; latent dimensions: their effective number (participation ratio)"
    return Table(caption, header, _blocks(record, lines), words=(len(header) - 1,))


def _over(record: Record) -> str:
    return "mean ± sd over seeds" if len(record["seeds"]) > 1 else "one seed"


def _blocks(record: Record, lines: Iterable[list[str]]) -> dict[str, list[list[str]]]:
    """The lines by the heading of their row's group, the paper's own first."""
    blocks: dict[str, list[list[str]]] = {}
    for row, line in zip(record["rows"], lines, strict=True):
        blocks.setdefault(GROUPS[row["group"]], []).append(line)
    return dict(sorted(blocks.items(), key=lambda block: block[0] != ""))


def _strongest(cells: Sequence[str], values: Sequence[float | None]) -> list[str]:
    """The cells, in bold those that print the highest value."""
    shown = [score(value) for value in values if value is not None]
    highest = max((value for value in values if value is not None), default=None)
    if highest is None or len(shown) < 2:
        return list(cells)
    return [
        Strong(cell) if value is not None and score(value) == score(highest) else cell
        for cell, value in zip(cells, values, strict=True)
    ]


def _runs(own: Record | None, record: Record) -> str:
    """How many runs gave a result, and what became of the others."""
    if not own:
        return "not run"
    total = len(record["seeds"])
    lost = {status: len(own.get(status) or []) for status in STATUSES}
    told = ", ".join(f"{count} {status}" for status, count in lost.items() if count)
    told = told.replace(" ", f" of {total} run{'s' * (total > 1)} ", 1)
    if own.get("test"):
        count = len(next(iter(own["test"].values()))["values"])
        return told or f"{count} run{'s' * (count != 1)}"
    if lost["collapsed"] == total:
        told = f"all {total} runs collapsed" if total > 1 else "the run collapsed"
    return f"{told}: no result" if told else "no result"
