"""Runs the brain experiment: reads data, trains each method and seed, makes maps, reports."""

import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.brain import gallery, identity, maps, nifti_maps, records, report, study
from ocsvm_jax.experiments.brain import training as patch_training
from ocsvm_jax.experiments.brain.check import check
from ocsvm_jax.experiments.brain.judge import judge
from ocsvm_jax.experiments.brain.plan import BrainPlan, plan_of
from ocsvm_jax.experiments.brain.recipes import TRAINED, Context, mapper_of
from ocsvm_jax.experiments.brain.records import DataFacts, Results, Run, Seconds
from ocsvm_jax.experiments.brain.study import DataPlan, Study
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.reports import provenance

_RESULTS_FILE = "results.json"
# Fields that may change in a working directory: finished runs stay as they are, and NIfTI maps that
# are newly asked for are added. `data.lesion_outside` may change as long as the data that are read
# do not, see `identity`.
FREE = ("methods", "seeds", "eval.resamples", "maps.", "data.lesion_outside")


def main(config: Config, workdir: str | Path, command: str = "") -> dict[str, Any]:
    """Runs or continues the experiment in `workdir`; returns its results.

    Raises:
      ValueError: before training begins, if a value or a file is invalid, or if the runs in
        `workdir` have another configuration or other data.
    """
    began, workdir = time.perf_counter(), Path(workdir)
    check(config)
    workdirs.check(workdir, config, FREE)
    plan = plan_of(config)
    _check_runs(workdir, plan)
    with contextlib.ExitStack() as stack:
        if plan.data.dir:
            root = Path(plan.data.dir).expanduser()
        else:
            root = workdir / "phantom"
            study.check_synthetic(plan.data)
            stack.enter_context(workdirs.entered(workdir, config, None, FREE))
            generate(plan.data, root)
        space, files = study.check(root, plan.data)
        read = study.read(root, plan.data, space, files)
        identified = identity.of(read)
        if plan.data.dir:  # only now: a folder that cannot be read leaves no trace
            stack.enter_context(workdirs.entered(workdir, config, identified, FREE))
        else:
            workdirs.same_data(workdir, identified)
        context = _context(plan, read, workdir)
        results = Results(
            command=command,
            config=experiment.plain(config),
            facts=provenance.facts(),
            data=_data_facts(root, context),
            runs=[run_one(context, name, seed) for name, seed in _asked(plan)],
            wall_seconds=time.perf_counter() - began,
        )
        return _reported(context, results)


def _check_runs(workdir: Path, plan: BrainPlan) -> None:
    """Raises ValueError if the results in `workdir` hold a run that a new report would drop."""
    path, asked = workdir / _RESULTS_FILE, _asked(plan)
    there = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = [(run["method"], run["seed"]) for run in there]
    lost = [f"{name}, seed {seed}" for name, seed in runs if (name, seed) not in asked]
    workdirs.check_nothing_lost(path, lost, "--config.methods, --config.seeds")


def _asked(plan: BrainPlan) -> list[tuple[str, int]]:
    """Method and seed of every run."""
    return [
        (name, seed) for name in plan.methods for seed in (plan.seeds if name in TRAINED else (0,))
    ]


def _context(plan: BrainPlan, read: Study, workdir: Path) -> Context:
    train, held_out = (read.cohorts[name] for name in (plan.design.train, plan.design.held_out))
    feed = patch_training.feed_of(train.images, train.masks, held_out.images, held_out.masks)
    return Context(plan, read, feed, maps.locations_of(train, plan.data.present), workdir)


def _reported(context: Context, results: Results) -> dict[str, Any]:
    """Writes the results and their report; returns the content of `results.json`."""
    workdir, content = context.workdir, records.to_json(results)
    records.write(workdir / _RESULTS_FILE, content)
    drawn = gallery.draw(workdir, results, context.study, context.locations)
    made = report.report_of(results, drawn)
    path = made.write(workdir, figures=report.FIGURES, markdown="table.md")
    print(report.text(results))
    print(f"report: {path}")
    return content


def generate(data: DataPlan, root: Path) -> None:
    """Writes the synthetic population into `root`, or the part of it that is missing."""
    from ocsvm_jax.data.phantom import generate

    lesions = Path(data.lesions).expanduser() if data.lesions else None
    generate(root, profile=data.profile, seed=data.phantom_seed, lesion_masks=lesions)


def run_one(context: Context, name: str, seed: int) -> Run:
    """Trains one method with one seed, makes its maps and judges them.

    A finished run is read from its `result.json` and not repeated.

    Args:
      context: shared by all runs.
      name: row name, see `recipes.RECIPES`.
      seed: training seed.

    Returns:
      The content of `runs/<name>-seed<k>/result.json`.
    """
    plan, read, locations = context.plan, context.study, context.locations
    directory = context.workdir / "runs" / f"{name}-seed{seed}"
    done = directory / "result.json"
    tested = [read.cohorts[n] for n in plan.design.mapped]
    wanted = plan.maps.nifti == "all" or (
        plan.maps.nifti == "first_seed" and (name not in TRAINED or seed == plan.seeds[0])
    )
    if done.exists():
        run = records.run_from_json(json.loads(done.read_text()))
        if wanted:
            nifti_maps.write(directory, list(run.scores), read, tested, locations)
        return run
    directory.mkdir(parents=True, exist_ok=True)
    times = [time.perf_counter()]
    mapper, history = mapper_of(context, name, seed, directory)
    times.append(time.perf_counter())
    scores = maps.make_maps(
        mapper,
        read.cohorts[plan.design.train],
        tested,
        locations,
        directory / "maps",
        block=plan.maps.block or None,
        label=f"{name} seed {seed}",
    )
    times.append(time.perf_counter())
    judged = {score: judge(plan, read, locations, values) for score, values in scores.items()}
    times.append(time.perf_counter())
    seconds = Seconds(*(end - start for start, end in itertools.pairwise(times)))
    run = Run(name, seed, history, provenance.facts(), judged, seconds)
    if wanted:
        nifti_maps.write(directory, scores, read, tested, locations)
    records.write(done, records.run_to_json(run))
    return run


def _data_facts(root: Path, context: Context) -> DataFacts:
    """Counts, and for a synthetic population its description with SHA-256 sums."""
    described = root / "phantom.json"
    return DataFacts(
        subjects={name: len(c.subjects) for name, c in context.study.cohorts.items()},
        locations=int(context.locations.sum()),
        slices=len(context.study.space.slices),
        synthetic=json.loads(described.read_text()) if described.exists() else None,
    )
