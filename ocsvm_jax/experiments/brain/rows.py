"""The rows of the tables and figures: one for each score of each method, over its seeds."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

NAMES = {
    "ogae": "OgAE + localised OCSVM",
    "sae": "SAE + localised OCSVM",
    "ae": "AE + localised OCSVM",
    "pca": "PCA-16 + localised OCSVM",
    "ogae_paper": "OgAE + localised OCSVM, the paper's settings",
    "sae_paper": "SAE + localised OCSVM, the paper's settings",
    "darkness": "darkness",
    "minus_z": "voxelwise -z",
    "mahalanobis": "local Mahalanobis, PCA-16",
}
TRIVIAL = ("darkness", "minus_z", "mahalanobis")


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
    """All rows in the order of the runs, those of the trivial baselines last."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for run in results["runs"]:
        for score, result in run["scores"].items():
            found.setdefault((run["method"], score), []).append(result)
    methods = [method for method, _ in found]
    rows = [
        Row(name_of(m) + (f", {score}" if methods.count(m) > 1 else ""), m, score, runs)
        for (m, score), runs in found.items()
    ]
    return sorted(rows, key=lambda row: row.method in TRIVIAL)


def name_of(method: str) -> str:
    """The name of a method for people."""
    return NAMES.get(method, method)


def settings(results: Mapping[str, Any]) -> Any:
    """The `data` of the card behind the results, with its fields as attributes."""
    return SimpleNamespace(**results["config"]["data"])


def measured(row: Row, cohort: str, variant: str, measure: str) -> Float[np.ndarray, "seeds n"]:
    """One measure of every patient of a cohort, NaN where a patient has no value."""
    return np.array([run["patients"][cohort][variant][measure] for run in row.runs], float)


def image_scores(
    rows: Sequence[Row], controls: str, cohort: str
) -> tuple[Int[np.ndarray, " n"], dict[str, list[list[float]]]]:
    """Labels of whole images, 1 for patients, and for each row the scores of them, by seed."""
    first = rows[0].runs[0]["images"]
    labels = np.repeat([0, 1], [len(first[controls]), len(first[cohort])])
    scores = {
        row.name: [run["images"][controls] + run["images"][cohort] for run in row.runs]
        for row in rows
    }
    return labels, scores
