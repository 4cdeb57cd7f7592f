"""Scores the test images: the only module of a table that does.

A table that is extended after its test images were scored may choose other settings. Scored choices
are kept beside the scores, so that the report can name rows that were tested more than once.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from ocsvm_jax import data
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.density import DENSITY_SCORES
from ocsvm_jax.evaluation.final import family, score_name
from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import judge, search
from ocsvm_jax.experiments.table.by_domain import Grouped
from ocsvm_jax.experiments.table.kept_scores import KeptScores, scores_of
from ocsvm_jax.experiments.table.record import ProtocolResult
from ocsvm_jax.experiments.table.rows import Row
from ocsvm_jax.experiments.table.runs import Runs
from ocsvm_jax.experiments.table.search import Choice
from ocsvm_jax.experiments.table.store import Spec
from ocsvm_jax.files import write_json
from ocsvm_jax.reports.numbers import Stat, stat_of

Scores = list[Float[np.ndarray, " n"]]


class Tested(NamedTuple):
    """Test scores and result of one row under one protocol.

    Attributes:
      specs: the runs with a result.
      scores: (n,) test scores of each of these runs; not in the results file.
      result: the record in the results file.
    """

    specs: Sequence[Spec]
    scores: Scores
    result: ProtocolResult


def test_row(
    runs: Runs,
    row: Row,
    protocol: str,
    choice: Choice,
    dataset: data.Dataset,
    groups: Grouped,
) -> Tested:
    """Scores the test images with every run of a choice, and summarises the scores."""
    settings = {f"method.{name}": value for name, value in choice.point.items()}
    if choice.final is not None:
        final = runs.plan.finals[choice.final]
        settings |= {f"final.{name}": value for name, value in final._asdict().items()}
    choices = runs.store.workdir / "test" / protocol / "choices.json"
    scored_before = note_choice(choices, row.name, settings)
    name, others = score_name(row.score, choice.final), _other_scores(choice, protocol)
    kept = [scores_of(runs, s, protocol, {name, *others}, dataset) for s in choice.specs]
    scores, test = [run["test"][name] for run in kept], dataset.test
    unconverged = [choice.final in (record.unconverged or ()) for record in choice.records]
    dimensions = [run.dimensions for run in choice.records if run.dimensions is not None]
    together = judge.metrics_of(test.anomalous, mean_rank(scores)) if len(scores) > 1 else None
    result = ProtocolResult(
        settings=settings,
        valid=_stats(choice.valid),
        test=_test_stats(test, scores),
        by_corruption=_by_corruption(test, scores),
        collapsed=choice.collapsed,
        diverged=choice.diverged,
        seeds=[spec.seed for spec in choice.specs],
        unconverged=[s.seed for s, short in zip(choice.specs, unconverged, strict=True) if short],
        scored_before=scored_before,
        ensemble=together,
        dimensions=stat_of(dimensions) if dimensions else None,
        latent_scores=_of_latents(test, kept, others),
        by_domain=_test_stats(
            test, [groups.normalized(run["valid"][name], run["test"][name]) for run in kept]
        ),
    )
    return Tested(choice.specs, scores, result)


def _other_scores(choice: Choice, protocol: str) -> list[str]:
    """Names of the scores to report beside that of a row: all on the same latents."""
    final = search.best_final(choice, protocol)
    return [*DENSITY_SCORES, *([score_name("ocsvm", final)] if final else [])]


def _of_latents(
    test: data.ImageSet, kept: Sequence[KeptScores], names: Sequence[str]
) -> dict[str, dict[str, Stat]]:
    stats = {family(n): _test_stats(test, [run["test"][n] for run in kept]) for n in names}
    return {name: found for name, found in stats.items() if found is not None}


def mean_rank(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The score of several models as one detector: the mean rank of each image over the models.

    Ranks, because scores of separately trained models differ in scale.

    Args:
      scores: (n,) scores of the same images under each model.
    """
    return np.mean([rankdata(values) for values in scores], axis=0)


def note_choice(path: Path, row: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Records that these settings are scored now; returns others that were scored before."""
    choices = json.loads(path.read_text()) if path.exists() else {}
    scored = choices.setdefault(row, [])
    if settings not in scored:
        scored.append(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, choices)
    return [other for other in scored if other != settings]


def _by_corruption(test: data.ImageSet, scores: Scores) -> dict[str, Stat]:
    out = {}
    for name in dict.fromkeys(test.corruption.tolist()):
        chosen = test.corruption == name
        labels = test.anomalous[chosen]
        if scores and len(np.unique(labels)) == 2:
            out[name] = stat_of([metrics.auroc(labels, values[chosen]) for values in scores])
    return out


def _test_stats(test: data.ImageSet, scores: Scores) -> dict[str, Stat] | None:
    return _stats([judge.metrics_of(test.anomalous, values) for values in scores])


def _stats(runs: Sequence[Mapping[str, float]]) -> dict[str, Stat] | None:
    """Mean and sd of each metric over the runs; None without runs."""
    return {metric: stat_of([run[metric] for run in runs]) for metric in METRICS} if runs else None
