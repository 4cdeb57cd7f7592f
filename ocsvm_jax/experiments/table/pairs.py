"""One table for each of several pairs of classes, and one report of them all."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import experiment, pairs_report
from ocsvm_jax.experiments.table.plan import TablePlan
from ocsvm_jax.experiments.table.progress import Clock, Progress
from ocsvm_jax.experiments.table.record import TableRecord, table_from_json

_RESULTS_FILE = "results.json"  # of the table of a pair


def main(
    config: Config,
    workdir: Path,
    command: str = "",
    progress: Callable[[TablePlan, Clock], Progress] = Progress,
) -> dict[str, TableRecord]:
    """Runs the table of every pair in `workdir/NORMAL-ANOMALOUS`, or continues it there.

    Writes `table.md` and `report.html` of all pairs that have results, those of earlier calls
    included.

    Args:
      config: a card with `pairs` and a `table`.
      workdir: created if it does not exist.
      command: command line that repeats the call.
      progress: reports progress.

    Returns:
      The results of every pair by its name, such as "3-8".

    Raises:
      ValueError: the card is invalid, the data do not fit it, or the directory of a pair holds
        another experiment. No pair has been begun if the card is at fault.
    """
    tables = {name_of(pair): card_of(config, pair) for pair in _checked(config.pairs)}
    for card in tables.values():
        experiment.check(experiment.resolve(card))
    for name, card in tables.items():
        print(f"pair {name}")
        experiment.main(card, workdir / name, command, progress)
    found = recorded(workdir, list(tables))
    path = pairs_report.write(workdir, found, command)
    print(f"report of {len(found)} pairs: {path}")
    return found


def card_of(config: Config, pair: Sequence[int]) -> Config:
    """The card of the table of one pair."""
    card = config.copy_and_resolve_references()
    with card.unlocked():
        del card["pairs"]
        card.data.normal, card.data.anomalies = (pair[0],), (pair[1],)
    return card


def name_of(pair: Sequence[int]) -> str:
    """The name of the directory of a pair, such as "3-8"."""
    return f"{pair[0]}-{pair[1]}"


def recorded(workdir: Path, first: Sequence[str]) -> dict[str, TableRecord]:
    """The results of all pairs in a directory, those named first, then others by name."""
    there = sorted(path.parent.name for path in workdir.glob(f"*-*/{_RESULTS_FILE}"))
    names = [name for name in dict.fromkeys((*first, *there)) if name in there]
    return {
        name: table_from_json(json.loads((workdir / name / _RESULTS_FILE).read_text()))
        for name in names
    }


def _checked(pairs: Any) -> list[tuple[int, int]]:
    good = isinstance(pairs, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(c, int) for c in pair)
        for pair in pairs
    )
    if not good or not pairs or len({tuple(pair) for pair in pairs}) < len(pairs):
        raise ValueError(
            f"pairs is {pairs!r}; name one or more pairs (normal class, anomalous class), each "
            "once, such as ((3, 8), (5, 6))."
        )
    for normal, anomalous in pairs:
        if normal == anomalous:
            raise ValueError(f"pairs has ({normal}, {anomalous}): the classes must differ.")
    return [(pair[0], pair[1]) for pair in pairs]
