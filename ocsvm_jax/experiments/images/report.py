"""The report of one run: one self-contained HTML page, and its figures as files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.metrics import METRICS, Row
from ocsvm_jax.reports import figures
from ocsvm_jax.reports.figures import LatentPicture
from ocsvm_jax.reports.page import Table
from ocsvm_jax.reports.section import (
    Captioned,
    Code,
    Facts,
    Folded,
    Paragraph,
    Part,
    Picture,
    Report,
    Section,
)

_SPLITS = {"val": "Validation", "validation": "Validation", "test": "Test", "": "Results"}
_FIGURES = ("roc", "histograms", "losses", "latent")
_HOW_TO_READ = (
    "In brackets, 95% percentile bootstrap intervals over resampled images of this one run, "
    "which do not include the variation between seeds. Chance is 0.5 for AUROC, the share of "
    "anomalous images for AUPR, and 0.5 for AUROC30, the area up to a false positive rate of 0.3 "
    "in McClish's standardisation."
)


def write_report(
    workdir: Path,
    *,
    title: str,
    command: str,
    config_text: str,
    rows: Sequence[Row],
    scores: Mapping[str, np.ndarray],
    history: Sequence[Mapping[str, Any]],
    latent: LatentPicture | None,
    facts: Mapping[str, str],
) -> Path:
    """Writes ``report.html`` and ``figures/*.png`` into `workdir`, see `Report.write`.

    Args:
      workdir: directory of the run; created if it does not exist.
      title: name of the run.
      command: command line that repeats it.
      config_text: the full configuration.
      rows: results of `metrics.table`; one table per value of their `split`.
      scores: for the splits ``val`` and ``test``, the arrays ``<split>_labels`` (1 for an
        anomalous image), ``<split>_corruption`` (names) and ``<split>_<score>`` for each score,
        all of shape (n,) and aligned. Figures show the test split.
      history: one mapping per epoch, from names to numbers; may be empty.
      latent: picture of the latents, or None.
      facts: machine, commit, seed, wall time and similar facts.

    Returns:
      The path of ``report.html``.

    Raises:
      ValueError: an array of the test split is missing, or scores are not finite.
    """
    # An `.npz` file is read from disk at every access.
    scores = dict(scores)
    pictures = list(_pictures(scores, history, latent))
    sections = [
        Section("Results", [*_results(rows), Paragraph(_HOW_TO_READ, quiet=True)]),
        Section("AUROC by corruption", _by_corruption(scores)),
        Section("Figures", [*pictures, _training(history)]),
        Section("Configuration", [Folded("Show it in full", [Code(config_text)])]),
    ]
    report = Report(title, [Code(command), Facts(facts)], sections)
    return report.write(workdir, figures=_FIGURES)


def _split(
    scores: Mapping[str, np.ndarray], split: str
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Labels, corruptions, and scores by name of one split."""
    known = (f"{split}_labels", f"{split}_corruption")
    prefix = f"{split}_"
    named = {
        key.removeprefix(prefix): np.asarray(values, dtype=np.float64)
        for key, values in scores.items()
        if key.startswith(prefix) and key not in known
    }
    if not named or not all(key in scores for key in known):
        raise ValueError(
            f"scores holds {', '.join(sorted(scores)) or 'nothing'}: "
            f"it needs {known[0]}, {known[1]} and at least one score {prefix}<name>."
        )
    labels, corruption = (np.asarray(scores[key]) for key in known)
    return labels, corruption.astype(str), named


def _results(rows: Sequence[Row]) -> list[Part]:
    header = ["score", *METRICS, "images", "anomalous"]
    parts: list[Part] = []
    for split in dict.fromkeys(row.split for row in rows):
        lines = [
            [
                row.score,
                *(str(row.metrics[metric]) for metric in METRICS),
                f"{row.n:,}",
                f"{row.prevalence:.1%}",
            ]
            for row in rows
            if row.split == split
        ]
        parts.append(Captioned(Table(f"{_SPLITS.get(split, split)} images", header, {"": lines})))
    return parts


def _by_corruption(scores: Mapping[str, np.ndarray]) -> list[Part]:
    parts: list[Part] = []
    for split in ("val", "test"):
        if f"{split}_labels" not in scores:
            continue
        labels, corruption, named = _split(scores, split)
        names = list(dict.fromkeys(corruption.tolist()))
        lines = []
        for score, values in named.items():
            cells = [_auroc(labels, values, corruption == name) for name in names]
            lines.append([score, *cells, _auroc(labels, values, np.full(labels.shape, True))])
        header = ["score", *names, "all"]
        parts.append(Captioned(Table(f"{_SPLITS[split]} images", header, {"": lines})))
    return parts


def _auroc(labels: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> str:
    both = len(np.unique(labels[chosen])) == 2
    return f"{metrics.auroc(labels[chosen], values[chosen]):.3f}" if both else "one class"


def _training(history: Sequence[Mapping[str, Any]]) -> Part:
    if not history:
        return Paragraph("No training history was recorded.", quiet=True)
    names = list(dict.fromkeys(name for epoch in history for name in epoch))
    lines = [[_cell(epoch.get(name, "")) for name in names] for epoch in history]
    table = Captioned(Table("One row per epoch", names, {"": lines}))
    return Folded("Training history, epoch by epoch", [table])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _pictures(
    scores: Mapping[str, np.ndarray],
    history: Sequence[Mapping[str, Any]],
    latent: LatentPicture | None,
) -> Iterator[Picture]:
    labels, corruption, tested = _split(scores, "test")
    yield Picture(
        "roc",
        figures.png(figures.roc, labels, tested),
        "ROC curves of the scores; the areas under them are in the table of results.",
        "ROC curves on the test images. Shaded: the false positive rates up to 0.3, over which "
        "AUROC30 is computed.",
    )
    yield Picture(
        "histograms",
        figures.png(figures.histograms, labels, corruption, tested),
        "Histograms of the scores of normal and anomalous images by corruption; the table by "
        "corruption shows how well they separate.",
        "Distribution of each score on the normal and the anomalous test images, by corruption. "
        "The panels of a row share their bins, which span the central 98% of the scores of every "
        "corruption, widened by a quarter on either side; scores beyond them are counted in the "
        "outermost bins.",
        scrolls="Histograms",
    )
    if figures.curves(history):
        yield Picture(
            "losses",
            figures.png(figures.losses, history),
            "Curves of the losses by epoch; the numbers are in the training history.",
            "All values recorded in training, by epoch.",
        )
    if latent is not None:
        x, y = latent.points.T
        outside = (x < latent.axis_x[0]) | (x > latent.axis_x[-1])
        outside |= (y < latent.axis_y[0]) | (y > latent.axis_y[-1])
        yield Picture(
            "latent",
            figures.png(figures.latent, latent),
            "Latent points by group over a map of the decision function with its boundary.",
            f"{latent.caption} At most {figures.MAX_POINTS_PER_GROUP:,} points of each group are "
            f"drawn; {outside.sum():,} of {outside.size:,} points lie outside the picture.",
        )
