"""A finished run in its directory: its table once more, and scores of a user's own images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ocsvm_jax import data
from ocsvm_jax.data.base import IMAGE_SHAPE
from ocsvm_jax.data.own_images import read_images
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.density import LatentDensity
from ocsvm_jax.evaluation.domains import Domains
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
from ocsvm_jax.experiments.images import results
from ocsvm_jax.files import whole_file
from ocsvm_jax.training import loop as training
from ocsvm_jax.training.epoch import kept_state

DENSITY_FILE = "density.npz"
DOMAINS_FILE = "domains.npz"


class Trained(NamedTuple):
    """A finished run.

    Attributes:
      config: the card of the run.
      model: the trained model; with early stopping, that of the smallest held-out loss.
      final: the final one-class SVM.
      density: the Gaussian and the neighbours of the same latents; None for a run of before.
      domains: groups of the validation images, and where their scores lie; None likewise.
    """

    config: Config
    model: Model
    final: FinalOCSVM
    density: LatentDensity | None
    domains: Domains | None


def judge(
    workdir: str | Path,
    data_dir: str | None = None,
    protocol: str | None = None,
    by_domain: bool = False,
) -> list[metrics.Row]:
    """Scores validation and test images with the run in `workdir`; returns the table rows.

    Args:
      workdir: working directory of a finished run.
      data_dir: new location of the data, if they have moved.
      protocol: a protocol other than that of the run.
      by_domain: whether to add the scores without the domain, see `evaluation.domains`.

    Raises:
      ValueError: if `workdir` holds no finished run, or one without `domains.npz` is asked for
        scores without the domain.
    """
    trained = load(Path(workdir))
    domains = _domains(trained, workdir) if by_domain else None
    changed = {"dir": data_dir, "protocol": protocol}
    given = {name: value for name, value in changed.items() if value is not None}
    dataset = data.load(**(trained.config.data.to_dict() | given))
    seen = seen_of(trained.model, dataset)
    scores = results.score_splits(trained.final, trained.density, seen, dataset)
    if domains is not None:
        for split, images in zip(results.SPLITS, (dataset.valid, dataset.test), strict=True):
            added, far = results.by_domain(domains, images.images, results.of_split(scores, split))
            scores |= {f"{split}_{name}": values for name, values in added.items()}
            print(results.describe_domains(domains, split, far))
    return judged(trained.config, scores, seen)[1]


def score_file(
    workdir: str | Path, images: str | Path, output: str | Path, by_domain: bool = False
) -> dict[str, np.ndarray]:
    """Scores the images of a .npy file and writes the scores as CSV, larger for more anomalous.

    Args:
      workdir: working directory of a finished run.
      images: see `ocsvm_jax.data.own_images.read_images`.
      output: the CSV file, which must not exist.
      by_domain: whether to add the scores without the domain, and the column `far`: 1 for an image
        that is far from every group of the run's validation images.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists; pass another --output, or remove it.")
    arrays = read_images(Path(images))
    trained = load(Path(workdir))
    domains = _domains(trained, workdir) if by_domain else None
    scores = all_scores(trained.final, see_both_ways(trained.model, arrays), trained.density)
    if domains is not None:
        added, far = results.by_domain(domains, arrays, scores)
        scores |= added | {"far": far.astype(int)}
        print(results.describe_domains(domains, Path(images).name, far))
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
    path = workdir / DENSITY_FILE
    density = LatentDensity.load(path) if path.exists() else None
    path = workdir / DOMAINS_FILE
    domains = Domains.load(path) if path.exists() else None
    return Trained(config, model_of(method, state), FinalOCSVM.load(workdir), density, domains)


def _domains(trained: Trained, workdir: str | Path) -> Domains:
    if trained.domains is None:
        raise ValueError(
            f"{workdir} holds no {DOMAINS_FILE}: it was made by an earlier version. Run the same "
            "train.py command in it again, which trains nothing again."
        )
    return trained.domains


def seen_of(model: Model, dataset: data.Dataset) -> dict[str, BothWays]:
    """Validation and test images as a model sees them, by split."""
    sets = zip(results.SPLITS, (dataset.valid, dataset.test), strict=True)
    return {split: see_both_ways(model, images.images) for split, images in sets}


def judged(
    config: Config, scores: dict[str, np.ndarray], seen: dict[str, BothWays]
) -> tuple[list[str], list[metrics.Row]]:
    """Prints and returns the names of collapsed scores and the rows without them."""
    collapsed = collapsed_scores(seen["val"])
    rows = results.rows(scores, config.eval.resamples, collapsed)
    print(metrics.format_table(rows))
    if collapsed:
        print(results.describe_collapse(collapsed))
    return collapsed, rows
