"""What the record of a table holds, which is described at `report.write`."""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

PROTOCOLS = {"paper": "the paper's protocol", "leak_free": "the leak-free protocol"}
GROUPS = {"paper": "", "ours": "Beyond the paper"}
STATUSES = ("collapsed", "diverged")

_NEEDED = (
    "title",
    "command",
    "facts",
    "config",
    "seeds",
    "resamples",
    "alpha",
    "rows",
    "comparisons",
    "visited",
    "counts",
    "wall_seconds",
)


def checked(record: Record) -> Record:
    """The record, if it holds what a report needs.

    Raises:
      ValueError: something is missing, two rows have one name, or a group or protocol is unknown.
    """
    if missing := [name for name in _NEEDED if name not in record]:
        raise ValueError(
            f"The record has no {', '.join(missing)}: a report needs {', '.join(_NEEDED)}."
        )
    names = [row["name"] for row in record["rows"]]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Rows share the name {', '.join(repeated)}: give each its own.")
    groups = {row["group"] for row in record["rows"]}
    ran = {name for row in record["rows"] for name in row["protocols"]}
    for kind, found, known in (("group", groups, GROUPS), ("protocol", ran, PROTOCOLS)):
        if unknown := sorted(found - known.keys()):
            raise ValueError(
                f"The record has the {kind} {', '.join(unknown)}: the report knows "
                f"{', '.join(known)}."
            )
    return record


def protocols(record: Record) -> list[str]:
    """The protocols under which at least one row was run, in the order of `PROTOCOLS`."""
    found = {name for row in record["rows"] for name, own in row["protocols"].items() if own}
    return [name for name in PROTOCOLS if name in found]


def tested(row: Record, protocol: str) -> Record | None:
    """The test results of a row, None where it has none."""
    return (row["protocols"].get(protocol) or {}).get("test")
