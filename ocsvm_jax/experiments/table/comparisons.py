"""The best method against each of the others, in tables and in words.

A row is called significantly below the best one only where both tests of `evaluation.over_seeds`
say so. The paper's bootstrap of the images has its own tables, and that word does not occur there.
"""

import math
from collections.abc import Mapping

from ocsvm_jax.evaluation.comparison import Rival
from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.evaluation.over_seeds import Welch
from ocsvm_jax.experiments.table.record import (
    PROTOCOLS,
    Compared,
    ComparedOverSeeds,
    TableRecord,
)
from ocsvm_jax.reports.numbers import NONE, format_p, p_value, signed
from ocsvm_jax.reports.page import Table

# Fields of the record: the best of all rows against every other row; the same within the paper's
# own rows.
ALL, PAPER = "comparisons", "comparisons_of_paper"
AMONG = {ALL: "", PAPER: ", the paper's rows alone"}
_OVER_SEEDS = {ALL: "over_seeds", PAPER: "over_seeds_of_paper"}
_RIVAL = ["rival", "difference", "95% interval"]


def kinds(record: TableRecord) -> list[str]:
    """The comparisons to report: the paper's rows alone are compared only if there are others."""
    beyond = {row.group for row in record.rows} > {"paper"}
    return [ALL, PAPER] if beyond and record.comparisons_of_paper else [ALL]


def over_images(record: TableRecord, protocol: str, among: str = ALL) -> dict[str, Table]:
    """One table per metric: the rivals of the best row, over resampled images."""
    found, resamples = {}, record.resamples
    header = [*_RIVAL, "p", "Bonferroni", "Holm", f"at most {record.alpha:g}"]
    for metric, compared in _over_images(record, protocol, among).items():
        lines = [
            [name, *_of_bootstrap(rival, resamples), "yes" if rival.significant else "no"]
            for name, rival in compared.rivals.items()
        ]
        where = f"{metric}, {PROTOCOLS[protocol]}{AMONG[among]}, images resampled"
        found[metric] = Table(f"{where}: {compared.best} minus each rival", header, {"": lines})
    return found


def over_seeds(record: TableRecord, protocol: str, among: str = ALL) -> dict[str, Table]:
    """One table per metric: the rivals of the best row, over seeds."""
    found, resamples = {}, record.resamples
    tests = ["p", "Bonferroni", "Holm", "t", "Welch's p", "Bonferroni", "Holm"]
    for metric, compared in _over_seeds(record, protocol, among).items():
        lines = [
            [
                name,
                *_of_bootstrap(rival.bootstrap, resamples),
                *_of_welch(rival.welch),
                "yes" if rival.significant else "no",
            ]
            for name, rival in compared.rivals.items()
        ]
        where = f"{metric}, {PROTOCOLS[protocol]}{AMONG[among]}, over seeds"
        header = [*_RIVAL, *tests, "significant"]
        found[metric] = Table(f"{where}: {compared.best} minus each rival", header, {"": lines})
    return found


def _of_bootstrap(rival: Rival, resamples: int) -> list[str]:
    """Difference, interval and p-values of a rival."""
    return [
        signed(rival.difference),
        f"{signed(rival.low)} to {signed(rival.high)}",
        format_p(rival.p, resamples),
        format_p(rival.p, resamples, adjusted=rival.p_bonferroni),
        format_p(rival.p, resamples, adjusted=rival.p_holm),
    ]


def _of_welch(test: Welch | None) -> list[str]:
    if test is None:
        return [NONE] * 4
    t = NONE if test.t is None else f"{test.t:.1f}"
    return [t, *map(p_value, (test.p, test.p_bonferroni, test.p_holm))]


def verdict(record: TableRecord, protocol: str, metric: str, among: str = ALL) -> str:
    """A sentence: which row is best, and which rivals do not differ significantly from it."""
    name, rivals = _over_images(record, protocol, among)[metric]
    best = f"{metric}{AMONG[among]}: {name} has the highest mean"
    if not rivals:
        return f"{best}, and no rival."
    compared = _over_seeds(record, protocol, among).get(metric)
    if compared is None:
        return f"{best}; it was not compared over seeds."
    tested = [rival for rival in compared.rivals.values() if rival.welch is not None]
    if not tested:
        return f"{best}; what other seeds would give cannot be said without two runs of each row."
    if record.resamples < _needed(record, len(rivals)):
        return f"{best}; {record.resamples:,} resamples are too few to say more."
    equal = level(record, protocol, metric, among)
    if not equal:
        return f"{best}, significantly above every other row."
    if len(equal) == len(rivals):
        return f"{best}; no other row differs significantly from it."
    return (
        f"{best}, significantly above {len(rivals) - len(equal)} of {len(rivals)} others; not "
        f"significantly different from it: {', '.join(equal)}."
    )


def level(record: TableRecord, protocol: str, metric: str, among: str = ALL) -> list[str]:
    """Rows that do not differ significantly from the best one in this metric, over seeds."""
    compared = _over_seeds(record, protocol, among).get(metric)
    rivals = compared.rivals if compared else {}
    # Too few resamples for any significant result say nothing about a method.
    if record.resamples < _needed(record, len(rivals)):
        return []
    return [name for name, rival in rivals.items() if not rival.significant]


def explained_over_seeds(record: TableRecord) -> str:
    """A paragraph that explains the comparisons over seeds."""
    return (
        "Two tests whose unit is the training seed. "
        f"Bootstrap: {record.resamples:,} resamples, in each of which every row draws as many of "
        "its own seeds as it has, with replacement, and all rows the same test images; the images "
        "of one digit under all corruptions are drawn together. The interval is that of the "
        "difference; with few seeds it is a lower bound of the uncertainty. p is the share of "
        "resamples in which the rival beats the best row, half counted for a tie. Welch: the "
        "two-sided t-test of the values of the seeds, with unequal variances. Bonferroni and Holm "
        "adjust each for the number of rivals. Significant: both are at most "
        f"{record.alpha:g} after Bonferroni.{_too_few(record)}"
    )


def explained_over_images(record: TableRecord) -> str:
    """A paragraph that explains the paper's bootstrap of the images."""
    if not _numbers_of_rivals(record):
        return "Nothing was compared: that takes two methods with a result."
    return (
        "The test of the paper: "
        f"{record.resamples:,} paired resamples of the test images, the same for every method; a "
        "method's value is the mean over its seeds. It holds for these trained models, and says "
        "nothing of others with other seeds. The interval is that of the difference. p is the "
        "share of resamples in which the rival beats the best method, half counted for a tie; "
        f"Bonferroni and Holm adjust it for the number of rivals.{_too_few(record)}"
    )


def _too_few(record: TableRecord) -> str:
    most = max(_numbers_of_rivals(record), default=0)
    if record.resamples >= _needed(record, most):
        return ""
    return (
        f" With {most} rivals it takes {_needed(record, most):,} resamples for anything to be "
        "significant."
    )


def _numbers_of_rivals(record: TableRecord) -> list[int]:
    return [
        len(compared.rivals)
        for among in kinds(record)
        for protocol in record.protocols
        for compared in _over_images(record, protocol, among).values()
    ]


def _over_images(record: TableRecord, protocol: str, among: str) -> Mapping[str, Compared]:
    own = getattr(record, among).get(protocol, {})
    return {metric: own[metric] for metric in METRICS if metric in own}


def _over_seeds(record: TableRecord, protocol: str, among: str) -> Mapping[str, ComparedOverSeeds]:
    own = getattr(record, _OVER_SEEDS[among]).get(protocol, {})
    return {metric: own[metric] for metric in METRICS if metric in own}


def _needed(record: TableRecord, rivals: int) -> int:
    """Resamples needed for one of `rivals` rivals to be significant after Bonferroni."""
    return math.ceil(rivals / record.alpha * (1 - 1e-9))
