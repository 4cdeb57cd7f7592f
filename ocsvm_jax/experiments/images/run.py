"""One run: trains a method on images, scores validation and test images, writes the report."""

import json
import time
from pathlib import Path

from ocsvm_jax import data
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.density import LatentDensity
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.evaluation.scores import FinalOCSVM, model_of, see_both_ways
from ocsvm_jax.experiments import config as cards
from ocsvm_jax.experiments import workdir as workdirs
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.images import report, results
from ocsvm_jax.experiments.images.trained import DENSITY_FILE, DOMAINS_FILE, judged, seen_of
from ocsvm_jax.methods import Method
from ocsvm_jax.reports import provenance
from ocsvm_jax.training import loop as training
from ocsvm_jax.training.epoch import kept_state


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
    density.save(workdir / DENSITY_FILE)
    seen = seen_of(model, dataset)
    scores = results.score_splits(final, density, seen, dataset)
    results.save_scores(workdir / "scores.npz", scores)
    domains = results.fit_domains(dataset.valid, scores, config.seed)
    domains.save(workdir / DOMAINS_FILE)
    collapsed, rows = judged(config, scores, seen)
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
