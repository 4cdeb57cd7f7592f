"""From the chosen runs to the results: the test images are scored here, and nowhere else.

A table that grew after its test images were scored may choose anew. The choices scored are kept
beside the scores, so that the report can say whose test images were scored more than once.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from ocsvm_jax import data
from ocsvm_jax.evaluation import comparison as stats
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import judge
from ocsvm_jax.experiments.table.rows import Row
from ocsvm_jax.experiments.table.runs import Runs, Spec
from ocsvm_jax.experiments.table.search import Choice
from ocsvm_jax.files import whole_file

Scores = list[np.ndarray]


class RowResult(NamedTuple):
    """One row under one protocol.

    Attributes:
      choice: what was chosen on validation.
      scores: (n,) test scores of each run with a result; not in the results file.
      summary: the JSON of this row and protocol, see `ocsvm_jax.experiments.table.report.write`.
    """

    choice: Choice
    scores: Scores
    summary: dict[str, Any]


def row_result(
    runs: Runs,
    row: Row,
    protocol: str,
    choice: Choice,
    finals: Mapping[str, Final],
    test: data.ImageSet,
) -> RowResult:
    """Scores the test images with every run of a choice, and sums up."""
    settings = {f"method.{name}": value for name, value in choice.point.items()}
    if choice.final is not None:
        settings |= {
            f"final.{name}": value for name, value in finals[choice.final]._asdict().items()
        }
    before = _note_choice(runs.workdir / "test" / protocol / "choices.json", row.name, settings)
    scores = test_scores(runs, row, protocol, choice, finals, test)
    summary: dict[str, Any] = {
        "settings": settings,
        "scored_before": before,
        "valid": _stats(choice.valid),
        "test": _stats([judge.figures_of(test.anomalous, values) for values in scores]),
        "by_corruption": _by_corruption(test, scores),
        "ensemble": (
            judge.figures_of(test.anomalous, mean_rank(scores)) if len(scores) > 1 else None
        ),
        "seeds": [spec.seed for spec in choice.specs],
        "collapsed": choice.collapsed,
        "diverged": choice.diverged,
        "unconverged": [
            spec.seed
            for spec in choice.specs
            if choice.final in (_finished(runs, spec).get("unconverged") or [])
        ],
        "dimensions": _stat([_dimensions(runs, spec) for spec in choice.specs]),
    }
    return RowResult(choice, scores, summary)


def mean_rank(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The score of several models as one detector: the mean of an image's ranks under each.

    Ranks, because scores of models trained apart are on scales of their own.

    Args:
      scores: (n,) of each model, of the same images.
    """
    return np.mean([rankdata(values) for values in scores], axis=0)


def _note_choice(path: Path, row: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Notes that these settings are scored now; returns others that were scored before."""
    choices = json.loads(path.read_text()) if path.exists() else {}
    scored = choices.setdefault(row, [])
    if settings not in scored:
        scored.append(settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps(choices, indent=1).encode())
    return [other for other in scored if other != settings]


def test_scores(
    runs: Runs,
    row: Row,
    protocol: str,
    choice: Choice,
    finals: Mapping[str, Final],
    test: data.ImageSet,
) -> Scores:
    """The test scores of each run of a choice, kept on disk and not computed twice."""
    final = None if choice.final is None else finals[choice.final]
    out = []
    for spec in choice.specs:
        path = scores_file(runs.workdir, protocol, spec, row, choice.final)
        if not path.exists():
            images = runs.train_images(spec).images
            values = judge.on_test(runs.model(spec), row.score, final, images, test.images)
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                np.savez_compressed(file, scores=values)  # pyright: ignore[reportArgumentType]
        with np.load(path) as kept:
            out.append(kept["scores"])
    return out


def scores_file(workdir: Path, protocol: str, spec: Spec, row: Row, final: str | None) -> Path:
    """Where the test scores of a run are kept; `final` is the name of its final one-class SVM."""
    key = json.dumps([spec.name, row.score, final])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return workdir / "test" / protocol / f"{digest}.npz"


def resample(
    test: data.ImageSet, results: Mapping[str, RowResult], resamples: int
) -> stats.Resampled:
    """The paired resamples of the test images, of all rows with a result; empty for less than two.

    They serve every comparison among the rows.
    """
    scores = {name: result.scores for name, result in results.items() if result.scores}
    if len(scores) < 2:
        return stats.Resampled({}, {})
    return stats.resample(test.anomalous, scores, num_resamples=resamples)


def comparisons(resampled: stats.Resampled, rows: Collection[str], alpha: float) -> dict[str, Any]:
    """The paired bootstrap of the best of these rows against the others, for each metric.

    Rows without a result are left out; empty if fewer than two are left.
    """
    found = [name for name in next(iter(resampled.values.values()), {}) if name in rows]
    if len(found) < 2:
        return {}
    return {
        metric: {
            "best": comparison.best,
            "rivals": {
                name: {
                    "difference": rival.difference,
                    "low": rival.low,
                    "high": rival.high,
                    "p": rival.p,
                    "bonferroni": rival.p_bonferroni,
                    "holm": rival.p_holm,
                    "significant": bool(rival.significant),
                }
                for name, rival in comparison.rivals.items()
            },
        }
        for metric, comparison in stats.among(resampled, found, alpha=alpha).items()
    }


def row_record(row: Row, results: Mapping[str, RowResult], published: bool) -> dict[str, Any]:
    """The JSON of a row; the paper's figures only where they are of this task."""
    figures = row.published if published else None
    return {
        "name": row.name,
        "score": row.words,
        "group": row.group,
        "paper": None if figures is None else dict(zip(METRICS, figures, strict=True)),
        "protocols": {protocol: result.summary for protocol, result in results.items()},
    }


def visited(runs: Runs, specs: Sequence[Any], guide: str) -> list[dict[str, Any]]:
    """The runs of a search, each once, with the validation AUROC of every score.

    Those that earlier calls in the directory have searched are among them, at the stage "earlier".

    Args:
      runs: where they are.
      specs: the runs of this call's search.
      guide: the protocol whose validation images the search went by.
    """
    out = []
    for spec in {spec.name: spec for spec in specs}.values():
        record = _finished(runs, spec)
        out.append(_visit(record | {"stage": spec.stage}, guide))
    now = {(v["method"], str(v["settings"]), v["seed"], v["epochs"]) for v in out}
    earlier = [_visit(record, guide) for record in runs.all_finished()]
    # What an earlier call searched by another grid was looked at on validation all the same.
    return out + [
        visit | {"stage": "earlier"}
        for visit in earlier
        if (visit["method"], str(visit["settings"]), visit["seed"], visit["epochs"]) not in now
    ]


def _visit(record: Mapping[str, Any], guide: str) -> dict[str, Any]:
    """What the results say of a run."""
    figures = record["valid"].get(guide, {})
    kept = ("method", "settings", "seed", "epochs", "epochs_done", "best_epoch", "seconds", "stage")
    return (
        {name: record[name] for name in kept}
        | {"status": "collapsed" if "distance" in record["collapsed"] else record["status"]}
        | {name: record.get(name) for name in ("dimensions", "commit", "unconverged")}
        | {"valid": {name: figure["AUROC"] for name, figure in figures.items()}}
    )


def pictures_inputs(
    test: Mapping[str, data.ImageSet], results: Mapping[str, Mapping[str, RowResult]]
) -> dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Labels and scores of every run, by protocol and row, for the ROC curves."""
    return {
        protocol: {
            name: [(test[protocol].anomalous, values) for values in by_protocol[protocol].scores]
            for name, by_protocol in results.items()
            if by_protocol[protocol].scores
        }
        for protocol in test
    }


def prevalence(test: Mapping[str, data.ImageSet]) -> dict[str, float]:
    """Share of anomalous test images by protocol: the chance level of AUPR."""
    return {protocol: float(images.anomalous.mean()) for protocol, images in test.items()}


def counts(config: Config, train: data.ImageSet, sets: Mapping[str, data.ImageSet]) -> dict:
    """How many images each part has."""
    kept, held = data.holdout_rows(len(train.images), config.train.held_out, 0)
    parts = {"train": len(kept), "held out": len(held)}
    return parts | {name: len(images.images) for name, images in sets.items()}


def _dimensions(runs: Runs, spec: Any) -> float:
    return float(_finished(runs, spec)["dimensions"])


def _finished(runs: Runs, spec: Any) -> dict[str, Any]:
    record = runs.finished(spec)
    assert record is not None, "a run that was searched is finished"
    return record


def _by_corruption(test: data.ImageSet, scores: Scores) -> dict[str, Any]:
    out = {}
    for name in dict.fromkeys(test.corruption.tolist()):
        chosen = test.corruption == name
        if len(np.unique(test.anomalous[chosen])) == 2:
            labels = test.anomalous[chosen]
            out[name] = _stat([metrics.auroc(labels, values[chosen]) for values in scores])
    return {name: stat for name, stat in out.items() if stat is not None}


def _stats(figures: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    if not figures:
        return None
    return {metric: _stat([figure[metric] for figure in figures]) for metric in METRICS}


def _stat(values: Sequence[float]) -> dict[str, Any] | None:
    if not len(values):
        return None
    mean, sd = stats.mean_sd(values)
    return {"mean": mean, "sd": None if np.isnan(sd) else sd, "values": list(map(float, values))}
