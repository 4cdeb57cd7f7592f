"""Scores of the validation and test images under each run that a row reports, kept on disk.

One file per run and protocol, `test/<protocol>/<run>.npz`, with arrays such as "test ocsvm
gamma=0.1 nu=0.03 standardize=True". What a file lacks is computed and added.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ocsvm_jax import data
from ocsvm_jax.evaluation.density import DENSITY_SCORES
from ocsvm_jax.evaluation.final import final_of
from ocsvm_jax.evaluation.scores import score_sets
from ocsvm_jax.experiments.table.runs import Runs
from ocsvm_jax.experiments.table.store import Spec
from ocsvm_jax.files import whole_file

PARTS = ("valid", "test")
# By part and score.
KeptScores = dict[str, dict[str, Float[np.ndarray, " n"]]]


def scores_of(
    runs: Runs, spec: Spec, protocol: str, names: Collection[str], dataset: data.Dataset
) -> KeptScores:
    """Scores of the validation and test images of a protocol under one run.

    Args:
      runs: the runs of the table.
      spec: a run that is done.
      protocol: name of the protocol.
      names: names of the scores, as in the run's record.
      dataset: the images of the protocol.
    """
    workdir = runs.store.workdir
    kept = kept_scores(workdir, protocol, spec)
    missing = [name for name in names if any(name not in kept.get(part, {}) for part in PARTS)]
    if missing:
        scored = score_sets(
            runs.model(spec),
            runs.train_images(spec).images,
            {part: getattr(dataset, part).images for part in PARTS},
            {name: runs.plan.finals[name] for name in map(final_of, missing) if name},
            densities=not set(DENSITY_SCORES).isdisjoint(missing),
        )
        kept = {part: kept.get(part, {}) | scored.scores[part] for part in PARTS}
        _write(_file(workdir, protocol, spec), kept)
    return {part: {name: kept[part][name] for name in names} for part in PARTS}


def kept_scores(workdir: Path, protocol: str, spec: Spec) -> KeptScores:
    """The scores of a run that are on disk; empty if there are none."""
    path, kept = _file(workdir, protocol, spec), KeptScores()
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                part, name = key.split(" ", 1)
                kept.setdefault(part, {})[name] = file[key]
    return kept


def _file(workdir: Path, protocol: str, spec: Spec) -> Path:
    return workdir / "test" / protocol / f"{spec.name}.npz"


def _write(path: Path, kept: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    arrays = {f"{part} {name}": v for part, named in kept.items() for name, v in named.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
