"""The best method against each of the others, in a table and in words."""

import math

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.record import PROTOCOLS, Compared, TableRecord
from ocsvm_jax.reports.numbers import format_p, signed
from ocsvm_jax.reports.page import Table

# Fields of the record: the best of all rows against every other row; the same within the paper's
# own rows.
ALL, PAPER = "comparisons", "comparisons_of_paper"
AMONG = {ALL: "", PAPER: ", the paper's rows alone"}


def kinds(record: TableRecord) -> list[str]:
    """The comparisons to report: the paper's rows alone are compared only if there are others."""
    beyond = {row.group for row in record.rows} > {"paper"}
    return [ALL, PAPER] if beyond and record.comparisons_of_paper else [ALL]


def tables(record: TableRecord, protocol: str, among: str = ALL) -> dict[str, Table]:
    """One table per metric that was compared: the rivals of the best method."""
    found, resamples = {}, record.resamples
    header = ["rival", "difference", "95% interval", "p", "Bonferroni", "Holm", "significant"]
    for metric, compared in _compared(record, protocol, among).items():
        lines = [
            [
                name,
                signed(rival.difference),
                f"{signed(rival.low)} to {signed(rival.high)}",
                format_p(rival.p, resamples),
                format_p(rival.p, resamples, adjusted=rival.p_bonferroni),
                format_p(rival.p, resamples, adjusted=rival.p_holm),
                "yes" if rival.significant else "no",
            ]
            for name, rival in compared.rivals.items()
        ]
        where = f"{metric}, {PROTOCOLS[protocol]}{AMONG[among]}"
        found[metric] = Table(f"{where}: {compared.best} minus each rival", header, {"": lines})
    return found


def verdict(record: TableRecord, protocol: str, metric: str, among: str = ALL) -> str:
    """A sentence: which method is best, and which rivals do not differ significantly from it."""
    best, rivals = _compared(record, protocol, among)[metric]
    equal = level(record, protocol, metric, among)
    best = f"{metric}{AMONG[among]}: {best} has the highest mean"
    if not rivals:
        return f"{best}, and no rival."
    if record.resamples < _needed(record, len(rivals)):
        return f"{best}; {record.resamples:,} resamples are too few to say more."
    if not equal:
        return f"{best}, significantly above every other method."
    if len(equal) == len(rivals):
        return f"{best}; no other method differs significantly from it."
    return (
        f"{best}, significantly above {len(rivals) - len(equal)} of {len(rivals)} others; not "
        f"significantly different from it: {', '.join(equal)}."
    )


def level(record: TableRecord, protocol: str, metric: str, among: str = ALL) -> list[str]:
    """Rows that do not differ significantly from the best one in this metric."""
    compared = _compared(record, protocol, among)
    rivals = compared[metric].rivals if metric in compared else {}
    # Too few resamples for any significant result say nothing about a method.
    if record.resamples < _needed(record, len(rivals)):
        return []
    return [name for name, rival in rivals.items() if not rival.significant]


def bootstrap(record: TableRecord) -> str:
    """A paragraph that explains the numbers in the comparisons."""
    counts = [
        len(compared.rivals)
        for among in kinds(record)
        for protocol in record.protocols
        for compared in _compared(record, protocol, among).values()
    ]
    if not counts:
        return "Nothing was compared: that takes two methods with a result."
    most = max(counts)
    too_few = (
        f" With {most} rivals it takes {_needed(record, most):,} resamples for anything to be "
        "significant."
        if record.resamples < _needed(record, most)
        else ""
    )
    return (
        f"{record.resamples:,} paired resamples of the test images, the same for every method; a "
        "method's value is the mean over its seeds. The interval is that of the difference. p is "
        "the share of resamples in which the rival beats the best method, half counted for a tie; "
        "Bonferroni and Holm adjust it for the number of rivals. Significant: at most "
        f"{record.alpha:g} after Bonferroni.{too_few}"
    )


def _compared(record: TableRecord, protocol: str, among: str) -> dict[str, Compared]:
    own = getattr(record, among).get(protocol, {})
    return {metric: own[metric] for metric in METRICS if metric in own}


def _needed(record: TableRecord, rivals: int) -> int:
    """Resamples needed for one of `rivals` rivals to be significant after Bonferroni."""
    return math.ceil(rivals / record.alpha * (1 - 1e-9))
