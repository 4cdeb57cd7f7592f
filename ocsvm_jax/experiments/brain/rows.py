"""The rows of the tables and pictures: one per score of each method, over its seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ocsvm_jax.experiments.brain.measures import KEYS
from ocsvm_jax.experiments.brain.recipes import TRIVIAL, name_of
from ocsvm_jax.experiments.brain.records import Judged, Results


class Row(NamedTuple):
    """One score of one method, over its seeds.

    Attributes:
      name: display name.
      method: as in the card.
      score: name of the score.
      runs: evaluations by seed, in the order of the seeds.
    """

    name: str
    method: str
    score: str
    runs: list[Judged]

    def measured(
        self, cohort: str, measure: str, variant: str = "raw"
    ) -> Float[np.ndarray, "seeds n"]:
        """One of `measures.KEYS` for every patient of a cohort, NaN if a patient has no value."""
        values = np.array([run.patients[cohort][variant] for run in self.runs], float)
        return values[..., KEYS.index(measure)]


def rows_of(results: Results) -> list[Row]:
    """All rows in the order of the runs, with the trivial baselines last."""
    found: dict[tuple[str, str], list[Judged]] = {}
    for run in results.runs:
        for score, result in run.scores.items():
            found.setdefault((run.method, score), []).append(result)
    methods = [method for method, _ in found]
    rows = [
        Row(name_of(m) + (f", {score}" if methods.count(m) > 1 else ""), m, score, runs)
        for (m, score), runs in found.items()
    ]
    return sorted(rows, key=lambda row: row.method in TRIVIAL)


def image_scores(
    rows: Sequence[Row], controls: str, cohort: str
) -> tuple[Int[np.ndarray, " n"], dict[str, list[list[float]]]]:
    """Labels of whole images, 1 for patients, and their scores by row name and seed."""
    first = rows[0].runs[0].images
    labels = np.repeat([0, 1], [len(first[controls]), len(first[cohort])])
    scores = {
        row.name: [run.images[controls] + run.images[cohort] for run in row.runs] for row in rows
    }
    return labels, scores
