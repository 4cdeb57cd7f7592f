"""Which data the runs of a working directory are of: written down once, compared at every start.

Checkpoints, slices and finished runs say nothing of the subjects behind them. Without this, an
experiment that goes on after a file of its folder changed would mix two data sets without a word.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.experiments.workdir import sha256
from ocsvm_jax.files import whole_file

FILE = "data.json"


def of(read: Study) -> dict[str, Any]:
    """What identifies the data: grid, subjects, and SHA-256 of what was read of each cohort.

    Of the arrays and not of the files: another compression of the same volumes does not matter.
    """
    space = read.space
    return {
        "space": {
            "shape": list(space.shape),
            "affine": space.affine.tolist(),
            "slices": [int(k) for k in space.slices],
        },
        "exclude": None if read.exclude is None else sha256(read.exclude),
        "cohorts": {
            name: {"subjects": list(cohort.subjects), "sha256": _of_cohort(cohort)}
            for name, cohort in read.cohorts.items()
        },
    }


def check(workdir: Path, ours: Mapping[str, Any]) -> None:
    """Compares the data with those of the runs in `workdir`; changes nothing.

    Args:
      workdir: of the experiment; one without the file, or a new one, is of any data.
      ours: what `of` returns.

    Raises:
      ValueError: if they are others; the message names the cohorts. Or if the file is damaged.
    """
    path = workdir / FILE
    if not path.exists():
        return
    try:
        theirs = json.loads(path.read_text())
        different = _differences(ours, theirs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged, so it does not say which data the runs there are of: {error!r}. "
            "Nothing was changed."
        ) from error
    if different:
        raise ValueError(
            f"{workdir} holds runs of other data; different now:\n"
            + "".join(f"  {line}\n" for line in different)
            + "Pass another --workdir, or bring the old files back. Nothing was changed."
        )


def write(workdir: Path, ours: Mapping[str, Any]) -> None:
    """Writes down what `of` returned, unless it is there."""
    path = workdir / FILE
    if not path.exists():
        with whole_file(path) as file:
            file.write((json.dumps(ours, indent=1) + "\n").encode())


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """A line for each part that is another one."""
    lines = []
    if ours["space"] != theirs["space"]:
        lines.append("the voxel grid, or the slices that are read")
    if ours["exclude"] != theirs["exclude"]:
        lines.append("the voxels of data.exclude")
    mine, other = ours["cohorts"], theirs["cohorts"]
    for name in dict.fromkeys((*other, *mine)):
        if name not in mine or name not in other:
            lines.append(f"cohort {name!r}: {'new' if name in mine else 'gone'}")
        elif mine[name]["subjects"] != other[name]["subjects"]:
            now, then = (set(part[name]["subjects"]) for part in (mine, other))
            counts = f"{len(now - then)} new, {len(then - now)} gone"
            lines.append(f"cohort {name!r}: its subjects, {counts}")
        elif mine[name]["sha256"] != other[name]["sha256"]:
            lines.append(f"cohort {name!r}: the same subjects, other volumes")
    return lines


def _of_cohort(cohort: Cohort) -> str:
    return sha256(cohort.images, cohort.masks, cohort.lesions, np.asarray(cohort.has_lesions))
