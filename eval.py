"""Repeats the table of a finished run from its checkpoint alone, or scores a user's own images.

python eval.py --workdir=DIR [--data_dir=DIR] [--protocol=leak_free]
python eval.py --workdir=DIR --images=x.npy [--output=scores.csv]
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from ocsvm_jax import data
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation import scores as scoring
from ocsvm_jax.experiments import cli
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.experiments.images import results
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods import Method
from ocsvm_jax.model import OCSVM
from ocsvm_jax.training import loop as training


def main(
    workdir: str | Path, data_dir: str | None = None, protocol: str | None = None
) -> list[metrics.Row]:
    """Scores validation and test images of the run in `workdir`; returns the rows of the table."""
    config, method, state, ocsvm = load(Path(workdir))
    changed = {"dir": data_dir, "protocol": protocol}
    given = {name: value for name, value in changed.items() if value is not None}
    dataset = data.load(**(config.data.to_dict() | given))
    scores = results.score_splits(method, state, ocsvm, dataset)
    collapsed = results.without_information(method, state, dataset, scores)
    rows = results.rows(scores, config.eval.resamples, collapsed)
    print(metrics.format_table(rows))
    if collapsed:
        print(results.describe_collapse(collapsed))
    return rows


def load(workdir: Path) -> tuple[Config, Method, Any, OCSVM]:
    """Configuration, method, state and final one-class SVM of a finished run."""
    config = experiment.read_config(workdir)
    if "table" in config or "methods" in config:
        raise ValueError(
            f"{workdir} holds a whole table, not one run: its figures are in table.md and "
            "report.html, and the train.py command that made it writes them again."
        )
    method = experiment.build_method(config)
    run = training.load(method, config.train.batch_size, workdir)
    if not (workdir / "ocsvm.npz").exists():
        raise ValueError(
            f"{workdir} holds no ocsvm.npz: its training was not finished. The same train.py "
            "command goes on where it stopped."
        )
    state = training.kept_state(run, config.train.patience)
    return config, method, state, OCSVM.load(workdir / "ocsvm.npz")


def score_file(
    workdir: str | Path, images: str | Path, output: str | Path
) -> dict[str, np.ndarray]:
    """Scores the images of a .npy file, larger for more anomalous, and writes them as CSV."""
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} exists; pass another --output, or remove it.")
    arrays = scoring.read_images(Path(images))
    _, method, state, ocsvm = load(Path(workdir))
    scores = scoring.score_images(method, state, ocsvm, arrays)
    lines = [",".join(["index", *scores])]
    lines += [
        f"{i},{','.join(map(str, row))}" for i, row in enumerate(zip(*scores.values(), strict=True))
    ]
    with whole_file(output) as file:
        file.write("".join(line + "\n" for line in lines).encode())
    print(f"{len(arrays)} images, scores {', '.join(scores)} (larger is more anomalous): {output}")
    return scores


def _from_flags() -> None:
    given = flags.FLAGS
    if given.workdir is None:
        raise ValueError("no --workdir; pass the directory that train.py printed or was given.")
    if given.images is None:
        if given.output is not None:
            raise ValueError("--output is where the scores of --images go; there are no --images.")
        main(given.workdir, given.data_dir, given.protocol)
    else:
        if given.data_dir is not None or given.protocol is not None:
            raise ValueError("--images are scored alone: leave out --data_dir and --protocol.")
        images = Path(given.images)
        score_file(given.workdir, images, given.output or images.with_suffix(".scores.csv"))


if __name__ == "__main__":
    # Here, so that a notebook can import train and eval side by side.
    flags.DEFINE_string("workdir", None, "working directory of a run of train.py")
    flags.DEFINE_string("data_dir", None, "where the data are now, if they have moved")
    flags.DEFINE_string("protocol", None, "judge by another protocol than the run's")
    flags.DEFINE_string("images", None, "a .npy of images (n, 28, 28) to score instead")
    flags.DEFINE_string(
        "output", None, "CSV for their scores; x.scores.csv beside x.npy if left out"
    )
    cli.run(_from_flags)
