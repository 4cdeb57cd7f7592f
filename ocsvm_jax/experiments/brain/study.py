"""The cohorts of a brain experiment: their roles, files and content."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ocsvm_jax.data import brain, nifti
from ocsvm_jax.data.brain import Cohort, Files, Space


class DataPlan(NamedTuple):
    """Location of the volumes and how to read them: the `data` of a card."""

    dir: str
    profile: str
    phantom_seed: int
    lesions: str
    train: str
    held_out: str
    arms: tuple[str, ...]
    controls: str
    patients: tuple[str, ...]
    image: str
    mask: str
    lesion: str
    lesion_outside: str
    exclude: str
    slices: tuple[float, ...]
    intensity: str
    present: float


class Arm(NamedTuple):
    """A group of test cohorts.

    Attributes:
      name: name of the arm; "" if it is the only one.
      controls: name of the cohort of normal subjects; "" if there is none.
      patients: names of the patient cohorts, by kind of lesion.
    """

    name: str
    controls: str
    patients: dict[str, str]

    @property
    def said(self) -> str:
        """Prefix of captions about the arm; empty if it is the only one."""
        return f"{self.name} arm, " if self.name else ""

    @property
    def cohorts(self) -> list[str]:
        """Names of its cohorts, the controls first."""
        return [name for name in (self.controls, *self.patients.values()) if name]


class Design(NamedTuple):
    """Roles of the cohorts.

    Attributes:
      train: name of the cohort to train on.
      held_out: name of the normal cohort for early stopping and the threshold.
      arms: groups of cohorts to judge.
    """

    train: str
    held_out: str
    arms: list[Arm]

    @property
    def mapped(self) -> list[str]:
        """Names of the cohorts with maps, the held-out one first, each once."""
        judged = [name for arm in self.arms for name in arm.cohorts]
        return list(dict.fromkeys([self.held_out, *judged]))


class Study(NamedTuple):
    """The data of an experiment.

    Attributes:
      space: the grid of all volumes.
      cohorts: all cohorts by name.
      files: files of each cohort, aligned with its subjects.
      exclude: (z, x, y) of bool, voxels that the image score ignores; None if there are none.
    """

    space: Space
    cohorts: dict[str, Cohort]
    files: dict[str, list[Files]]
    exclude: np.ndarray | None


def arms_of(data: Any) -> list[Arm]:
    """The arms named by a card's `data`: a `DataPlan`, or any object with its fields."""

    def name(arm: str, group: str) -> str:
        return f"{arm}_{group}" if arm and group else group

    return [
        Arm(arm, name(arm, data.controls), {kind: name(arm, kind) for kind in data.patients})
        for arm in data.arms
    ]


def design_of(data: Any) -> Design:
    """Roles of the cohorts named by a card's `data`, see `arms_of`."""
    return Design(data.train, data.held_out, arms_of(data))


def check(root: Path, data: DataPlan) -> tuple[Space, dict[str, list[Files]]]:
    """Finds all files and checks their headers, before any long computation.

    Raises:
      ValueError: if a cohort or file is missing or invalid; see `data.brain.check`.
    """
    patterns = {"image": data.image, "mask": data.mask, "lesion": data.lesion}
    design = design_of(data)
    names = (design.train, *design.mapped)
    files = {name: brain.find(root, name, **patterns) for name in names}
    space = brain.read_space(files[data.train], data.slices)
    for name, found in files.items():
        brain.check(found, space)
        judged = any(name in arm.patients.values() for arm in design.arms)
        if judged and found[0].lesion is None:
            raise ValueError(
                f"{root / name} is a patient cohort, but no file there matches "
                f"{data.lesion!r}: the maps cannot be judged. Set data.lesion, or leave the "
                "cohort out of data.patients."
            )
    if data.exclude and (root / data.exclude).exists():
        brain.check_grid(root / data.exclude, space)
    elif data.exclude:
        raise ValueError(
            f"there is no {root / data.exclude}, whose voxels the image score ignores: pass "
            '--config.data.exclude="" to ignore none.'
        )
    return space, files


def check_synthetic(data: DataPlan) -> None:
    """Checks a request for the synthetic population, before any of it is generated.

    Raises:
      ValueError: for an unknown cohort, or a folder of lesion masks that does not exist.
    """
    from ocsvm_jax.data.phantom.cohorts import cohort_named, profile_named

    design = design_of(data)
    for name in (design.train, *design.mapped):
        cohort_named(profile_named(data.profile), name)
    if data.lesions and not Path(data.lesions).expanduser().is_dir():
        raise ValueError(
            f"data.lesions is {data.lesions!r}; it must be a folder of lesion masks (NIfTI, MNI "
            'space), and there is no such folder. "" draws lesions at random.'
        )


def read(root: Path, data: DataPlan, space: Space, files: dict[str, list[Files]]) -> Study:
    """Reads the files found by `check`.

    Raises:
      ValueError: if the content of a file is invalid.
    """
    options: dict[str, Any] = {"intensity": data.intensity, "lesion_outside": data.lesion_outside}
    # The name in the card, "site/train" for instance, not the folder's own name "train".
    cohorts = {
        name: brain.read_files(found, space, name=name, **options) for name, found in files.items()
    }
    exclude = None
    if data.exclude:
        excluded = nifti.read_binary(root / data.exclude)
        exclude = np.moveaxis(excluded[:, :, space.slices], 2, 0)
    return Study(space, cohorts, files, exclude)


def spaced(space: Space) -> bool:
    """Whether slices lie farther apart than 1.5 times the distance of pixels within a slice.

    Filters and components are then restricted to a slice.
    """
    pixel = np.linalg.norm(space.affine[:3, :2], axis=0).max()
    step = np.linalg.norm(space.affine[:3, 2])
    gaps: Sequence[int] = np.diff(space.slices).tolist() or [1]
    return bool(max(gaps) * step > 1.5 * pixel)
