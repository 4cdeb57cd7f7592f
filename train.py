"""Runs the experiment of a card: one method, a table of methods or several, or brain maps.

python train.py --config=configs/digits.py [--config.field=value ...] [--workdir=DIR]
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from ocsvm_jax import extras

with extras.needed_by("train.py", "train", script=__name__ == "__main__"):
    from absl import flags
    from ml_collections import config_flags

    from ocsvm_jax.experiments import cli
    from ocsvm_jax.experiments.brain import experiment as brain
    from ocsvm_jax.experiments.config import Config
    from ocsvm_jax.experiments.images import run
    from ocsvm_jax.experiments.table import experiment as table
    from ocsvm_jax.experiments.table import pairs


def main(config: Config, workdir: str | Path, command: str = "") -> Any:
    """Runs or continues an experiment in `workdir`; returns its results."""
    if "maps" in config:
        return brain.main(config, Path(workdir), command)
    if "pairs" in config:
        return pairs.main(config, Path(workdir), command)
    if "table" in config:
        return table.main(config, Path(workdir), command)
    return run.main(config, workdir, command)


def _default_name(config: Config) -> str:
    """Default name of the working directory, under runs/."""
    card = cli.card_name()
    if "maps" in config:
        return card
    if "table" in config:
        return card + ("-quick" if config.quick else "")
    return f"{card}-{config.method.name}-seed{config.seed}"


def _from_flags() -> None:
    config = flags.FLAGS.config
    if config is None:
        raise ValueError("no --config; start with --config=configs/digits.py.")
    workdir = flags.FLAGS.workdir or Path("runs") / _default_name(config)
    main(config, workdir, "python " + shlex.join(sys.argv))


if __name__ == "__main__":
    # Defined here, so that a notebook can import both train and eval.
    config_flags.DEFINE_config_file("config", None, "experiment card, configs/NAME.py")
    flags.DEFINE_string("workdir", None, "where to write; runs/CARD-METHOD-seedN if left out")
    cli.run(_from_flags)
