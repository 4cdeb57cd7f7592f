"""One run: trains a method on images, scores validation and test images, writes the report."""

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocsvm_jax import data
from ocsvm_jax.data.base import IMAGE_SHAPE
from ocsvm_jax.data.own_images import read_images
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.density import LatentDensity
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.evaluation.scores import (
    BothWays,
    FinalOCSVM,
    Model,
    all_scores,
    collapsed_scores,
    model_of,
    see_both_ways,
)
from ocsvm_jax.experiments import config as cards
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.images import report, results
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods import Method
from ocsvm_jax.reports import provenance
from ocsvm_jax.training import loop as training
from ocsvm_jax.training.epoch import kept_state

_DENSITY_FILE = "density.npz"


class Trained(NamedTuple):
    """A finished run.

    Attributes:
      config: the card of the run.
      model: the trained model; with early stopping, that of the smallest held-out loss.
      final: the final one-class SVM.
      density: the Gaussian and the neighbours of the same latents; None for a run of before.
    """

    config: Config
    model: Model
    final: FinalOCSVM
    density: LatentDensity | None


def main(config: Config, workdir: str | Path, command: str = "") -> list[metrics.Row]:
    """Runs or continues a card in `workdir`; returns the rows of its table.

    Raises:
      ValueError: before training begins, if a value or the data are invalid, or if the run in
        `workdir` has another configuration or other data.
    """
    began, workdir = time.perf_counter(), Path(workdir)
    config = cards.resolved(config)
    cards.check(config)
    workdirs.check(workdir, config)
    sets = load_data(config)
    method = cards.build_method(config)
    identity = workdirs.identity_of(sets[0].train, {config.data.protocol: sets[0]})
    with workdirs.entered(workdir, config, identity):
        return _run(config, workdir, command, method, sets, began)


def load_data(config: Config) -> tuple[data.Dataset, data.ImageSet, data.ImageSet]:
    """The dataset, and its training images split into a training and a held-out part."""
    dataset = data.load(**config.data.to_dict())
    train, held_out = data.holdout(dataset.train, config.train.held_out, config.seed)
    size = config.train.batch_size
    if len(train.images) < size or len(held_out.images) < 2:
        raise ValueError(
            f"there are {len(train.images)} images to train on and {len(held_out.images)} held "
            f"out, too few for batches of {size}: lower train.batch_size or change train.held_out."
        )
    return dataset, train, held_out


def _run(
    config: Config,
    workdir: Path,
    command: str,
    method: Method,
    sets: tuple[data.Dataset, data.ImageSet, data.ImageSet],
    began: float,
) -> list[metrics.Row]:
    dataset, train, held_out = sets
    steps = config.train
    run, history = training.train(
        method,
        train.images,
        held_out.images,
        training.Plan(steps.epochs, steps.batch_size, steps.patience, steps.checkpoint_every),
        seed=config.seed,
        workdir=workdir,
    )
    model = model_of(method, kept_state(run, config.train.patience))
    of_train = see_both_ways(model, train.images)
    final = FinalOCSVM.fit(of_train, Final(**config.final.to_dict()))
    final.save(workdir)
    density = LatentDensity.fit(of_train.upright.z)
    density.save(workdir / _DENSITY_FILE)
    seen = _seen(model, dataset)
    scores = results.score_splits(final, density, seen, dataset)
    results.save_scores(workdir / "scores.npz", scores)
    collapsed, rows = _judged(config, scores, seen)
    facts = provenance.facts() | {
        "seed": str(config.seed),
        "images": f"{len(train.images)} trained on, {len(held_out.images)} held out",
        "epochs": f"{int(run.epoch)}, smallest held-out loss after {int(run.best_epoch)}",
        "final one-class SVM": results.describe_fit(final.ocsvm, len(train.images)),
        "wall time": f"{time.perf_counter() - began:.1f} s, compilation included",
    }
    if collapsed:
        facts["collapse"] = results.describe_collapse(collapsed)
    path = report.write_report(
        workdir,
        title=f"{config.method.name} on {config.data.name}, seed {config.seed}",
        command=command,
        config_text=json.dumps(cards.plain(config), indent=2),
        rows=rows,
        scores=scores,
        history=history,
        latent=results.latent_picture(
            final.ocsvm, of_train.upright.z, seen["test"].upright.z, dataset.test
        ),
        facts=facts,
    )
    print(f"{facts['final one-class SVM']}; {facts['wall time']}; report: {path}")
    return rows


def judge(
    workdir: str | Path, data_dir: str | None = None, protocol: str | None = None
) -> list[metrics.Row]:
    """Scores validation and test images with the run in `workdir`; returns the table rows.

    Args:
      workdir: working directory of a finished run.
      data_dir: new location of the data, if they have moved.
      protocol: a protocol other than that of the run.
    """
    trained = load(Path(workdir))
    changed = {"dir": data_dir, "protocol": protocol}
    given = {name: value for name, value in changed.items() if value is not None}
    dataset = data.load(**(trained.config.data.to_dict() | given))
    seen = _seen(trained.model, dataset)
    scores = results.score_splits(trained.final, trained.density, seen, dataset)
    return _judged(trained.config, scores, seen)[1]


def score_file(
    workdir: str | Path, images: str | Path, output: str | Path
) -> dict[str, np.ndarray]:
    """Scores the images of a .npy file and writes the scores as CSV, larger for more anomalous.

    Args:
      workdir: working directory of a finished run.
      images: see `ocsvm_jax.data.own_images.read_images`.
      output: the CSV file, which must not exist.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists; pass another --output, or remove it.")
    arrays = read_images(Path(images))
    trained = load(Path(workdir))
    scores = all_scores(trained.final, see_both_ways(trained.model, arrays), trained.density)
    lines = [",".join(["index", *scores])]
    lines += [
        f"{i},{','.join(map(str, row))}" for i, row in enumerate(zip(*scores.values(), strict=True))
    ]
    with whole_file(output) as file:
        file.write("".join(line + "\n" for line in lines).encode())
    print(f"{len(arrays)} images, scores {', '.join(scores)} (larger is more anomalous): {output}")
    return scores


def load(workdir: Path) -> Trained:
    """Loads a finished run from its checkpoint.

    Raises:
      ValueError: if `workdir` holds no finished run.
    """
    config = workdirs.read_config(workdir)
    if "table" in config or "methods" in config:
        raise ValueError(
            f"{workdir} holds a whole table, not one run: its results are in table.md and "
            "report.html, and the train.py command that made it writes them again."
        )
    method = cards.build_method(config)
    run = training.load(method, (config.train.batch_size, *IMAGE_SHAPE), workdir)
    state = kept_state(run, config.train.patience)
    path = workdir / _DENSITY_FILE
    density = LatentDensity.load(path) if path.exists() else None
    return Trained(config, model_of(method, state), FinalOCSVM.load(workdir), density)


def _seen(model: Model, dataset: data.Dataset) -> dict[str, BothWays]:
    sets = zip(results.SPLITS, (dataset.valid, dataset.test), strict=True)
    return {split: see_both_ways(model, images.images) for split, images in sets}


def _judged(
    config: Config, scores: dict[str, np.ndarray], seen: dict[str, BothWays]
) -> tuple[list[str], list[metrics.Row]]:
    """Prints and returns the names of collapsed scores and the rows without them."""
    collapsed = collapsed_scores(seen["val"])
    rows = results.rows(scores, config.eval.resamples, collapsed)
    print(metrics.format_table(rows))
    if collapsed:
        print(results.describe_collapse(collapsed))
    return collapsed, rows
