"""The synthetic population: profiles, cohorts, and the age and scanner of each person."""

from typing import NamedTuple

import numpy as np

from ocsvm_jax.suggestions import unknown

KINDS = ("control", "wmh", "tumour")  # of subjects: without lesions, or with lesions of one type
ARMS = ("matched", "confounded", "no_shift")

# Years, mean and standard deviation: the paper's training and test controls.
TRAINING_AGES = (38.0, 11.5)
TEST_AGES = (70.1, 9.3)
YOUNGEST, OLDEST = 18.0, 95.0

# Streams of random numbers belong to groups, not cohorts, so that the arms share them.
_GROUPS = ("train", "valid", "tune_controls", "tune_wmh", "controls", "wmh", "tumour")
# Ages depend on the role, so that subject i of the controls and of the patients are equally old.
_ROLES = ("train", "valid", "tune", "test")


class Profile(NamedTuple):
    """A size of the population.

    Attributes:
      name: its name.
      slices_mm: MNI z coordinates of the slices, mm, equally spaced and increasing.
      window: voxels of the 1 mm template that an image contains: first, and one past the last,
        along x and along y; None for all of them.
      train, valid, tune, test: number of subjects per cohort of that role.
    """

    name: str
    slices_mm: tuple[int, ...]
    window: tuple[tuple[int, int], tuple[int, int]] | None
    train: int
    valid: int
    tune: int
    test: int


PROFILES = {
    "full": Profile("full", (12, 20, 28, 36), None, 60, 15, 15, 60),
    # The window contains both lateral ventricles, white matter, and part of the brain's border.
    "ci": Profile("ci", (28,), ((22, 118), (80, 176)), 8, 3, 3, 4),
}


class CohortPlan(NamedTuple):
    """The plan of a cohort, from which its images are drawn.

    Attributes:
      name: name of its folder.
      group: group that determines anatomy, lesions and noise; cohorts of one group are paired.
      kind: kind of its subjects, one of `KINDS`.
      scanners: names of the scanners, taken in turns.
      ages: mean and standard deviation, years.
      size: number of subjects.
    """

    name: str
    group: str
    kind: str
    scanners: tuple[str, ...]
    ages: tuple[float, float]
    size: int

    def subject(self, index: int) -> str:
        """Name of a subject, which is the same in every arm."""
        return f"{self.group.replace('_', '-')}-{index:03d}"


class Person(NamedTuple):
    """Age in years and scanner of a subject, which are known without drawing it."""

    age: float
    scanner: str


def profile_named(name: str) -> Profile:
    """The profile with this name; raises ValueError with the existing names if there is none."""
    if name not in PROFILES:
        raise ValueError(unknown("profile", name, PROFILES))
    return PROFILES[name]


def plan(profile: Profile) -> dict[str, CohortPlan]:
    """All cohorts of a profile by name, in the order in which they are written.

    - `train` and `valid`: healthy, scanner A, training ages.
    - `tune_controls` and `tune_wmh`: like the matched arm, with other subjects; hyperparameters are
      chosen on these.
    - `<arm>_controls`, `<arm>_wmh`, `<arm>_tumour`. Arm *matched*: scanners B and C in turns and
      the test ages in all three groups, so that only the lesions differ. *confounded*: controls on
      B and patients on C. *no_shift*: all on A at the training ages.
    """
    cohorts = [
        CohortPlan("train", "train", "control", ("A",), TRAINING_AGES, profile.train),
        CohortPlan("valid", "valid", "control", ("A",), TRAINING_AGES, profile.valid),
        CohortPlan(
            "tune_controls", "tune_controls", "control", ("B", "C"), TEST_AGES, profile.tune
        ),
        CohortPlan("tune_wmh", "tune_wmh", "wmh", ("B", "C"), TEST_AGES, profile.tune),
    ]
    for arm in ARMS:
        ages = TRAINING_AGES if arm == "no_shift" else TEST_AGES
        for group, kind in zip(("controls", "wmh", "tumour"), KINDS, strict=True):
            scanners = {
                "matched": ("B", "C"),
                "confounded": ("B",) if kind == "control" else ("C",),
                "no_shift": ("A",),
            }[arm]
            cohorts.append(CohortPlan(f"{arm}_{group}", group, kind, scanners, ages, profile.test))
    return {cohort.name: cohort for cohort in cohorts}


def cohort_named(profile: Profile, name: str) -> CohortPlan:
    """The cohort with this name; raises ValueError with the existing names if there is none."""
    cohorts = plan(profile)
    if name not in cohorts:
        raise ValueError(unknown("cohort", name, cohorts))
    return cohorts[name]


def person(cohort: CohortPlan, index: int, seed: int) -> Person:
    """Age and scanner of a subject, as a pure function of its arguments.

    Args:
      cohort: plan of its cohort.
      index: number of the subject in the cohort, from 0.
      seed: seed of the population.
    """
    role = _ROLES.index(cohort.group.split("_")[0]) if cohort.group in _GROUPS[:4] else 3
    # The keys follow those of the groups, so that no stream is used twice.
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(_GROUPS) + role, index]))
    mean, deviation = cohort.ages
    age = float(np.clip(mean + deviation * rng.standard_normal(), YOUNGEST, OLDEST))
    return Person(age, cohort.scanners[index % len(cohort.scanners)])


def streams(cohort: CohortPlan, index: int, seed: int) -> list[np.random.Generator]:
    """Independent random generators of a subject: anatomy, scanner, lesion, noise.

    Args:
      cohort: plan of its cohort.
      index: number of the subject in the cohort, from 0.
      seed: seed of the population.
    """
    parent = np.random.SeedSequence([seed, _GROUPS.index(cohort.group), index])
    return [np.random.default_rng(child) for child in parent.spawn(4)]
