"""From the runs of a search to its results: the record, and the arrays behind the pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from ocsvm_jax import data
from ocsvm_jax.evaluation import comparison, over_seeds
from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import judge, search
from ocsvm_jax.experiments.table.by_domain import Grouped, grouped
from ocsvm_jax.experiments.table.latent_maps import LatentMap
from ocsvm_jax.experiments.table.plan import TablePlan
from ocsvm_jax.experiments.table.record import (
    Compared,
    ComparedOverSeeds,
    RowRecord,
    RunRecord,
    TableRecord,
    Visit,
)
from ocsvm_jax.experiments.table.report import PicturesData
from ocsvm_jax.experiments.table.rows import Row
from ocsvm_jax.experiments.table.runs import Runs
from ocsvm_jax.experiments.table.store import Spec
from ocsvm_jax.experiments.table.testing import Tested, test_row
from ocsvm_jax.reports import provenance

_PAPER_TASK = {
    "name": "mnist_c",
    "normal": [3],
    "anomalies": [8],
    "train_corruptions": ["identity", "motion_blur", "translate"],
    "test_corruptions": ["stripe", "canny_edges", "brightness"],
}
_COMPARISONS = ("comparisons", "comparisons_of_paper", "over_seeds", "over_seeds_of_paper")
# By row and protocol.
_AllTested = Mapping[str, Mapping[str, Tested]]
_TestSets = Mapping[str, data.ImageSet]


def of_search(
    runs: Runs, specs: Sequence[Spec], sets: Mapping[str, data.Dataset], command: str
) -> tuple[TableRecord, PicturesData]:
    """Chooses settings, tests and compares the rows; returns the contents of the report.

    Args:
      runs: the trained runs.
      specs: specs of the runs of the search.
      sets: the dataset of each protocol.
      command: the command line.
    """
    plan, test = runs.plan, {name: found.test for name, found in sets.items()}
    folder = runs.store.workdir / "test"
    groups = {name: grouped(found, folder / name / "domains.npz") for name, found in sets.items()}
    tested = _test_all(runs, specs, sets, groups)
    paper_task = all(plan.config["data"][k] == v for k, v in _PAPER_TASK.items())
    record = TableRecord(
        title=plan.title,
        command=command,
        facts=provenance.facts(),
        config=plan.config,
        seeds=plan.seeds,
        resamples=plan.resamples,
        alpha=plan.alpha,
        rows=[_row_record(row, tested[row.name], paper_task) for row in plan.rows],
        visited=_visited(runs, specs),
        counts=_counts(runs, sets),
        wall_seconds=None,
        guide=plan.guide,
        prevalence={name: float(images.anomalous.mean()) for name, images in test.items()},
        domains={name: groups[name].describe(found) for name, found in sets.items()},
        **_compare_all(plan, test, tested),
    )
    roc = {
        protocol: {
            row: [(images.anomalous, scores) for scores in own[protocol].scores]
            for row, own in tested.items()
            if own[protocol].scores
        }
        for protocol, images in test.items()
    }
    return record, PicturesData(roc, _latent_maps(runs, tested, test))


def _test_all(
    runs: Runs,
    specs: Sequence[Spec],
    sets: Mapping[str, data.Dataset],
    groups: Mapping[str, Grouped],
) -> dict[str, dict[str, Tested]]:
    """Chooses the settings of each row under each protocol, and tests them."""
    out: dict[str, dict[str, Tested]] = {}
    for row in runs.plan.rows:
        own = [spec for spec in specs if spec.method == row.method]
        out[row.name] = {}
        for protocol, dataset in sets.items():
            choice = search.choose(runs.plan, runs.ensure, own, row, protocol)
            out[row.name][protocol] = test_row(
                runs, row, protocol, choice, dataset, groups[protocol]
            )
    return out


def _compare_all(plan: TablePlan, test: _TestSets, tested: _AllTested) -> dict[str, Any]:
    """The four comparisons of a record, each by protocol: over images and over seeds.

    Rows without a result are left out; fewer than two rows are not compared.
    """
    out: dict[str, dict[str, Any]] = {name: {} for name in _COMPARISONS}
    for protocol, images in test.items():
        scores = {row: own[protocol].scores for row, own in tested.items() if own[protocol].scores}
        paper = [row.name for row in plan.rows if row.name in scores and row.group == "paper"]
        for found in out.values():
            found[protocol] = {}
        if len(scores) < 2:
            continue
        labels, number = images.anomalous, plan.resamples
        of_images = comparison.resample(labels, scores, num_resamples=number)
        of_seeds = over_seeds.resample(labels, scores, clusters=images.digit, num_resamples=number)
        for ending, rows in (("", list(scores)), ("_of_paper", paper)):
            if len(rows) < 2:
                continue
            compared = comparison.among(of_images, rows, alpha=plan.alpha)
            out[f"comparisons{ending}"][protocol] = {
                metric: Compared(c.best, c.rivals) for metric, c in compared.items()
            }
            compared = over_seeds.among(of_seeds, rows, alpha=plan.alpha)
            out[f"over_seeds{ending}"][protocol] = {
                metric: ComparedOverSeeds(c.best, c.rivals) for metric, c in compared.items()
            }
    return out


def _row_record(row: Row, tested: Mapping[str, Tested], paper_task: bool) -> RowRecord:
    """The record of a row, with published values only if this is the paper's task."""
    published = row.published if paper_task else None
    paper = published and dict[str, float](zip(METRICS, published, strict=True))
    results = {protocol: own.result for protocol, own in tested.items()}
    return RowRecord(row.name, row.words, row.group, paper, results)


def _visited(runs: Runs, specs: Sequence[Spec]) -> list[Visit]:
    """The runs of a search, each once.

    Includes runs that only earlier calls in this directory requested, at the stage "earlier": their
    validation results have been seen, too.
    """
    now = {spec.name: spec for spec in specs}
    records = zip(now.values(), runs.ensure(list(now.values())), strict=True)
    earlier = {n: r for n, r in runs.store.every_judged().items() if n not in now}
    guide = runs.plan.guide
    return [_visit(record, spec.stage, guide) for spec, record in records] + [
        _visit(record, "earlier", guide) for record in earlier.values()
    ]


def _visit(record: RunRecord, stage: str, guide: str) -> Visit:
    valid = {name: values["AUROC"] for name, values in record.valid.get(guide, {}).items()}
    status = "collapsed" if "distance" in record.collapsed else record.status
    shared = {name: getattr(record, name) for name in Visit._fields if name in record._fields}
    return Visit(**shared | {"stage": stage, "status": status, "valid": valid})


def _counts(runs: Runs, sets: Mapping[str, data.Dataset]) -> dict[str, int]:
    """Number of images in each part."""
    trained, held_out = runs.rows(0)
    return (
        {"train": len(trained), "held out": len(held_out)}
        | {f"{name} valid": len(found.valid.images) for name, found in sets.items()}
        | {f"{name} test": len(found.test.images) for name, found in sets.items()}
    )


def _latent_maps(runs: Runs, tested: _AllTested, test: _TestSets) -> dict[str, LatentMap]:
    """Latents of the first run of every row; rows that share a run share a map."""
    protocol = runs.plan.protocols[0]
    shown = {row: own[protocol].specs[0] for row, own in tested.items() if own[protocol].specs}
    settings = runs.plan.settings
    # A plane needs two dimensions.
    shown = {row: s for row, s in shown.items() if settings[s.method]["latent_dim"] > 1}
    out = {}
    for name, spec in {spec.name: spec for spec in shown.values()}.items():
        rows = ", ".join(row for row, own in shown.items() if own.name == name)
        images = runs.train_images(spec)
        out[rows] = LatentMap(*judge.plane(runs.model(spec), images, test[protocol]))
    return out
