"""The tables of the brain experiment's report, from its results alone.

Every table has a row for each score of each method, the trivial baselines last: a learned model
that does not find more than they do has learned nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ocsvm_jax.evaluation import comparison as stats
from ocsvm_jax.evaluation import metrics, rank_tests
from ocsvm_jax.experiments.brain import judge
from ocsvm_jax.experiments.brain.measures import MEASURES
from ocsvm_jax.experiments.brain.rows import TRIVIAL, Row, image_scores, measured, rows_of, settings
from ocsvm_jax.experiments.brain.study import Arm, arms_of
from ocsvm_jax.reports.page import Strong, Table

NONE = "-"
_OVERVIEW = ("AUROC", "AUROC30", "AUPR")


def localisation(results: Mapping[str, Any], variant: str) -> list[Table]:
    """For each arm and kind of lesion, how well the voxels of the lesions are found.

    Args:
      results: of the experiment.
      variant: one of `judge.VARIANTS`.
    """
    rows = rows_of(results)
    return [
        _localisation(rows, variant, f"{in_arm(arm)}{kind} lesions, {variant}", cohort)
        for arm in arms_of(settings(results))
        for kind, cohort in arm.patients.items()
    ]


def _localisation(rows: Sequence[Row], variant: str, name: str, cohort: str) -> Table:
    found = [
        {m: judge.summary(measured(row, cohort, variant, m).tolist()) for m in MEASURES}
        for row in rows
    ]
    best = {m: _best([cells[m]["mean"] for cells in found]) for m in MEASURES}
    lines = [
        [row.name, *(_spread(cells[m], best[m]) for m in MEASURES)]
        for row, cells in zip(rows, found, strict=True)
    ]
    shares = measured(rows[0], cohort, variant, "prevalence")[0]
    judged = shares[~np.isnan(shares)]
    count = f"{judged.size} of " * (judged.size < shares.size) + f"{shares.size} patients"
    chance = f", prevalence {judged.mean():.4f} (chance of AUPR)" if judged.size else ""
    return Table(f"{name}: {count}{chance}", ["method", *MEASURES], _blocks(rows, lines))


def image_level(results: Mapping[str, Any]) -> list[Table]:
    """For each kind of lesion, how well whole images are told from those of controls, arm by arm.

    Each arm has its paired bootstrap against the best. Arms without controls are left out.
    """
    rows, data = rows_of(results), settings(results)
    arms = [arm for arm in arms_of(data) if arm.controls]
    tables = []
    for kind in data.patients if arms else ():
        header, sizes = ["method"], []
        lines: list[list[str]] = [[row.name] for row in rows]
        for arm in arms:
            labels, cells = _image_cells(results, rows, arm, arm.patients[kind])
            header += [f"AUROC, {arm.name}" if arm.name else "AUROC", "p"]
            sizes.append(f"{in_arm(arm)}{(labels == 0).sum()} controls and {labels.sum()} patients")
            for line, own in zip(lines, cells, strict=True):
                line += own
        caption = f"{kind} lesions, whole images: {'; '.join(sizes)}"
        tables.append(Table(caption, header, _blocks(rows, lines)))
    return tables


def _image_cells(
    results: Mapping[str, Any], rows: Sequence[Row], arm: Arm, cohort: str
) -> tuple[Int[np.ndarray, " n"], list[list[str]]]:
    """The labels of the images, and for each row its AUROC and its p-value against the best."""
    labels, scores = image_scores(rows, arm.controls, cohort)
    aurocs = {name: [metrics.auroc(labels, s) for s in runs] for name, runs in scores.items()}
    best = _best([float(np.mean(own)) for own in aurocs.values()])
    resamples = results["config"]["eval"]["resamples"]
    p = dict.fromkeys(scores, NONE)
    if len(rows) > 1:
        compared = stats.compare(labels, scores, num_resamples=resamples)["AUROC"]
        p[compared.best] = "best"
        for name, rival in compared.rivals.items():
            p[name] = stats.format_p(rival.p, resamples, adjusted=rival.p_bonferroni)
    cells = []
    for name, own in aurocs.items():
        mean, sd = stats.mean_sd(own)
        text = _decimals(mean) + ("" if math.isnan(sd) else f" ({_decimals(sd)})")
        cells.append([Strong(text) if round(mean, 3) == best else text, p[name]])
    return labels, cells


def rank_tests_of(results: Mapping[str, Any], measure: str) -> list[Table]:
    """`rank_test` of each score of the first method."""
    rows = rows_of(results)
    first = [i for i, row in enumerate(rows) if row.method == rows[0].method]
    tables = [rank_test(results, measure, i) for i in first]
    return [table for table in tables if table is not None]


def rank_test(results: Mapping[str, Any], measure: str, number: int = 0) -> Table | None:
    """A row against all others, in each arm and kind of lesion; None where it is alone.

    A patient stands for the mean over the seeds. Patients without a value are left out.

    Args:
      results: of the experiment.
      measure: one of `MEASURES`, of the maps without post-processing.
      number: of the row among `rows_of(results)`.
    """
    found, blocks = rows_of(results), {}
    rows = [found[number], *found[:number], *found[number + 1 :]]
    for arm in arms_of(settings(results)) if len(rows) > 1 else ():
        for kind, cohort in arm.patients.items():
            means = {r.name: measured(r, cohort, "raw", measure).mean(axis=0) for r in rows}
            whole = ~np.isnan(np.array(list(means.values()))).any(axis=0)
            if whole.sum() < 2:
                continue
            kept = {name: own[whole] for name, own in means.items()}
            friedman, kruskal = rank_tests.friedman_wilcoxon(kept), rank_tests.kruskal_dunn(kept)
            heading = (
                f"{in_arm(arm)}{kind} lesions, {whole.sum()} of {whole.size} patients: Friedman "
                f"p {_p(friedman.p)}, Kruskal-Wallis p {_p(kruskal.p)}"
            )
            blocks[heading] = [
                [
                    row.name,
                    _signed(friedman.pairs[rows[0].name, row.name].difference),
                    _p(friedman.pairs[rows[0].name, row.name].p_adjusted),
                    _p(kruskal.pairs[rows[0].name, row.name].p_adjusted),
                ]
                for row in rows[1:]
            ]
    if not blocks:
        return None
    caption = (
        f"{measure} of {rows[0].name}, minus that of each other method; p adjusted for all "
        f"{len(rows) * (len(rows) - 1) // 2} pairs"
    )
    header = ["against", "median difference", "Wilcoxon p, Holm", "Dunn p, Bonferroni"]
    return Table(caption, header, blocks)


def overview(results: Mapping[str, Any]) -> str:
    """Means over patients and seeds for a terminal, a few lines for each arm."""
    rows, parts = rows_of(results), []
    width = max(len(row.name) for row in rows)
    for arm in arms_of(settings(results)):
        measures = [*_OVERVIEW, "images"] if arm.controls else [*_OVERVIEW]
        names = "".join(f"{name:>8}" for name in measures)
        above = "".join(f" | {kind:^{len(names)}}" for kind in arm.patients)
        lines = [f"{row.name:<{width}}" for row in rows]
        for cohort in arm.patients.values():
            for i, means in enumerate(_means(rows, arm.controls, cohort)):
                lines[i] += " | " + "".join(f"{_number(value):>8}" for value in means)
        lines = [
            f"{arm.name:<{width}}{above}",
            " " * width + f" | {names}" * len(arm.patients),
            *lines,
        ]
        parts.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(parts)


def _means(rows: Sequence[Row], controls: str, cohort: str) -> list[list[float]]:
    """For each row the measures of `_OVERVIEW`, and with controls the AUROC of whole images."""
    means = [
        [judge.summary(measured(row, cohort, "raw", m).tolist())["mean"] for m in _OVERVIEW]
        for row in rows
    ]
    if controls:
        labels, scores = image_scores(rows, controls, cohort)
        for own, runs in zip(means, scores.values(), strict=True):
            own.append(float(np.mean([metrics.auroc(labels, scores) for scores in runs])))
    return means


def in_arm(arm: Arm) -> str:
    """The beginning of what is said about an arm; nothing where there is only one."""
    return f"{arm.name} arm, " if arm.name else ""


def _blocks(rows: Sequence[Row], lines: list[list[str]]) -> dict[str, list[list[str]]]:
    blocks: dict[str, list[list[str]]] = {}
    for row, line in zip(rows, lines, strict=True):
        blocks.setdefault("trivial baselines" if row.method in TRIVIAL else "", []).append(line)
    return blocks


def _best(means: Sequence[float]) -> float | None:
    """The largest mean as printed, so that equal looks are equal; None where all are alike."""
    printed = {round(float(mean), 3) for mean in means if not math.isnan(mean)}
    return max(printed) if len(printed) > 1 else None


def _spread(found: Mapping[str, float], best: float | None) -> str:
    if found["patients"] == 0:
        return NONE
    text = stats.format_mean_sd(found["mean"], found["sd_patients"], leading_zero=False)
    if found["sd_seeds"] > 0:
        text += f" ({_decimals(found['sd_seeds'])})"
    return Strong(text) if round(found["mean"], 3) == best else text


def _decimals(value: float) -> str:
    return stats.format_mean_sd(value, math.nan, leading_zero=False)


def _number(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # no -0.0000


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
