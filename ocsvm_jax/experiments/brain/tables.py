"""The tables in the report of the brain experiment, made from its results alone.

Every table has a row per score of each method, with the trivial baselines last: a learned model
that does not find more than they do has learned nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ocsvm_jax.evaluation import comparison as stats
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.experiments.brain.measures import MEASURES
from ocsvm_jax.experiments.brain.recipes import TRIVIAL
from ocsvm_jax.experiments.brain.records import Results
from ocsvm_jax.experiments.brain.rows import Row, image_scores, rows_of
from ocsvm_jax.experiments.brain.study import Arm
from ocsvm_jax.reports.numbers import NONE, format_mean_sd, format_p, score
from ocsvm_jax.reports.page import Strong, Table

_OVERVIEW = ("AUROC", "AUROC30", "AUPR")


class _Summary(NamedTuple):
    """Mean over patients and seeds, and its spread; all NaN if no patient has a value.

    Attributes:
      mean: mean over patients and seeds.
      sd_patients: standard deviation over patients of means over seeds; NaN for one patient.
      sd_seeds: standard deviation over seeds of means over patients; NaN for one seed.
    """

    mean: float
    sd_patients: float
    sd_seeds: float


def _summary(values: Float[np.ndarray, "seeds patients"]) -> _Summary:
    whole = values[:, ~np.isnan(values).any(axis=0)]
    if not whole.size:
        return _Summary(math.nan, math.nan, math.nan)
    sds = (stats.mean_sd(whole.mean(axis=axis))[1] for axis in (0, 1))
    return _Summary(float(whole.mean()), *sds)


def localisation(results: Results, variant: str) -> list[Table]:
    """How well the voxels of lesions are found, one table per arm and kind of lesion.

    Args:
      results: results of the experiment.
      variant: one of `records.VARIANTS`.
    """
    rows = rows_of(results)
    return [
        _localisation(rows, variant, f"{arm.said}{kind} lesions, {variant}", cohort)
        for arm in results.design.arms
        for kind, cohort in arm.patients.items()
    ]


def _localisation(rows: Sequence[Row], variant: str, name: str, cohort: str) -> Table:
    found = [[_summary(row.measured(cohort, m, variant)) for m in MEASURES] for row in rows]
    best = [_best([cell.mean for cell in column]) for column in zip(*found, strict=True)]
    lines = [[row.name, *map(_spread, cells, best)] for row, cells in zip(rows, found, strict=True)]
    shares = rows[0].measured(cohort, "prevalence", variant)[0]
    judged = shares[~np.isnan(shares)]
    count = f"{judged.size} of " * (judged.size < shares.size) + f"{shares.size} patients"
    chance = f", prevalence {judged.mean():.4f} (chance of AUPR)" if judged.size else ""
    return Table(f"{name}: {count}{chance}", ["method", *MEASURES], _blocks(rows, lines))


def image_level(results: Results) -> list[Table]:
    """How well images of patients and controls are separated, one table per kind of lesion.

    Each arm has its own paired bootstrap against its best method. Arms without controls are left
    out.
    """
    rows = rows_of(results)
    arms = [arm for arm in results.design.arms if arm.controls]
    tables = []
    for kind in arms[0].patients if arms else ():
        header, sizes = ["method"], []
        lines: list[list[str]] = [[row.name] for row in rows]
        for arm in arms:
            labels, cells = _image_cells(results, rows, arm, arm.patients[kind])
            header += [f"AUROC, {arm.name}" if arm.name else "AUROC", "p"]
            sizes.append(f"{arm.said}{(labels == 0).sum()} controls and {labels.sum()} patients")
            for line, own in zip(lines, cells, strict=True):
                line += own
        caption = f"{kind} lesions, whole images: {'; '.join(sizes)}"
        tables.append(Table(caption, header, _blocks(rows, lines)))
    return tables


def _image_cells(
    results: Results, rows: Sequence[Row], arm: Arm, cohort: str
) -> tuple[Int[np.ndarray, " n"], list[list[str]]]:
    """Labels of the images, and for each row the AUROC and the p-value against the best."""
    labels, scores = image_scores(rows, arm.controls, cohort)
    aurocs = {name: [metrics.auroc(labels, s) for s in runs] for name, runs in scores.items()}
    best = _best([float(np.mean(own)) for own in aurocs.values()])
    resamples = results.config["eval"]["resamples"]
    p = dict.fromkeys(scores, NONE)
    if len(rows) > 1:
        compared = stats.compare(labels, scores, num_resamples=resamples)["AUROC"]
        p[compared.best] = "best"
        for name, rival in compared.rivals.items():
            p[name] = format_p(rival.p, resamples, adjusted=rival.p_bonferroni)
    cells = []
    for name, own in aurocs.items():
        mean, sd = stats.mean_sd(own)
        text = score(mean) + ("" if math.isnan(sd) else f" ({score(sd)})")
        cells.append([Strong(text) if round(mean, 3) == best else text, p[name]])
    return labels, cells


def overview(results: Results) -> str:
    """Means over patients and seeds for a terminal, one block of lines per arm."""
    rows, parts = rows_of(results), []
    width = max(len(row.name) for row in rows)
    for arm in results.design.arms:
        measures = [*_OVERVIEW, "images"] if arm.controls else [*_OVERVIEW]
        names = "".join(f"{name:>8}" for name in measures)
        above = "".join(f" | {kind:^{len(names)}}" for kind in arm.patients)
        lines = [f"{row.name:<{width}}" for row in rows]
        for cohort in arm.patients.values():
            for i, means in enumerate(_means(rows, arm.controls, cohort)):
                lines[i] += " | " + "".join(f"{_plain(value):>8}" for value in means)
        lines = [
            f"{arm.name:<{width}}{above}",
            " " * width + f" | {names}" * len(arm.patients),
            *lines,
        ]
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def _means(rows: Sequence[Row], controls: str, cohort: str) -> list[list[float]]:
    """Means of the `_OVERVIEW` measures per row, and the AUROC of images if there are controls."""
    means = [
        [_summary(row.measured(cohort, measure)).mean for measure in _OVERVIEW] for row in rows
    ]
    if controls:
        labels, scores = image_scores(rows, controls, cohort)
        for own, runs in zip(means, scores.values(), strict=True):
            own.append(float(np.mean([metrics.auroc(labels, scores) for scores in runs])))
    return means


def _blocks(rows: Sequence[Row], lines: list[list[str]]) -> dict[str, list[list[str]]]:
    blocks: dict[str, list[list[str]]] = {}
    for row, line in zip(rows, lines, strict=True):
        blocks.setdefault("trivial baselines" if row.method in TRIVIAL else "", []).append(line)
    return blocks


def _best(means: Sequence[float]) -> float | None:
    """The largest mean as printed, so that equal printed means tie; None if all are equal."""
    printed = {round(float(mean), 3) for mean in means if not math.isnan(mean)}
    return max(printed) if len(printed) > 1 else None


def _spread(found: _Summary, best: float | None) -> str:
    if math.isnan(found.mean):
        return NONE
    text = format_mean_sd(found.mean, found.sd_patients, leading_zero=False)
    if found.sd_seeds > 0:
        text += f" ({score(found.sd_seeds)})"
    return Strong(text) if round(found.mean, 3) == best else text


def _plain(value: float) -> str:
    return NONE if math.isnan(value) else format_mean_sd(value, math.nan)
