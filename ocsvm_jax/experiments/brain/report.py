"""The report of the brain experiment: one HTML page, its tables in Markdown, and the figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from ocsvm_jax.experiments.brain import captions, facts, gallery, tables
from ocsvm_jax.experiments.brain.gallery import Picture
from ocsvm_jax.experiments.brain.judge import VARIANTS
from ocsvm_jax.experiments.brain.measures import SMALLEST_COMPONENT
from ocsvm_jax.experiments.brain.rows import name_of, rows_of
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.files import whole_file
from ocsvm_jax.reports import figures, page
from ocsvm_jax.reports.page import Table

_TITLE = "Brain MRI: a one-class SVM for each voxel"
_RANKED = ("AUPR", "AUROC")


class _Section(NamedTuple):
    """A part of the report that consists of tables; nothing where there is none.

    Attributes:
      heading: above it.
      note: how to read the tables; may be empty.
      tables: all of them.
      shown: how many the page shows at once, the others on demand; all if None.
    """

    heading: str
    note: str
    tables: list[Table]
    shown: int | None = None

    def html(self) -> list[str]:
        parts = [f"<h2>{page.text(self.heading)}</h2>"]
        parts += [page.note(self.note)] if self.note else []
        for i, table in enumerate(self.tables):
            at_once = self.shown is None or i < self.shown
            parts.append(table.html() if at_once else page.details(table.caption, table.html()))
        return parts if self.tables else []

    def markdown(self) -> list[str]:
        parts = [f"## {page.markdown_text(self.heading)}"]
        parts += [page.markdown_text(self.note)] if self.note else []
        for table in self.tables:
            parts += [f"{page.markdown_text(table.caption)}:", table.markdown()]
        return parts if self.tables else []


def text(results: Mapping[str, Any]) -> str:
    """The results in short, for a terminal: raw maps, means over patients and seeds."""
    parts = [captions.SHORT, tables.overview(results)]
    if results["data"]["synthetic"] is not None:
        parts.append(captions.SYNTHETIC)
    return "\n\n".join(parts)


def write(
    workdir: Path, results: Mapping[str, Any], read: Study, locations: Bool[np.ndarray, "z x y"]
) -> Path:
    """Writes ``report.html``, ``table.md`` and ``figures/*.png`` into `workdir`.

    Each file is written under another name first and then renamed, so that a reader never finds
    half of it. A figure of an earlier report that this one does not have is removed.

    Args:
      workdir: of the experiment, with the maps of its runs; a method whose maps are no longer
        there is not drawn.
      results: the content of its ``results.json``.
      read: the data behind them.
      locations: where maps were made.

    Returns:
      The path of ``report.html``.

    Raises:
      ValueError: the maps are of other data.
    """
    pictures = list(gallery.draw(workdir, results, read, locations))
    curves = _losses(results)
    drawn = {picture.file: picture.image for picture in pictures}
    drawn |= {f"losses-{method}": image for method, image in curves.items()}
    folder = workdir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in drawn.items():
        with whole_file(folder / f"{name}.png") as file:
            file.write(image)
    for kind in ("gallery", "losses"):
        for path in folder.glob(f"{kind}-*.png"):
            if path.stem not in drawn:
                path.unlink()
    path = workdir / "report.html"
    contents = {workdir / "table.md": markdown(results), path: _html(results, pictures, curves)}
    for target, content in contents.items():
        with whole_file(target) as file:
            file.write(content.encode("utf-8", errors="replace"))
    return path


def markdown(results: Mapping[str, Any]) -> str:
    """All tables of the report in GitHub's Markdown, each below its caption."""
    parts = [f"# {page.markdown_text(_TITLE)}"]
    if results["data"]["synthetic"] is not None:
        parts.append(f"**{page.markdown_text(captions.SYNTHETIC)}**")
    for section in (*_results(results), *_account(results)):
        parts += section.markdown()
    parts += ["## Run", page.markdown_code(results["command"])]
    lines = [f"- {page.markdown_text(f'{k}: {v}')}" for k, v in facts.origin(results).items()]
    return "\n\n".join([*parts, "\n".join(lines)]) + "\n"


def _results(results: Mapping[str, Any]) -> list[_Section]:
    settings, excluded = results["config"]["eval"], results["config"]["data"]["exclude"]
    left_out = f"the voxels of {excluded} do not count" if excluded else "all voxels count"
    images = captions.IMAGES.format(resamples=settings["resamples"], excluded=left_out)
    processed = captions.PROCESSED.format(
        median=settings["median"], erosion=settings["erosion"], smallest=SMALLEST_COMPONENT
    )
    ranks = [table for measure in _RANKED for table in tables.rank_tests_of(results, measure)]
    return [
        _Section("Localisation", captions.LOCALISATION, tables.localisation(results, VARIANTS[0])),
        _Section(
            "Localisation, post-processed", processed, tables.localisation(results, VARIANTS[1])
        ),
        _Section("Whole images", images, tables.image_level(results)),
        _Section("Rank tests", captions.RANKS, ranks, 1),
    ]


def _account(results: Mapping[str, Any]) -> list[_Section]:
    trained = facts.training(results)
    return [
        _Section("Training", "", [trained] if trained is not None else []),
        _Section("Costs", "", [facts.costs(results)]),
        _Section("Data", "", [facts.cohorts(results)]),
    ]


def _html(
    results: Mapping[str, Any], pictures: Sequence[Picture], curves: Mapping[str, bytes]
) -> str:
    body = [f"<h1>{page.text(_TITLE)}</h1>"]
    if results["data"]["synthetic"] is not None:
        body.append(f"<p><strong>{page.text(captions.SYNTHETIC)}</strong></p>")
    body.append(f"<pre><code>{page.text(results['command'])}</code></pre>")
    for section in _results(results):
        body += section.html()
    body += _gallery(results, pictures)
    for section in _account(results):
        body += section.html()
        body += _drawn_losses(curves) if section.heading == "Training" else []
    body += ["<h2>Run</h2>", page.definitions(facts.origin(results))]
    config = json.dumps(results["config"], indent=2, ensure_ascii=False, default=str)
    body.append(page.details("Configuration in full", f"<pre>{page.text(config)}</pre>"))
    return page.page(_TITLE, body)


def _gallery(results: Mapping[str, Any], pictures: Sequence[Picture]) -> list[str]:
    """For each kind of lesion the first method's figure, the others' on demand."""
    parts = ["<h2>Score maps</h2>", page.note(captions.GALLERY)]
    drawn = {picture.name for picture in pictures}
    missing = [row.name for row in rows_of(results) if row.name not in drawn]
    if missing:
        parts.append(page.note(f"Not drawn, without maps or lesions: {', '.join(missing)}."))
    for kind in dict.fromkeys(picture.kind for picture in pictures):
        parts.append(f"<h3>{page.text(kind)}</h3>")
        for i, own in enumerate(picture for picture in pictures if picture.kind == kind):
            alt = f"Score maps of {own.name} over brains with {kind} lesions; see the tables."
            image = page.figure(own.image, alt=alt, caption=own.caption, scrolls=own.name)
            parts.append(image if i == 0 else page.details(own.name, image))
    return parts


def _losses(results: Mapping[str, Any]) -> dict[str, bytes]:
    """By method, the curves of its first seed; of methods that trained something."""
    images: dict[str, bytes] = {}
    for run in results["runs"]:
        history = [
            {name: value for name, value in epoch.items() if name != "patches_per_s"}
            for epoch in run["history"]
        ]
        if run["method"] not in images and figures.curves(history):
            images[run["method"]] = figures.png(figures.losses, history)
    return images


def _drawn_losses(curves: Mapping[str, bytes]) -> list[str]:
    parts = []
    for method, image in curves.items():
        name = f"Curves of {name_of(method)}, first seed"
        alt = "Losses and other quantities by epoch; the last losses are in the table above."
        shown = page.figure(image, alt=alt, caption="What the training recorded in each epoch.")
        parts.append(page.details(name, shown))
    return parts
