"""Tables and sentences in the report of a table, generated from the record alone."""

from collections.abc import Mapping

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.columns import Cell, blocks, cell, column, over
from ocsvm_jax.experiments.table.comparisons import ALL, PAPER, kinds, level
from ocsvm_jax.experiments.table.record import (
    PROTOCOLS,
    ProtocolResult,
    RowRecord,
    TableRecord,
)
from ocsvm_jax.reports.numbers import (
    Stat,
    assignments,
    decimal,
    finite,
    mean,
    published,
    score,
)
from ocsvm_jax.reports.page import Table

_MEANING = {
    "paper": "Normal test images show the digits that were trained on, under the corruptions of "
    "the test: the paper's choice.",
    "leak_free": "Validation and test images are of digits that were never trained on, under any "
    "corruption, and of which none is in both. The two share their corruptions, and the labels of "
    "the validation images choose the settings.",
}
_SIGNS = {ALL: "†", PAPER: "‡"}
_MEANING_OF_SIGNS = {
    ALL: "not significantly different from the best over seeds (below). ",
    PAPER: "not significantly different from the best of the paper's own rows. ",
}


def results(record: TableRecord, protocol: str) -> Table:
    """Each metric on validation and test images, beside the paper's values in its protocol."""
    rows, columns = record.rows, {}
    validated = any(_valid(row, protocol) for row in rows)
    beside = protocol == "paper" and any(row.paper for row in rows)
    for metric in METRICS:
        marks = _marks(record, protocol, metric)
        if validated:
            columns[f"{metric}, validation"] = [
                cell(_valid(row, protocol).get(metric)) for row in rows
            ]
        columns[metric] = [
            cell(row.test(protocol).get(metric), marks.get(row.name, "")) for row in rows
        ]
        if beside:
            values = [finite((row.paper or {}).get(metric)) for row in rows]
            columns[f"{metric}, paper"] = [Cell(value, published(value)) for value in values]
    header = ["method", "score", *columns, "runs"]
    lines = [
        [row.name, row.score, *cells, _runs(row.protocols.get(protocol), len(record.seeds))]
        for row, *cells in zip(rows, *map(column, columns.values()), strict=True)
    ]
    images = "Validation and test images" if validated else "Test images"
    caption = f"{images}, {PROTOCOLS[protocol]}, {over(record)}"
    return Table(caption, header, blocks(rows, lines), words=(1, len(header) - 1))


def _valid(row: RowRecord, protocol: str) -> Mapping[str, Stat]:
    own = row.protocols.get(protocol)
    return (own.valid if own else None) or {}


def reading(record: TableRecord, protocol: str) -> str:
    """What the protocol is, and how to read its table of results."""
    share = record.prevalence.get(protocol)
    chance = "the share of anomalous images" + (f" ({score(share)})" if share is not None else "")
    if protocol != record.protocols[0]:
        return f"{_MEANING[protocol]} Marks as above; chance for AUPR is {chance}."
    marked = "".join(
        f"{_SIGNS[among]}: {_MEANING_OF_SIGNS[among]}"
        for among in kinds(record)
        if any(level(record, name, metric, among) for name in PROTOCOLS for metric in METRICS)
    )
    return (
        f"{_MEANING[protocol]} Bold: the highest mean of its column. {marked}"
        "A column without a note is of the test images. Numbers end where the spread over seeds "
        "makes further decimals meaningless. "
        "Runs that gave no result are not in mean and sd (standard deviation); the last column "
        f"counts them. Chance is .5 for AUROC, {chance} for AUPR, and .5 for AUROC30: the area "
        "under the ROC curve up to a false positive rate of 0.3 in McClish's standardisation, "
        "which sends chance to .5 and perfection to 1."
    )


def choice(record: TableRecord) -> str:
    """How the settings behind the results were chosen."""
    seeds = ", ".join(map(str, record.seeds))
    several = len(record.seeds) > 1
    largest = (
        "that fail on the fewest seeds, and of these the ones with the highest mean"
        if several
        else "with the highest"
    )
    return (
        "Every setting was chosen on the validation images alone: for each row the settings "
        f"{largest} validation AUROC. {_scored(record)} Seed{'s' * several}: {seeds}."
    )


def _scored(record: TableRecord) -> str:
    """How often the test images were scored: a row may have had other settings in earlier calls."""
    again = [
        row.name
        for row in record.rows
        if any(found.scored_before for found in row.protocols.values())
    ]
    once = "The test images were scored once, with these settings"
    if not again:
        return f"{once}."
    return (
        f"{once}, but for {', '.join(again)}: there, test results of other settings could be seen "
        "before these were chosen."
    )


def by_corruption(record: TableRecord, protocol: str) -> Table | None:
    """Test AUROC by corruption; None if no row has any."""
    own = [row.protocols.get(protocol) for row in record.rows]
    stats = [found.by_corruption if found else {} for found in own]
    names = list(dict.fromkeys(name for found in stats for name in found))
    if not names:
        return None
    columns = [column([cell(found.get(name)) for found in stats]) for name in names]
    lines = [[row.name, *cells] for row, *cells in zip(record.rows, *columns, strict=True)]
    caption = f"Test AUROC, {PROTOCOLS[protocol]}, {over(record)}"
    return Table(caption, ["method", *names], blocks(record.rows, lines))


def settings(record: TableRecord, protocol: str) -> Table:
    """The settings chosen for each row."""
    all_own = [row.protocols.get(protocol) for row in record.rows]
    measured = any(own and own.dimensions for own in all_own)
    lines = []
    for row, own in zip(record.rows, all_own, strict=True):
        cells = [row.name]
        if measured:
            cells.append(decimal(mean(own.dimensions if own else None)))
        chosen = assignments(own.settings if own else {})
        if own and own.unconverged:
            seeds = ", ".join(map(str, own.unconverged))
            chosen += f"; final one-class SVM not converged on seeds {seeds}"
        lines.append([*cells, chosen])
    header = ["method", *(["latent dimensions"] if measured else []), "settings"]
    caption = f"Chosen settings, {PROTOCOLS[protocol]}"
    if measured:
        caption += "; latent dimensions: their effective number (participation ratio)"
    return Table(caption, header, blocks(record.rows, lines), words=(len(header) - 1,))


def _marks(record: TableRecord, protocol: str, metric: str) -> dict[str, str]:
    """The signs of rows that do not differ significantly from the best, by row."""
    marks: dict[str, str] = {}
    for among in kinds(record):
        for name in level(record, protocol, metric, among):
            marks[name] = marks.get(name, "") + f"{_SIGNS[among]} "
    return marks


def _runs(own: ProtocolResult | None, total: int) -> str:
    """How many runs gave a result, and how the others failed."""
    if not own:
        return "not run"
    lost = {"collapsed": len(own.collapsed), "diverged": len(own.diverged)}
    told = ", ".join(f"{count} {status}" for status, count in lost.items() if count)
    told = told.replace(" ", f" of {total} run{'s' * (total > 1)} ", 1)
    if own.test:
        count = len(own.test[METRICS[0]].values)
        return told or f"{count} run{'s' * (count != 1)}"
    if lost["collapsed"] == total:
        told = f"all {total} runs collapsed" if total > 1 else "the run collapsed"
    return f"{told}: no result" if told else "no result"
