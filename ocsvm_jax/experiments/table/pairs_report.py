"""The report of several pairs of classes: means, and ranks in which every pair counts the same.

After Demsar, "Statistical comparisons of classifiers over multiple data sets" (2006): each pair is
a data set, on which the rows are ranked by their mean over seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.evaluation.rank_tests import Ranks, ranks
from ocsvm_jax.experiments.table.record import PROTOCOLS, RowRecord, TableRecord
from ocsvm_jax.reports.numbers import NONE, Stat, finite, mean, p_value, resolved, score
from ocsvm_jax.reports.page import Table
from ocsvm_jax.reports.section import Captioned, Code, Facts, Paragraph, Part, Report, Section

ALPHA = 0.05
_Tables = Mapping[str, TableRecord]


class Value(NamedTuple):
    """What is reported of a row: a metric, of the score as it is or by domain."""

    metric: str
    by_domain: bool

    @property
    def words(self) -> str:
        """Its name in headings."""
        return f"{self.metric}, by domain" if self.by_domain else self.metric

    def of(self, row: RowRecord | None, protocol: str) -> Stat | None:
        """The test value of a row over its seeds; None without a result."""
        own = row.protocols.get(protocol) if row else None
        if own is None:
            return None
        return ((own.by_domain if self.by_domain else own.test) or {}).get(self.metric)


VALUES = (*(Value(metric, False) for metric in METRICS), Value(METRICS[0], True))


def write(workdir: Path, tables: _Tables, command: str) -> Path:
    """Writes `table.md` and `report.html`; returns the path of the latter.

    Args:
      workdir: the directory of all pairs.
      tables: results by the name of the pair, one or more.
      command: command line that repeats the call.
    """
    return report_of(tables, command).write(workdir, figures=(), markdown="table.md")


def report_of(tables: _Tables, command: str) -> Report:
    """Builds the report; arguments as in `write`."""
    first = next(iter(tables.values()))
    sections = []
    for protocol in PROTOCOLS:
        parts: list[Part] = []
        for value in VALUES:
            found = table(tables, protocol, value)
            if found is not None:
                parts += [Captioned(found), Paragraph(in_words(tables, protocol, value))]
        if parts:
            sections.append(Section(f"{PROTOCOLS[protocol]}".capitalize(), [*_explained(), *parts]))
    sections.append(Section("Run", [Code(command), Facts({**first.facts, **_seeds(tables)})]))
    source = first.config.get("data", {}).get("name", "images")
    return Report(f"{source}, {len(tables)} pairs of classes", [], sections)


def rows_of(tables: _Tables, protocol: str, value: Value) -> dict[str, list[Stat | None]]:
    """Values of every row, one per pair; None where a pair has no result."""
    names = dict.fromkeys(row.name for record in tables.values() for row in record.rows)
    known = [{row.name: row for row in record.rows} for record in tables.values()]
    return {name: [value.of(rows.get(name), protocol) for rows in known] for name in names}


def ranked(tables: _Tables, protocol: str, value: Value) -> Ranks | None:
    """Ranks of the rows with a result on every pair; None for fewer than two rows or pairs."""
    complete = {
        name: [stat.mean for stat in stats if stat is not None]
        for name, stats in rows_of(tables, protocol, value).items()
        if all(mean(stat) is not None for stat in stats)
    }
    if len(complete) < 2 or len(tables) < 2:
        return None
    return ranks(complete, alpha=ALPHA)


def table(tables: _Tables, protocol: str, value: Value) -> Table | None:
    """One column per pair, then the mean over pairs and the mean rank; None without results."""
    rows = rows_of(tables, protocol, value)
    if not any(mean(stat) is not None for stats in rows.values() for stat in stats):
        return None
    found = ranked(tables, protocol, value)
    lines = []
    for name, stats in rows.items():
        means = [mean(stat) for stat in stats]
        known = [m for m in means if m is not None]
        whole = len(known) == len(means)
        rank = found.mean.get(name) if found else None
        lines.append(
            [
                name,
                *map(resolved, stats),
                score(sum(known) / len(known)) if whole else NONE,
                NONE if rank is None else f"{rank:.2f}",
            ]
        )
    lines.sort(key=lambda line: (line[-1] == NONE, float(line[-1]) if line[-1] != NONE else 0.0))
    header = ["method", *(name.replace("-", " / ") for name in tables), "mean", "mean rank"]
    return Table(f"Test {value.words}, {PROTOCOLS[protocol]}", header, {"": lines})


def in_words(tables: _Tables, protocol: str, value: Value) -> str:
    """The test of all rows, the critical difference, and the rows within it of the best."""
    found = ranked(tables, protocol, value)
    if found is None:
        return "Ranks take two rows or more with a result on each of two pairs or more."
    best = min(found.mean, key=found.mean.__getitem__)
    limit = found.mean[best] + found.critical_difference
    near = [name for name, rank in found.mean.items() if name != best and rank <= limit]
    text = (
        f"Friedman over {found.num_data_sets} pairs and {len(found.mean)} rows: chi-squared "
        f"{found.statistic:.1f}, p {p_value(found.p)}. Critical difference of mean ranks at "
        f"{ALPHA:g} (Nemenyi): {found.critical_difference:.2f}. Best mean rank: {best}"
    )
    if finite(found.p) is not None and found.p > ALPHA:
        return f"{text}; the rows as a whole do not differ significantly."
    if not near:
        return f"{text}, significantly better than every other row."
    return f"{text}; not significantly different from it: {', '.join(near)}."


def _explained() -> list[Part]:
    return [
        Paragraph(
            "Mean ± sd over seeds for each pair (normal / anomalous class). Every setting was "
            "chosen on the validation images of its own pair. Rank 1 is the highest mean; ties "
            "share the mean of their ranks. A row without a result on some pair is not ranked. Two "
            "rows differ significantly if their mean ranks differ by more than the critical "
            "difference, which is large for few pairs.",
            quiet=True,
        )
    ]


def _seeds(tables: _Tables) -> dict[str, str]:
    seeds: Sequence[str] = list(
        dict.fromkeys(", ".join(map(str, record.seeds)) for record in tables.values())
    )
    return {"pairs": ", ".join(tables), "seeds": "; ".join(seeds)}
