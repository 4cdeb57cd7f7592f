"""What the tests of training share: a kill, and histories that two runs have in common."""

from collections.abc import Iterable, Mapping
from typing import Any


class KilledError(Exception):
    """Stands in for the end of the process."""


def without_times(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries of a history without what differs between two equal runs."""
    times = ("seconds", "images_per_s")
    return [{key: value for key, value in entry.items() if key not in times} for entry in history]
