"""The whole experiment: data, training of each method and seed, maps, measures, report."""

import contextlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optax

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.brain import identity, judge, maps, nifti_maps, report, study
from ocsvm_jax.experiments.brain import training as patch_training
from ocsvm_jax.experiments.brain.check import check
from ocsvm_jax.experiments.brain.mappers import BASELINES, Mapper, localized_ocsvm, pca_ocsvm
from ocsvm_jax.experiments.brain.methods import (
    PAPER_FINAL,
    PAPER_METHOD,
    PAPER_ROWS,
    PAPER_TRAIN,
    PATCH_METHODS,
)
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.experiments.brain.training import PatchFeed
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.files import whole_file
from ocsvm_jax.networks.pair import Network, from_flax
from ocsvm_jax.networks.patch import PatchDecoder, PatchEncoder
from ocsvm_jax.reports import provenance
from ocsvm_jax.training.epoch import kept_state

# Those with something to train, once a seed.
TRAINED = (*PATCH_METHODS, *PAPER_ROWS)
_RESULTS_FILE = "results.json"
# What may change in a working directory: what is there already stays what it is. NIfTI maps that
# are newly wanted are added. What is done about lesions outside the brain may change as long as the
# data that are read do not, see `identity`.
FREE = ("methods", "seeds", "eval.resamples", "maps.", "data.lesion_outside")


def main(config: Config, workdir: str | Path, command: str = "") -> dict[str, Any]:
    """Runs the experiment in `workdir`, or goes on with it there; returns its results.

    Raises:
      ValueError: on a value or a file that can not work, or where the runs in `workdir` are of
        another configuration or other data; before training begins.
    """
    began, workdir = time.perf_counter(), Path(workdir)
    check(config)
    workdirs.check(workdir, config, FREE)
    _check_runs(workdir, config)
    with contextlib.ExitStack() as stack:
        if config.data.dir:
            root = Path(config.data.dir).expanduser()
        else:
            root = workdir / "phantom"
            study.check_synthetic(config.data)
            stack.enter_context(workdirs.entered(workdir, config, None, FREE))
            generate(config, root)
        space, files = study.check(root, config.data)
        read = study.read(root, config.data, space, files)
        identified = identity.of(read)
        if config.data.dir:  # not before: a folder that cannot be read leaves no trace
            stack.enter_context(workdirs.entered(workdir, config, identified, FREE))
        else:
            workdirs.same_data(workdir, identified)
        return _whole(config, root, read, workdir, command, began)


def _check_runs(workdir: Path, config: Config) -> None:
    """Raises ValueError if the results there hold a run that a new report would drop."""
    path, asked = workdir / _RESULTS_FILE, _asked(config)
    there = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = [(run["method"], run["seed"]) for run in there]
    lost = [f"{name}, seed {seed}" for name, seed in runs if (name, seed) not in asked]
    workdirs.check_nothing_lost(path, lost, "--config.methods, --config.seeds")


def _asked(config: Config) -> list[tuple[str, int]]:
    """Method and seed of every run."""
    return [
        (name, seed)
        for name in config.methods
        for seed in (config.seeds if name in TRAINED else (0,))
    ]


def _whole(
    config: Config, root: Path, read: Study, workdir: Path, command: str, began: float
) -> dict[str, Any]:
    """Trains, maps, judges and reports, in a directory that is this call's own."""
    train, held_out = (read.cohorts[config.data[name]] for name in ("train", "held_out"))
    feed = patch_training.feed_of(train.images, train.masks, held_out.images, held_out.masks)
    locations = maps.locations_of(train, config.data.present)

    runs = [
        run_one(config, read, feed, locations, name, seed, workdir) for name, seed in _asked(config)
    ]
    results = {
        "command": command,
        "config": experiment.plain(config),
        "facts": provenance.facts(),
        "data": describe_data(root, read, locations),
        "runs": runs,
        "wall_seconds": time.perf_counter() - began,
    }
    with whole_file(workdir / _RESULTS_FILE) as file:
        file.write((json.dumps(results, indent=1) + "\n").encode())
    path = report.write(workdir, results, read, locations)
    print(report.text(results))
    print(f"report: {path}")
    return results


def generate(config: Config, root: Path) -> None:
    """Writes the synthetic population into the working directory, or what is missing of it."""
    from ocsvm_jax.data.phantom import generate

    lesions = Path(config.data.lesions).expanduser() if config.data.lesions else None
    generate(root, profile=config.data.profile, seed=config.data.phantom_seed, lesion_masks=lesions)


def run_one(
    config: Config,
    read: Study,
    feed: PatchFeed,
    locations: np.ndarray,
    name: str,
    seed: int,
    workdir: Path,
) -> dict[str, Any]:
    """Trains one method with one seed, makes its maps and judges them; once, however often asked.

    Returns:
      What `runs/<name>-seed<k>/result.json` holds.
    """
    directory = workdir / "runs" / f"{name}-seed{seed}"
    done = directory / "result.json"
    tested = [read.cohorts[n] for n in study.cohort_names(config.data)[1:]]
    wanted = config.maps.nifti == "all" or (
        config.maps.nifti == "first_seed" and (name not in TRAINED or seed == config.seeds[0])
    )
    if done.exists():
        result = json.loads(done.read_text())
        if wanted:
            nifti_maps.add(directory, result["scores"], read, tested, locations)
        return result
    directory.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    mapper, history = mapper_of(config, feed, name, seed, directory)
    trained = time.perf_counter()
    scores = maps.make_maps(
        mapper,
        read.cohorts[config.data.train],
        tested,
        locations,
        directory / "maps",
        block=config.maps.block,
        label=f"{name} seed {seed}",
    )
    mapped = time.perf_counter()
    result = {
        "method": name,
        "seed": seed,
        "history": history,
        "facts": provenance.facts(),
        "scores": {
            score: judge_score(config, read, locations, values) for score, values in scores.items()
        },
        "seconds": {
            "training": trained - began,
            "maps": mapped - trained,
            "judging": time.perf_counter() - mapped,
        },
    }
    if wanted:
        nifti_maps.write(directory / "nifti", scores, read, tested, locations)
    with whole_file(done) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    return result


def mapper_of(
    config: Config, feed: PatchFeed, name: str, seed: int, directory: Path
) -> tuple[Mapper, list[dict[str, Any]]]:
    """The mapper of a method, trained where it has something to train, and its history."""
    if name in BASELINES:
        return BASELINES[name](feed, seed), []
    settings, final = settings_of(config, name)
    if name == "pca":
        return pca_ocsvm(feed, seed, final, settings.centre_sd), []
    method, network = build(config, name)
    run, history = patch_training.train(
        method,
        feed,
        seed=seed,
        epochs=config.train.epochs,
        steps=config.train.steps,
        locations=config.train.locations,
        patience=config.train.patience,
        checkpoint_every=config.train.checkpoint_every,
        workdir=directory,
    )
    state = kept_state(run, config.train.patience)
    state = patch_training.calibrated(
        network(momentum=0.0), state, feed, seed=seed, locations=config.train.locations
    )
    encoder = PatchEncoder(order=settings.order)
    mapper = localized_ocsvm(encoder, state.params["encoder"], state.stats["encoder"], final)
    return mapper, history


def settings_of(config: Config, name: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """What a method is trained with, and its one-class SVMs fitted with."""
    method, final = config.method.to_dict(), config.final.to_dict()
    method |= {"num_epochs": config.train.epochs, "learning_rate": config.train.learning_rate}
    if name in PAPER_ROWS:
        method, final = method | PAPER_METHOD | PAPER_TRAIN, final | PAPER_FINAL
    return SimpleNamespace(**method), SimpleNamespace(**final)


def build(config: Config, name: str) -> tuple[Any, Any]:
    """A patch method, and its network as a function of the batch norms' momentum."""
    settings, _ = settings_of(config, name)

    def network(momentum: float = 0.9) -> Network:
        options = {"order": settings.order, "momentum": momentum}
        return Network(from_flax(PatchEncoder(**options)), from_flax(PatchDecoder(**options)))

    optimizer = optax.adam(settings.learning_rate)
    return PATCH_METHODS[PAPER_ROWS.get(name, name)](network(), optimizer, settings), network


def judge_score(
    config: Config, read: Study, locations: np.ndarray, values: list[np.ndarray]
) -> dict[str, Any]:
    """Measures of all patients and scores of all images, from one score of one run."""
    data = config.data
    scores = dict(zip(study.cohort_names(data)[1:], values, strict=True))
    post = {
        "median": config.eval.median,
        "erosion": config.eval.erosion,
        "planar": study.spaced(read.space),
    }
    levels = judge.thresholds(scores[data.held_out], read.cohorts[data.held_out], locations, post)
    # Processes cost some seconds to start.
    jobs = (os.cpu_count() or 1) if locations.sum() > 20_000 else 1
    patients, images = {}, {}
    for arm in study.arms_of(data):
        for cohort in arm.patients.values():
            patients[cohort] = judge.judge_patients(
                scores[cohort], read.cohorts[cohort], locations, levels, post, jobs=jobs
            )
        for cohort in (arm.controls, *arm.patients.values()):
            if cohort:
                images[cohort] = judge.judge_images(
                    scores[cohort], read.cohorts[cohort], locations, read.exclude
                )
    return {"thresholds": levels, "patients": patients, "images": images}


def describe_data(root: Path, read: Study, locations: np.ndarray) -> dict[str, Any]:
    """Counts, and of a synthetic population its own description with the SHA-256 sums."""
    described = root / "phantom.json"
    return {
        "subjects": {name: len(c.subjects) for name, c in read.cohorts.items()},
        "locations": int(locations.sum()),
        "slices": len(read.space.slices),
        "synthetic": json.loads(described.read_text()) if described.exists() else None,
    }
