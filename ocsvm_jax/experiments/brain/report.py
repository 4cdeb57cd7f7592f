"""The report of the brain experiment, as sections."""

import json
from collections.abc import Iterator, Mapping, Sequence

from ocsvm_jax.experiments.brain import captions, facts, ranks, tables
from ocsvm_jax.experiments.brain.measures import SMALLEST_COMPONENT
from ocsvm_jax.experiments.brain.recipes import name_of
from ocsvm_jax.experiments.brain.records import VARIANTS, Results
from ocsvm_jax.experiments.brain.rows import rows_of
from ocsvm_jax.reports import figures
from ocsvm_jax.reports.page import Table
from ocsvm_jax.reports.section import (
    Captioned,
    Code,
    Facts,
    Folded,
    Heading,
    PageOnly,
    Paragraph,
    Part,
    Picture,
    Report,
    Section,
)

FIGURES = ("gallery-*", "losses-*")  # patterns of the figures that a report may have
_TITLE = "Brain MRI: a one-class SVM for each voxel"
_RANKED = ("AUPR", "AUROC")


def text(results: Results) -> str:
    """Summary for a terminal: raw maps, means over patients and seeds."""
    parts = [captions.SHORT, tables.overview(results)]
    if results.data.synthetic is not None:
        parts.append(captions.SYNTHETIC)
    return "\n\n".join(parts)


def report_of(results: Results, drawn: Mapping[str, Mapping[str, Picture]] | None = None) -> Report:
    """All tables and pictures of an experiment.

    Args:
      results: results of the experiment.
      drawn: pictures by kind of lesion and row name, see `gallery.draw`; None for no gallery.
    """
    warning = [] if results.data.synthetic is None else [Paragraph(captions.SYNTHETIC, strong=True)]
    config = json.dumps(results.config, indent=2, ensure_ascii=False, default=str)
    card = PageOnly(Folded("Configuration in full", [Code(config)]))
    gallery = [] if drawn is None else map(PageOnly, _gallery(results, drawn))
    trained = facts.training(results)
    sections = [
        *_results(results),
        Section("Score maps", list(gallery)),
        Section("Training", [Captioned(trained), *_losses(results)] if trained else []),
        Section("Costs", [Captioned(facts.costs(results))]),
        Section("Data", [Captioned(facts.cohorts(results))]),
        Section("Run", [Facts(facts.origin(results)), card]),
    ]
    return Report(_TITLE, [*warning, Code(results.command)], sections)


def _results(results: Results) -> list[Section]:
    settings, excluded = results.config["eval"], results.config["data"]["exclude"]
    left_out = f"the voxels of {excluded} do not count" if excluded else "all voxels count"
    images = captions.IMAGES.format(resamples=settings["resamples"], excluded=left_out)
    processed = captions.PROCESSED.format(
        median=settings["median"], erosion=settings["erosion"], smallest=SMALLEST_COMPONENT
    )
    raw, filtered = (tables.localisation(results, variant) for variant in VARIANTS)
    tested = [table for measure in _RANKED for table in ranks.rank_tests_of(results, measure)]
    return [
        _section("Localisation", captions.LOCALISATION, raw),
        _section("Localisation, post-processed", processed, filtered),
        _section("Whole images", images, tables.image_level(results)),
        _section("Rank tests", captions.RANKS, tested, shown=1),
    ]


def _section(heading: str, note: str, found: Sequence[Table], shown: int | None = None) -> Section:
    """A note on how to read the tables, then the tables; those after `shown` are folded."""
    parts: list[Part] = [*map(Captioned, found[:shown])]
    if shown is not None:
        parts += [Folded(table.caption, [Captioned(table)]) for table in found[shown:]]
    return Section(heading, [Paragraph(note, quiet=True), *parts] if parts else [])


def _gallery(results: Results, drawn: Mapping[str, Mapping[str, Picture]]) -> Iterator[Part]:
    """Per kind of lesion, the picture of the first row; those of the others are folded."""
    yield Paragraph(captions.GALLERY, quiet=True)
    there = {name for own in drawn.values() for name in own}
    if missing := [row.name for row in rows_of(results) if row.name not in there]:
        yield Paragraph(f"Not drawn, no maps or lesions: {', '.join(missing)}.", quiet=True)
    for kind, own in drawn.items():
        yield Heading(kind)
        first, *others = own.items()
        yield first[1]
        yield from (Folded(name, [picture]) for name, picture in others)


def _losses(results: Results) -> Iterator[Part]:
    """Training curves of each trained method, for its first seed."""
    seen = set()
    for run in results.runs:
        history = [
            {k: v for k, v in epoch.items() if k != "patches_per_s"} for epoch in run.history
        ]
        if run.method in seen or not figures.curves(history):
            continue
        seen.add(run.method)
        picture = Picture(
            f"losses-{run.method}",
            figures.png(figures.losses, history),
            "Losses and other quantities by epoch; the last losses are in the table above.",
            "Values recorded in each epoch of training.",
        )
        yield Folded(f"Curves of {name_of(run.method)}, first seed", [picture])
