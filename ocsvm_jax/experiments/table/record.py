"""Results of a table: typed records, and their conversion to and from JSON.

`results.json` of a table holds a `TableRecord`; `run.json` and `trained.json` of a run hold a
`RunRecord`. Files of earlier versions lack some of the fields that have defaults.
"""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np

from ocsvm_jax.evaluation.comparison import Rival
from ocsvm_jax.evaluation.over_seeds import SeedRival
from ocsvm_jax.reports.numbers import Stat

PROTOCOLS = {"paper": "the paper's protocol", "leak_free": "the leak-free protocol"}
GROUPS = {"paper": "", "baseline": "Nothing trained", "ours": "Beyond the paper"}
STATUSES = ("collapsed", "diverged")
# Names in JSON that differ from those of the fields.
_JSON_NAMES = {"p_bonferroni": "bonferroni", "p_holm": "holm"}


class RunRecord(NamedTuple):
    """One trained model; the first five fields are those of its `store.Spec`.

    Attributes:
      settings: settings of the method that differ from the card's.
      epochs: maximum number of epochs.
      stage: stage of the search that requested it first.
      status: "done" or "diverged".
      seconds: training time.
      epochs_done: epochs trained, fewer than `epochs` after early stopping or divergence.
      best_epoch: epoch whose weights are kept.
      valid: metrics on validation images, by protocol, score and metric.
      collapsed: names of scores without information.
      commit: commit of the program that trained it.
      devices: devices that trained it.
      unconverged: names of final one-class SVMs that did not converge; None before judging.
      dimensions: effective number of dimensions of the training latents.
      judged_by: names of the final scores and one-class SVMs used; None before judging.
    """

    method: str
    settings: Mapping[str, Any]
    seed: int
    epochs: int
    stage: str
    status: str
    seconds: float
    epochs_done: int
    best_epoch: int
    valid: Mapping[str, Mapping[str, Mapping[str, float]]]
    collapsed: Sequence[str]
    commit: str | None = None
    devices: str | None = None
    unconverged: Sequence[str] | None = None
    dimensions: float | None = None
    judged_by: Sequence[str] | None = None


class Visit(NamedTuple):
    """A run of the search as the results list it; see `RunRecord`.

    Attributes:
      stage: stage of this call's search; "earlier" for runs that only earlier calls requested.
      status: "done", "diverged" or "collapsed".
      valid: validation AUROC by score, under the protocol that guides the search.
    """

    method: str
    settings: Mapping[str, Any]
    seed: int
    epochs: int
    stage: str
    status: str
    valid: Mapping[str, float]
    seconds: float | None = None
    epochs_done: int | None = None
    best_epoch: int | None = None
    dimensions: float | None = None
    commit: str | None = None
    unconverged: Sequence[str] | None = None


class ProtocolResult(NamedTuple):
    """Result of a row under one protocol.

    Attributes:
      settings: chosen on validation images, by names such as "method.nu" and "final.gamma".
      valid: validation metrics over the runs; None without a result.
      test: test metrics over the runs; None without a result.
      by_corruption: test AUROC by corruption.
      collapsed: seeds whose scores collapsed.
      diverged: seeds whose training diverged.
      seeds: seeds of the runs with a result.
      unconverged: seeds whose final one-class SVM did not converge.
      scored_before: other settings with which this row's test images were scored before.
      ensemble: metrics of all runs as one detector; None for fewer than two runs.
      dimensions: effective number of dimensions of the latents.
      latent_scores: test metrics of other scores on the same latents, by score and metric: "ocsvm"
        for the final one-class SVM and the names in `density.DENSITY_SCORES`.
      by_domain: test metrics of the score without the domain; None without a result.
    """

    settings: Mapping[str, Any]
    valid: Mapping[str, Stat] | None
    test: Mapping[str, Stat] | None
    by_corruption: Mapping[str, Stat]
    collapsed: Sequence[int]
    diverged: Sequence[int]
    seeds: Sequence[int] = ()
    unconverged: Sequence[int] = ()
    scored_before: Sequence[Mapping[str, Any]] = ()
    ensemble: Mapping[str, float] | None = None
    dimensions: Stat | None = None
    latent_scores: Mapping[str, Mapping[str, Stat]] = MappingProxyType({})
    by_domain: Mapping[str, Stat] | None = None


class RowRecord(NamedTuple):
    """A row of the table.

    Attributes:
      name: unique name of the row.
      score: description of the score that it is judged by.
      group: a name in `GROUPS`: "paper" for a row of the paper's table.
      paper: published value by metric; None if the paper has none for this task.
      protocols: results by protocol.
    """

    name: str
    score: str
    group: str
    paper: Mapping[str, float] | None
    protocols: Mapping[str, ProtocolResult]

    def test(self, protocol: str) -> Mapping[str, Stat]:
        """Test metrics under a protocol; empty without a result."""
        own = self.protocols.get(protocol)
        return (own.test if own else None) or {}


class Compared(NamedTuple):
    """The best row in one metric, and its comparison with every other row."""

    best: str
    rivals: Mapping[str, Rival]


class ComparedOverSeeds(NamedTuple):
    """The same where seeds are resampled, too; see `evaluation.over_seeds`."""

    best: str
    rivals: Mapping[str, SeedRival]


# Comparisons by protocol and metric.
Comparisons = Mapping[str, Mapping[str, Compared]]
ComparisonsOverSeeds = Mapping[str, Mapping[str, ComparedOverSeeds]]


class DomainRecord(NamedTuple):
    """The groups of images in which scores without the domain are expressed.

    Attributes:
      silhouette: mean silhouette of the groups; None for a single one.
      images: numbers of images in each group: "valid", "test", and of these the anomalous ones,
        "valid_anomalous" and "test_anomalous".
      far: number of test images that are far from every group.
    """

    silhouette: float | None
    images: Mapping[str, Sequence[int]]
    far: int


class TableRecord(NamedTuple):
    """Everything in a report except the arrays behind its pictures.

    Attributes:
      command: command line that repeats the table.
      facts: machine, versions and commit.
      config: the card.
      resamples: number of resamples of the bootstraps.
      alpha: level of significance of the comparisons.
      rows: rows in the order of the table.
      comparisons: comparison of the best of all rows with the others, over resampled images.
      visited: the runs of the search.
      counts: number of images in each part.
      wall_seconds: total time of all calls; None if it was not measured.
      comparisons_of_paper: the same among the paper's rows alone.
      guide: protocol whose validation images guided the search.
      prevalence: share of anomalous test images by protocol: the chance level of AUPR.
      over_seeds: comparison of the best of all rows with the others, over seeds.
      over_seeds_of_paper: the same among the paper's rows alone.
      domains: the groups behind the scores without the domain, by protocol.
    """

    title: str
    command: str
    facts: Mapping[str, str]
    config: Mapping[str, Any]
    seeds: Sequence[int]
    resamples: int
    alpha: float
    rows: Sequence[RowRecord]
    comparisons: Comparisons
    visited: Sequence[Visit]
    counts: Mapping[str, int]
    wall_seconds: float | None
    comparisons_of_paper: Comparisons = MappingProxyType({})
    guide: str | None = None
    prevalence: Mapping[str, float] = MappingProxyType({})
    over_seeds: ComparisonsOverSeeds = MappingProxyType({})
    over_seeds_of_paper: ComparisonsOverSeeds = MappingProxyType({})
    domains: Mapping[str, DomainRecord] = MappingProxyType({})

    @property
    def protocols(self) -> list[str]:
        """Protocols with results for at least one row, in the order of `PROTOCOLS`."""
        found = {name for row in self.rows for name in row.protocols}
        return [name for name in PROTOCOLS if name in found]


def to_json(value: Any) -> Any:
    """Converts a record to dicts, lists, strings and numbers."""
    if hasattr(value, "_asdict"):
        return {_json_name(name): to_json(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: to_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def run_from_json(value: Any) -> RunRecord:
    """Reads the record of a run; raises ValueError if a field is missing."""
    return _typed(RunRecord, value)


def table_from_json(value: Any) -> TableRecord:
    """Reads the record of a table.

    Raises:
      ValueError: a field is missing, two rows share a name, or a group or protocol is unknown.
    """
    record: TableRecord = _typed(TableRecord, value)
    names = [row.name for row in record.rows]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Rows share the name {', '.join(repeated)}: give each its own.")
    groups = {row.group for row in record.rows}
    ran = {name for row in record.rows for name in row.protocols}
    for kind, found, known in (("group", groups, GROUPS), ("protocol", ran, PROTOCOLS)):
        if unknown := sorted(found - known.keys()):
            raise ValueError(
                f"The record has the {kind} {', '.join(unknown)}: the report knows "
                f"{', '.join(known)}."
            )
    return record


def _typed(kind: Any, value: Any) -> Any:
    """Inverse of `to_json` for a value of type `kind`; numbers and strings are not checked."""
    arguments = get_args(kind)
    if type(None) in arguments:
        return None if value is None else _typed(arguments[0], value)
    if get_origin(kind) is Mapping:
        return {name: _typed(arguments[1], part) for name, part in value.items()}
    if get_origin(kind) is Sequence:
        return [_typed(arguments[0], part) for part in value]
    if not hasattr(kind, "_fields"):
        return value
    fields = {name: _json_name(name) for name in kind._fields}
    needed = [key for name, key in fields.items() if name not in kind._field_defaults]
    if missing := [key for key in needed if key not in value]:
        raise ValueError(
            f"The record has no {', '.join(missing)}: a {kind.__name__} needs {', '.join(needed)}."
        )
    hints = _hints(kind)
    return kind(**{n: _typed(hints[n], value[key]) for n, key in fields.items() if key in value})


def _json_name(field: str) -> str:
    return _JSON_NAMES.get(field, field)


_hints = functools.cache(get_type_hints)
