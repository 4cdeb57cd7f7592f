"""The files of a run of benchmarks/accelerator.py: rows as they come, JSON and Markdown."""

import json
from pathlib import Path
from typing import Any

from device.contest import Row
from device.goals import BEFORE, GOALS
from ocsvm_jax.files import whole_file

COLUMNS = (
    "what",
    "contestant",
    "times the first",
    "median",
    "compilation or first call, s",
    "goal",
    "before",
    "note",
)

Part = dict[str, Any]
"""What is known of a part: its name, how it ended, its seconds, facts and rows."""


def rows_file(directory: Path, part: str) -> Path:
    """Where the process of a part writes a line of JSON a row, of which the first holds facts."""
    return directory / f"{part}.jsonl"


def read_rows(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Facts and rows, as far as they were written to their ends."""
    lines = path.read_text().split("\n") if path.exists() else []
    if len(lines) < 2:
        return {}, []
    facts, *rows = (json.loads(line) for line in lines[:-1])
    return facts, [Row(**row) for row in rows]


def write(directory: Path, command: str, parts: list[Part]) -> None:
    """results.json and results.md, each written as a whole."""
    facts = next((part["facts"] for part in parts if part["facts"]), {})
    known = {"command": command, "facts": facts}
    told = [part | {"rows": [row._asdict() for row in part["rows"]]} for part in parts]
    with whole_file(directory / "results.json") as file:
        file.write((json.dumps(known | {"parts": told}, indent=1) + "\n").encode())
    with whole_file(directory / "results.md") as file:
        file.write(markdown(command, facts, parts).encode())


def markdown(command: str, facts: dict[str, str], parts: list[Part]) -> str:
    """A table a part, with goals and the figures of before where there are some."""
    said = [f"- {name}: {value}" for name, value in facts.items()]
    lines = ["# On this device", "", f"`{command}`", "", *said, ""]
    lines += [f"Goals are for one H100. Before: {BEFORE}.", ""]
    if "--quick" in command:
        lines += ["Quick: small sizes, compiled in haste. No figure is to be compared.", ""]
    for part in parts:
        lines += [f"## {part['part']}", "", f"{part['ended']}, {part['seconds']:.0f} s.", ""]
        if part["rows"]:
            lines += [
                f"| {' | '.join(COLUMNS)} |",
                "|---" * len(COLUMNS) + "|",
                *map(line, part["rows"]),
                "",
            ]
        if part["log"]:
            lines += ["```", part["log"], "```", ""]
    return "\n".join(lines)


def line(row: Row) -> str:
    """A row of the table; the ratio stands before the time."""
    goal = GOALS.get(row.goal)
    cells = [
        row.what,
        row.contestant,
        "" if row.ratio is None else f"{row.ratio:.3g}",
        figure(row.value, row.unit),
        "" if row.first is None else f"{row.first:.1f}",
        goal.goal if goal else "",
        goal.before if goal else "",
        row.note,
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def figure(value: float | None, unit: str) -> str:
    """Seconds in a unit in which they are read with ease; other units as they are."""
    if value is None:
        return "none"
    if unit.split(" ")[0] != "s":
        return f"{value:.3g} {unit}"
    scale, name = (1, "s") if value >= 1 else (1e3, "ms") if value >= 1e-3 else (1e6, "us")
    return f"{value * scale:.3g} {name}{unit[1:]}"
