"""The report of a table of methods: one HTML page, the same in Markdown, and the pictures."""

import itertools
import json
from pathlib import Path

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import alternatives, captions, comparisons, contents, visits
from ocsvm_jax.experiments.table.captions import PicturesData
from ocsvm_jax.experiments.table.record import PROTOCOLS, TableRecord
from ocsvm_jax.reports.numbers import duration
from ocsvm_jax.reports.page import Table
from ocsvm_jax.reports.section import (
    Captioned,
    Code,
    Facts,
    Folded,
    PageOnly,
    Paragraph,
    Part,
    Report,
    Section,
)


def write(workdir: Path, record: TableRecord, data: PicturesData) -> Path:
    """Writes ``table.md``, ``report.html`` and ``figures/*.png`` into `workdir`.

    See `Report.write`; the arguments are those of `report_of`.

    Returns:
      The path of ``report.html``.
    """
    report = report_of(record, data)
    return report.write(workdir, figures=captions.FILES, markdown="table.md")


def markdown(record: TableRecord) -> str:
    """All tables except the list of points visited, in GitHub's Markdown."""
    return report_of(record).markdown()


def report_of(record: TableRecord, data: PicturesData | None = None) -> Report:
    """Builds the report of a table.

    Args:
      record: results of the table.
      data: the arrays behind the pictures; None for a report without pictures.

    Raises:
      ValueError: the arrays of a latent map are not aligned.
    """
    drawn = {} if data is None else captions.draw(record, data)
    protocols = record.protocols
    roc = [drawn[name] for p in protocols if (name := f"roc_{p}") in drawn]
    ensembles = _captioned(*(alternatives.ensembles(record, p) for p in protocols))
    of_latents = _captioned(*(alternatives.latent_scores(record, p) for p in protocols))
    by_domain = _captioned(
        *(t(record, p) for p in protocols for t in (alternatives.by_domain, alternatives.domains))
    )
    sections = []
    for protocol in protocols:
        parts = _captioned(contents.results(record, protocol))
        parts.append(Paragraph(contents.reading(record, protocol), quiet=True))
        if protocol == protocols[0]:
            parts.append(Paragraph(contents.choice(record)))
        parts += [drawn[name] for name in (f"dots_{protocol}",) if name in drawn]
        sections.append(Section(f"Results, {PROTOCOLS[protocol]}", parts))
    sections += [
        Section("Comparison over seeds", _over_seeds(record)),
        Section("Bootstrap of the images", _over_images(record)),
        Section(
            "AUROC by corruption",
            _captioned(*(contents.by_corruption(record, p) for p in protocols)),
        ),
        _explained("Other scores on the same latents", alternatives.LATENT_SCORES, of_latents),
        _explained("Scores without the domain", alternatives.BY_DOMAIN, by_domain),
        _explained("Ensembles", alternatives.ENSEMBLES, ensembles),
        Section("ROC curves", roc),
        Section("Latents", [drawn["latent"]] if "latent" in drawn else []),
        Section("Search", _search(record)),
        Section("Run", _run(record)),
    ]
    return Report(record.title, [], sections)


def _explained(heading: str, text: str, parts: list[Part]) -> Section:
    """A section that begins with how to read it; empty without parts."""
    return Section(heading, [Paragraph(text, quiet=True), *parts] if parts else [])


def _captioned(*tables: Table | None) -> list[Part]:
    return [Captioned(table) for table in tables if table is not None]


def _over_seeds(record: TableRecord) -> list[Part]:
    parts: list[Part] = []
    if record.over_seeds:
        parts.append(Paragraph(comparisons.explained_over_seeds(record), quiet=True))
    for among, protocol in itertools.product(comparisons.kinds(record), record.protocols):
        name, tables = PROTOCOLS[protocol], comparisons.over_seeds(record, protocol, among)
        for metric in comparisons.over_images(record, protocol, among):
            verdict = comparisons.verdict(record, protocol, metric, among)
            parts.append(Paragraph(f"{name[0].upper()}{name[1:]}, {verdict}"))
            if metric in tables:
                parts += _rivals(record, protocol, among, metric, tables[metric])
    return parts


def _over_images(record: TableRecord) -> list[Part]:
    parts: list[Part] = [Paragraph(comparisons.explained_over_images(record), quiet=True)]
    for among, protocol in itertools.product(comparisons.kinds(record), record.protocols):
        for metric, table in comparisons.over_images(record, protocol, among).items():
            parts += _rivals(record, protocol, among, metric, table)
    return parts


def _rivals(
    record: TableRecord, protocol: str, among: str, metric: str, table: Table
) -> list[Part]:
    """A table of rivals, folded unless it is of what the settings were chosen for."""
    if not table.blocks[""]:
        return []
    if protocol == record.protocols[0] and metric == METRICS[0]:
        return [Captioned(table)]
    summary = f"Table: {metric}, {PROTOCOLS[protocol]}{comparisons.AMONG[among]}"
    return [Folded(summary, [Captioned(table)])]


def _search(record: TableRecord) -> list[Part]:
    every = f"Every run of the search, {len(record.visited):,} in all"
    return [
        *_captioned(*(contents.settings(record, protocol) for protocol in record.protocols)),
        Captioned(visits.counts(record)),
        PageOnly(Folded(every, [Captioned(visits.runs(record))])),
    ]


def _run(record: TableRecord) -> list[Part]:
    config = json.dumps(record.config, indent=2, ensure_ascii=False, default=str)
    seconds = record.wall_seconds
    facts = {
        **record.facts,
        "commits of the runs": ", ".join(
            sorted({visit.commit or "not recorded" for visit in record.visited})
        ),
        "images": ", ".join(f"{name} {count:,}" for name, count in record.counts.items()),
        "seeds": ", ".join(map(str, record.seeds)),
        "wall time of all calls": "not measured" if seconds is None else duration(seconds),
    }
    in_full = PageOnly(Folded("Configuration in full", [Code(config)]))
    return [Code(record.command), Facts(facts), in_full]
