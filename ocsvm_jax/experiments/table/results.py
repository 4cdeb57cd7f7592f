"""From the runs of a search to the results: the record, and what the pictures are drawn from."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ocsvm_jax import data
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.table import judge, outcome, report, runs, search
from ocsvm_jax.experiments.table.rows import Row
from ocsvm_jax.reports import provenance

_PAPER_TASK = {
    "name": "mnist_c",
    "normal": [3],
    "anomalies": [8],
    "train_corruptions": ["identity", "motion_blur", "translate"],
    "test_corruptions": ["stripe", "canny_edges", "brightness"],
}


def of_search(
    config: Config,
    made: runs.Runs,
    specs: Sequence[runs.Spec],
    rows: Sequence[Row],
    finals: Mapping[str, Final],
    sets: Mapping[str, data.Dataset],
    train: data.ImageSet,
) -> tuple[dict[str, Any], report.PicturesData]:
    """Chooses, tests, compares; what the report is made of."""
    table = config.table
    test = {name: found.test for name, found in sets.items()}
    results: dict[str, dict[str, outcome.RowResult]] = {row.name: {} for row in rows}
    for row in rows:
        own = [spec for spec in specs if spec.method == row.method]
        for protocol in sets:
            choice = search.choose(config, made.ensure, own, row, protocol)
            results[row.name][protocol] = outcome.row_result(
                made, row, protocol, choice, finals, test[protocol]
            )
    resampled = {
        protocol: outcome.resample(
            images,
            {name: by_protocol[protocol] for name, by_protocol in results.items()},
            config.eval.resamples,
        )
        for protocol, images in test.items()
    }

    def comparisons(names: Collection[str]) -> dict[str, Any]:
        return {
            protocol: outcome.comparisons(drawn, names, table.alpha)
            for protocol, drawn in resampled.items()
        }

    maps = _latent_maps(config, made, results, test)
    paper_task = all(experiment.plain(config)["data"][k] == v for k, v in _PAPER_TASK.items())
    record = {
        "title": _title(config),
        "facts": provenance.facts(),
        "config": experiment.plain(config),
        "seeds": list(table.seeds),
        "resamples": config.eval.resamples,
        "alpha": table.alpha,
        "rows": [outcome.row_record(row, results[row.name], paper_task) for row in rows],
        "comparisons": comparisons(list(results)),
        "comparisons_of_paper": comparisons([row.name for row in rows if row.group == "paper"]),
        "guide": search.guide(config),
        "visited": outcome.visited(made, specs, search.guide(config)),
        "prevalence": outcome.prevalence(test),
        "counts": outcome.counts(
            config,
            train,
            {f"{p} valid": s.valid for p, s in sets.items()}
            | {f"{p} test": s.test for p, s in sets.items()},
        ),
    }
    return record, report.PicturesData(outcome.pictures_inputs(test, results), maps)


def _latent_maps(
    config: Config,
    made: runs.Runs,
    results: Mapping[str, Mapping[str, outcome.RowResult]],
    test: Mapping[str, data.ImageSet],
) -> dict[str, Any]:
    """The latents of the first run of every row; rows of one run share a map."""
    if config.method.latent_dim < 2:
        return {}
    protocol = config.table.protocols[0]
    rows: dict[str, list[str]] = {}
    specs: dict[str, runs.Spec] = {}
    for name, by_protocol in results.items():
        for spec in by_protocol[protocol].choice.specs[:1]:
            rows.setdefault(spec.name, []).append(name)
            specs[spec.name] = spec
    return {
        ", ".join(names): judge.plane(
            made.model(specs[run]), made.train_images(specs[run]), test[protocol]
        )
        for run, names in rows.items()
    }


def _title(config: Config) -> str:
    def classes(values: Sequence[int]) -> str:
        return ", ".join(map(str, values))

    task = f"{classes(config.data.normal)} against {classes(config.data.anomalies)}"
    return f"{config.data.name}, {task}" + (", quick profile" if config.quick else "")
