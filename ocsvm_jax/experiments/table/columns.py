"""Columns of numbers over the rows of a table, and the groups that its lines stand in."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ocsvm_jax.experiments.table.record import GROUPS, RowRecord, TableRecord
from ocsvm_jax.reports.numbers import Stat, mean, resolved, score
from ocsvm_jax.reports.page import Strong


class Cell(NamedTuple):
    """A number in a column of a table.

    Attributes:
      value: compared to find the best cell in a column; None if unknown.
      text: the number as printed.
      marks: signs before the text, left out in the best cell.
    """

    value: float | None
    text: str
    marks: str = ""


def over(record: TableRecord) -> str:
    """What the numbers of a table are taken over, for its caption."""
    return "mean ± sd over seeds" if len(record.seeds) > 1 else "one seed"


def blocks(rows: Sequence[RowRecord], lines: Iterable[list[str]]) -> dict[str, list[list[str]]]:
    """Groups lines under the headings of their rows' groups, the paper's own first."""
    blocks: dict[str, list[list[str]]] = {}
    for row, line in zip(rows, lines, strict=True):
        blocks.setdefault(GROUPS[row.group], []).append(line)
    return dict(sorted(blocks.items(), key=lambda block: block[0] != ""))


def cell(stat: Stat | None, marks: str = "") -> Cell:
    """Mean and standard deviation as a cell."""
    return Cell(mean(stat), resolved(stat), marks)


def column(cells: Sequence[Cell]) -> list[str]:
    """Cell texts of a column; of several known values, those that print highest are bold."""
    known = [cell.value for cell in cells if cell.value is not None]
    highest = score(max(known)) if len(known) > 1 else None
    return [
        Strong(cell.text)
        if cell.value is not None and score(cell.value) == highest
        else cell.marks + cell.text
        for cell in cells
    ]
