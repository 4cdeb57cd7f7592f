"""The best method against each of the others, in a table and in words."""

import math
from collections.abc import Mapping
from typing import Any

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.schema import PROTOCOLS, Record, protocols
from ocsvm_jax.reports.numbers import format_p, signed
from ocsvm_jax.reports.page import Table

# Fields of the record: the best of all rows against each other one; the best of the paper's own.
ALL, PAPER = "comparisons", "comparisons_of_paper"
AMONG = {ALL: "", PAPER: ", the paper's rows alone"}


def kinds(record: Record) -> list[str]:
    """The comparisons a report shows: those of the paper's rows alone only beside other rows."""
    beyond = {row["group"] for row in record["rows"]} > {"paper"}
    return [ALL, PAPER] if beyond and record.get(PAPER) else [ALL]


def tables(record: Record, protocol: str, among: str = ALL) -> dict[str, Table]:
    """For each metric that was compared, the rivals of the best method."""
    found, resamples = {}, record["resamples"]
    for metric, result in _compared(record, protocol, among).items():
        rivals = result["rivals"]
        lines = [
            [
                name,
                signed(rival["difference"]),
                f"{signed(rival['low'])} to {signed(rival['high'])}",
                format_p(rival["p"], resamples),
                format_p(rival["p"], resamples, adjusted=rival["bonferroni"]),
                format_p(rival["p"], resamples, adjusted=rival["holm"]),
                "yes" if rival["significant"] else "no",
            ]
            for name, rival in rivals.items()
        ]
        header = ["rival", "difference", "95% interval", "p", "Bonferroni", "Holm", "significant"]
        where = f"{metric}, {PROTOCOLS[protocol]}{AMONG[among]}"
        caption = f"{where}: {result['best']} minus each rival"
        found[metric] = Table(caption, header, {"": lines})
    return found


def verdict(record: Record, protocol: str, metric: str, among: str = ALL) -> str:
    """Which method is the best, and which rivals are not told from it, in a sentence."""
    result = _compared(record, protocol, among)[metric]
    rivals, equal = result["rivals"], level(record, protocol, metric, among)
    best = f"{metric}{AMONG[among]}: {result['best']} has the highest mean"
    if not rivals:
        return f"{best}, and no rival."
    if not _resolved(record, rivals):
        return f"{best}; {record['resamples']:,} resamples are too few to say more."
    if not equal:
        return f"{best}, significantly above every other method."
    if len(equal) == len(rivals):
        return f"{best}; no other method differs significantly from it."
    return (
        f"{best}, significantly above {len(rivals) - len(equal)} of {len(rivals)} others; not "
        f"significantly different from it: {', '.join(equal)}."
    )


def level(record: Record, protocol: str, metric: str, among: str = ALL) -> list[str]:
    """Rows that the bootstrap does not tell from the best of the metric."""
    rivals = _compared(record, protocol, among).get(metric, {}).get("rivals", {})
    # What the number of resamples makes impossible says nothing about a method.
    if not _resolved(record, rivals):
        return []
    return [name for name, rival in rivals.items() if not rival["significant"]]


def bootstrap(record: Record) -> str:
    """What the numbers of the comparisons are."""
    resamples, alpha = record["resamples"], record["alpha"]
    rivals = [
        result["rivals"]
        for among in kinds(record)
        for protocol in protocols(record)
        for result in _compared(record, protocol, among).values()
    ]
    if not rivals:
        return "Nothing was compared: that takes two methods with a result."
    most = max(map(len, rivals))
    too_few = (
        f" With {most} rivals it takes {_needed(record, most):,} resamples for anything to be "
        "significant."
        if resamples < _needed(record, most)
        else ""
    )
    return (
        f"{resamples:,} paired resamples of the test images, the same for every method; a method's "
        "figure is the mean over its seeds. The interval is that of the difference. p is the share "
        "of resamples in which the rival beats the best method, half counted for a tie; Bonferroni "
        f"and Holm adjust it for the number of rivals. Significant: at most {alpha:g} after "
        f"Bonferroni.{too_few}"
    )


def _compared(record: Record, protocol: str, among: str) -> Mapping[str, Any]:
    own = (record.get(among) or {}).get(protocol) or {}
    return {metric: own[metric] for metric in METRICS if own.get(metric)}


def _resolved(record: Record, rivals: Mapping[str, Any]) -> bool:
    """Whether the resamples are enough for a rival to be significant after Bonferroni."""
    return record["resamples"] >= _needed(record, len(rivals))


def _needed(record: Record, rivals: int) -> int:
    return math.ceil(rivals / record["alpha"] * (1 - 1e-9))
