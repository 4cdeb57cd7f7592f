"""Trains a method, scores validation and test images, and reports; or a whole table of methods.

python train.py --config=configs/digits.py [--config.field=value ...] [--workdir=DIR]
"""

import json
import shlex
import sys
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from ocsvm_jax import data
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation import scores as scoring
from ocsvm_jax.experiments import cli
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.brain import experiment as brain
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.images import report, results
from ocsvm_jax.experiments.table import experiment as table
from ocsvm_jax.experiments.workdir import check_images, image_digests, note_images, sole_user
from ocsvm_jax.methods import Method
from ocsvm_jax.reports import provenance
from ocsvm_jax.training import loop as training


def main(config: Config, workdir: str | Path, command: str = "") -> list[metrics.Row]:
    """Runs an experiment in `workdir`, or goes on with it there; returns the rows of its table."""
    began, workdir = time.perf_counter(), Path(workdir)
    experiment.check(config)
    experiment.check_workdir(workdir, config)
    sets = experiment.load_data(config)
    method = experiment.build_method(config)
    images = image_digests(sets[0].train, {config.data.protocol: sets[0]})
    with sole_user(workdir):
        check_images(workdir, images)
        experiment.claim_workdir(workdir, config)
        note_images(workdir, images)
        return _run(config, workdir, command, method, sets, began)


def _run(
    config: Config,
    workdir: Path,
    command: str,
    method: Method,
    sets: tuple[data.Dataset, data.ImageSet, data.ImageSet],
    began: float,
) -> list[metrics.Row]:
    dataset, train, held_out = sets
    run, history = training.train(
        method,
        train.images,
        held_out.images,
        seed=config.seed,
        epochs=config.train.epochs,
        batch_size=config.train.batch_size,
        patience=config.train.patience,
        checkpoint_every=config.train.checkpoint_every,
        workdir=workdir,
    )
    state = training.kept_state(run, config.train.patience)
    ocsvm = scoring.fit_final(method, state, train.images, config.final)
    ocsvm.save(workdir / "ocsvm.npz")

    scores = results.score_splits(method, state, ocsvm, dataset)
    results.save_scores(workdir / "scores.npz", scores)
    collapsed = results.without_information(method, state, dataset, scores)
    rows = results.rows(scores, config.eval.resamples, collapsed)
    print(metrics.format_table(rows))
    facts = provenance.facts() | {
        "seed": str(config.seed),
        "images": f"{len(train.images)} trained on, {len(held_out.images)} held out",
        "epochs": f"{int(run.epoch)}, smallest held-out loss after {int(run.best_epoch)}",
        "final one-class SVM": results.describe_fit(ocsvm, len(train.images)),
        "wall time": f"{time.perf_counter() - began:.1f} s, compilation included",
    }
    if collapsed:
        facts["collapse"] = results.describe_collapse(collapsed)
        print(facts["collapse"])
    path = report.write_report(
        workdir,
        title=f"{config.method.name} on {config.data.name}, seed {config.seed}",
        command=command,
        config_text=json.dumps(experiment.plain(config), indent=2),
        rows=rows,
        scores=scores,
        history=history,
        latent=results.latent_picture(method, state, ocsvm, train, dataset.test),
        facts=facts,
    )
    print(f"{facts['final one-class SVM']}; {facts['wall time']}; report: {path}")
    return rows


def _from_flags() -> None:
    config = flags.FLAGS.config
    if config is None:
        raise ValueError("no --config; start with --config=configs/digits.py.")
    command = "python " + shlex.join(sys.argv)
    if "maps" in config:
        default = Path("runs") / cli.card_name()
        brain.main(config, Path(flags.FLAGS.workdir or default), command)
        return
    if "table" in config:
        default = Path("runs") / (cli.card_name() + ("-quick" if config.quick else ""))
        table.main(config, Path(flags.FLAGS.workdir or default), command)
        return
    default = Path("runs") / f"{cli.card_name()}-{config.method.name}-seed{config.seed}"
    main(config, flags.FLAGS.workdir or default, command)


if __name__ == "__main__":
    # Here, so that a notebook can import train and eval side by side.
    config_flags.DEFINE_config_file("config", None, "experiment card, configs/NAME.py")
    flags.DEFINE_string("workdir", None, "where to write; runs/CARD-METHOD-seedN if left out")
    cli.run(_from_flags)
