"""Records of the results of an experiment, and their form in JSON files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from ocsvm_jax.experiments.brain.measures import KEYS, Measures
from ocsvm_jax.experiments.brain.study import Design, design_of
from ocsvm_jax.files import write_json
from ocsvm_jax.training.history import Entry

VARIANTS = ("raw", "post-processed")  # of maps


class Judged(NamedTuple):
    """Evaluation of the maps of one score of one run.

    Attributes:
      thresholds: by variant, the score that 1% of the held-out normal subjects' voxels exceed.
      patients: by cohort and variant, the measures of each patient.
      images: by cohort, the score of each image.
    """

    thresholds: dict[str, float]
    patients: dict[str, dict[str, list[Measures]]]
    images: dict[str, list[float]]


class Seconds(NamedTuple):
    """Wall time of the parts of a run."""

    training: float
    maps: float
    judging: float


class Run(NamedTuple):
    """One method with one seed.

    Attributes:
      method: name in the card.
      seed: training seed.
      history: losses and other values of each epoch by name; empty if nothing was trained.
      facts: machine, versions and commit; empty for runs by versions that did not record them.
      scores: evaluation of the maps, by score.
      seconds: wall time.
    """

    method: str
    seed: int
    history: list[Entry]
    facts: dict[str, str]
    scores: dict[str, Judged]
    seconds: Seconds


class DataFacts(NamedTuple):
    """The data of an experiment.

    Attributes:
      subjects: number of subjects by cohort.
      locations: number of voxels at which maps are made.
      slices: number of slices.
      synthetic: the content of `phantom.json` for a synthetic population, with its SHA-256 sums.
    """

    subjects: dict[str, int]
    locations: int
    slices: int
    synthetic: dict[str, Any] | None


class Results(NamedTuple):
    """A whole experiment.

    Attributes:
      command: command line that repeats it.
      config: the card.
      facts: machine, versions and commit of the report.
      data: summary of the data.
      runs: all runs in the order of the card.
      wall_seconds: seconds since the last start.
    """

    command: str
    config: dict[str, Any]
    facts: dict[str, str]
    data: DataFacts
    runs: list[Run]
    wall_seconds: float

    @property
    def design(self) -> Design:
        """Roles of the cohorts."""
        return design_of(SimpleNamespace(**self.config["data"]))


def to_json(results: Results) -> dict[str, Any]:
    """The content of `results.json`."""
    runs = [run_to_json(run) for run in results.runs]
    return results._asdict() | {"data": results.data._asdict(), "runs": runs}


def from_json(content: Mapping[str, Any]) -> Results:
    """Reads results from the content of `results.json`."""
    runs = [run_from_json(run) for run in content["runs"]]
    return Results(**{**content, "data": DataFacts(**content["data"]), "runs": runs})


def run_to_json(run: Run) -> dict[str, Any]:
    """The content of `result.json`: one list of values per patient cohort, variant and measure."""

    def columns(rows: list[Measures]) -> dict[str, list[float]]:
        return dict(zip(KEYS, map(list, zip(*rows, strict=True)), strict=True))

    scores = {
        name: found._asdict() | {"patients": _each_variant(columns, found.patients)}
        for name, found in run.scores.items()
    }
    return run._asdict() | {"scores": scores, "seconds": run.seconds._asdict()}


def run_from_json(content: Mapping[str, Any]) -> Run:
    """Reads a run from the content of `result.json`."""

    def rows(columns: Mapping[str, list[float]]) -> list[Measures]:
        return [Measures(*row) for row in zip(*(columns[key] for key in KEYS), strict=True)]

    scores = {
        name: Judged(**{**found, "patients": _each_variant(rows, found["patients"])})
        for name, found in content["scores"].items()
    }
    known = {"facts": {}, **content, "scores": scores, "seconds": Seconds(**content["seconds"])}
    return Run(**known)


def _each_variant(
    change: Callable[[Any], Any], patients: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Applies `change` to the measures of each cohort and variant."""
    return {
        cohort: {variant: change(measures) for variant, measures in variants.items()}
        for cohort, variants in patients.items()
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically."""
    write_json(path, content)
