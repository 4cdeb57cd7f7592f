"""The tables of the brain experiment, from its results alone."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ocsvm_jax import stats
from ocsvm_jax.brain import judge, rank_tests
from ocsvm_jax.brain.measures import MEASURES
from ocsvm_jax.brain.study import arms_of
from ocsvm_jax.page import Strong, Table

NAMES = {
    "ogae": "OgAE + localised OCSVM",
    "sae": "SAE + localised OCSVM",
    "ae": "AE + localised OCSVM",
    "darkness": "darkness",
    "minus_z": "voxelwise -z",
    "mahalanobis": "local Mahalanobis, PCA-16",
}


class Row(NamedTuple):
    """One score of one method, over its seeds.

    Attributes:
      name: for people.
      method: as in the card.
      score: name of the score.
      runs: results of each seed, in the order of the seeds.
    """

    name: str
    method: str
    score: str
    runs: list[Mapping[str, Any]]


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """All rows, in the order of the runs."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in results["runs"]:
        for score, result in run["scores"].items():
            found.setdefault((run["method"], score), []).append(result)
    several = {m for m, _ in found if sum(other == m for other, _ in found) > 1}
    return [
        Row(NAMES[m] + (f", {score}" if m in several else ""), m, score, runs)
        for (m, score), runs in found.items()
    ]


def values(row: Row, cohort: str, variant: str, measure: str) -> np.ndarray:
    """(seeds, patients) of one measure."""
    return np.array([run["patients"][cohort][variant][measure] for run in row.runs], float)


def localisation(results: Mapping[str, Any], variant: str) -> list[Table]:
    """A table for each arm and kind of lesion: mean ± sd over patients; sd over seeds beside it."""
    rows, tables = rows_of(results), []
    for arm in arms_of(_data(results)):
        for kind, cohort in arm.patients.items():
            cells, patients = {}, 0
            for row in rows:
                cells[row.name] = {
                    m: judge.summary(values(row, cohort, variant, m)) for m in MEASURES
                }
                patients = cells[row.name]["AUPR"]["patients"]
            prevalence = np.nanmean(values(rows[0], cohort, variant, "prevalence"))
            best = {m: max(_shown(c[m]["mean"]) for c in cells.values()) for m in MEASURES}
            lines = [
                [name, *(_cell(c[m], _shown(c[m]["mean"]) == best[m]) for m in MEASURES)]
                for name, c in cells.items()
            ]
            of_arm = f"{arm.name} arm, " if arm.name else ""
            caption = (
                f"{of_arm}{kind} lesions, {variant}: {patients} patients, prevalence "
                f"{prevalence:.4f} (chance of AUPR). Mean ± sd over patients; in brackets the sd "
                "over seeds of the mean."
            )
            tables.append(Table(caption, ["method", *MEASURES], {"": lines}))
    return tables


def images(results: Mapping[str, Any]) -> list[Table]:
    """For each arm with controls, how well whole images are told apart, with the paired bootstrap.

    The score of an image is the 98th percentile of its map outside what is excluded.
    """
    tables = []
    data = _data(results)
    for arm in arms_of(data):
        for kind, cohort in arm.patients.items() if arm.controls else ():
            tables.append(_image_table(results, arm.name, kind, arm.controls, cohort))
    return tables


def _image_table(
    results: Mapping[str, Any], arm: str, kind: str, controls: str, cohort: str
) -> Table:
    rows = rows_of(results)
    sizes = [len(rows[0].runs[0]["images"][name]) for name in (controls, cohort)]
    labels = np.repeat([0, 1], sizes)
    scores = {
        row.name: [run["images"][controls] + run["images"][cohort] for run in row.runs]
        for row in rows
    }
    resamples = results["config"]["eval"]["resamples"]
    if len(rows) > 1:
        compared = stats.compare(labels, scores, num_resamples=resamples)["AUROC"]
        lines = []
        for row in rows:
            rival = compared.rivals.get(row.name)
            p = "best"
            if rival is not None:
                p = stats.format_p(rival.p, resamples, adjusted=rival.p_bonferroni)
            lines.append([row.name, _number(compared.values[row.name]), p])
    else:
        from ocsvm_jax.metrics import auroc

        lines = [[rows[0].name, _number(np.mean([auroc(labels, s) for s in scores[rows[0].name]])), ""]]
    of_arm = f"{arm} arm, " if arm else ""
    caption = (
        f"{of_arm}{sizes[0]} controls against {sizes[1]} patients with {kind} lesions, whole images"
    )
    return Table(caption, ["method", "AUROC", "p against the best, Bonferroni"], {"": lines})


def tests(results: Mapping[str, Any], measure: str = "AUPR") -> list[Table]:
    """Rank tests of a measure, for each arm and kind of lesion: the first row against the others.

    A patient stands for the mean over the seeds; patients without a value in some row are left out.
    """
    rows = rows_of(results)
    if len(rows) < 3:
        return []
    tables = []
    for arm in arms_of(_data(results)):
        for kind, cohort in arm.patients.items():
            means = {r.name: values(r, cohort, "raw", measure).mean(axis=0) for r in rows}
            whole = ~np.isnan(np.array(list(means.values()))).any(axis=0)
            if whole.sum() < 2:
                continue
            kept = {name: v[whole] for name, v in means.items()}
            friedman, kruskal = rank_tests.friedman_wilcoxon(kept), rank_tests.kruskal_dunn(kept)
            lines = []
            for (a, b), pair in friedman.pairs.items():
                if a == rows[0].name:
                    dunn = kruskal.pairs[a, b]
                    lines.append(
                        [b, f"{pair.difference:+.3f}", _p(pair.p_adjusted), _p(dunn.p_adjusted)]
                    )
            of_arm = f"{arm.name} arm, " if arm.name else ""
            caption = (
                f"{of_arm}{kind} lesions: {measure} of {rows[0].name} against the others. Friedman "
                f"p {_p(friedman.p)}, Kruskal-Wallis p {_p(kruskal.p)}, {whole.sum()} patients."
            )
            header = ["method", "median difference", "Wilcoxon p, Holm", "Dunn p, Bonferroni"]
            tables.append(Table(caption, header, {"": lines}))
    return tables


def _data(results: Mapping[str, Any]) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(**results["config"]["data"])


def _shown(value: float) -> float:
    return -1.0 if math.isnan(value) else round(value, 3)


def _number(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.3f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cell(found: Mapping[str, float], best: bool) -> str:
    if found["patients"] == 0:
        return "none"
    text = f"{found['mean']:.3f} ± {found['sd_patients']:.3f}"
    if found["sd_seeds"] > 0:
        text += f" ({found['sd_seeds']:.3f})"
    return Strong(text) if best else text
