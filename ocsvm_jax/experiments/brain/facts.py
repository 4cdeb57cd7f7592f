"""Tables and facts beside the results: cohorts, training, costs and provenance."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ocsvm_jax.experiments.brain.recipes import name_of
from ocsvm_jax.experiments.brain.records import Results
from ocsvm_jax.reports.numbers import NONE
from ocsvm_jax.reports.page import Table

_UNRECORDED = "not recorded"  # facts of runs by versions that did not record them
_DIGITS = 12  # of a cohort's SHA-256; the digest of the whole population is given in full


def cohorts(results: Results) -> Table:
    """Cohorts with their roles, and for synthetic ones scanners, prevalence and SHA-256."""
    design, synthetic = results.design, results.data.synthetic
    roles = {design.train: "training", design.held_out: f"{_held_out(results)}, threshold"}
    for arm in design.arms:
        roles |= {name: f"test, {kind} lesions" for kind, name in arm.patients.items()}
        roles |= {arm.controls: "test, controls"} if arm.controls else {}
    header = ["cohort", "used for", "subjects"]
    if synthetic:
        header += ["scanners", "prevalence", "SHA-256"]
    lines = []
    for name, subjects in results.data.subjects.items():
        line = [name, roles.get(name, NONE), f"{subjects:,}"]
        if synthetic:
            line += _origin(synthetic["cohorts"].get(name))
        lines.append(line)
    return Table("Cohorts", header, {"": lines}, words=(1,))


def _origin(made: Mapping[str, Any] | None) -> list[str]:
    if made is None:
        return [NONE] * 3
    digest = f"{made['sha256'][:_DIGITS]}…"
    return [", ".join(made["scanners"]), f"{made['prevalence']:.4f}", digest]


def training(results: Results) -> Table | None:
    """One line per run that trained something; None if no run did."""
    lines = []
    for run in results.runs:
        if history := run.history:
            valid = [(epoch["valid_loss"], epoch["epoch"]) for epoch in history if _known(epoch)]
            lowest = "{:.4g} (epoch {})".format(*min(valid)) if valid else NONE
            last = f"{valid[-1][0]:.4g}" if valid else NONE
            loss = f"{history[-1]['loss']:.4g}" if "loss" in history[-1] else NONE
            line = [name_of(run.method), str(run.seed), str(len(history)), loss, last, lowest]
            lines.append(line)
    header = ["method", "seed", "epochs", "last loss", f"{_held_out(results)}, last", "its lowest"]
    return Table("Training, run by run", header, {"": lines}) if lines else None


def _held_out(results: Results) -> str:
    """Role of the held-out loss: without patience it does not stop training."""
    return "early stopping" if results.config["train"]["patience"] else "held-out loss"


def _known(epoch: Mapping[str, Any]) -> bool:
    return math.isfinite(epoch.get("valid_loss", math.nan))


def costs(results: Results) -> Table:
    """Seconds per run, and locations mapped per second."""
    lines = []
    for run in results.runs:
        speed = results.data.locations / max(run.seconds.maps, 1e-9)
        times = [f"{seconds:,.1f}" for seconds in run.seconds]
        lines.append([name_of(run.method), str(run.seed), *times, f"{speed:,.0f}"])
    caption = (
        f"Seconds per run. Voxels/s: {results.data.locations:,} locations divided by the seconds "
        "for the maps, each location for all subjects at once; for an interrupted run, only the "
        "time since its last start counts"
    )
    header = ["method", "seed", "training", "maps", "judging", "voxels/s"]
    return Table(caption, header, {"": lines})


def origin(results: Results) -> dict[str, str]:
    """Summary of the data; machine, versions and commits of the runs; wall time."""
    data = results.data
    items = {
        "locations": f"{data.locations:,} voxels on {data.slices} slice" + "s" * (data.slices > 1),
        "subjects": f"{sum(data.subjects.values()):,} in {len(data.subjects)} cohorts",
    }
    if made := data.synthetic:
        items["synthetic population"] = (
            f"profile {made['profile']}, seed {made['seed']}, recipe {made['recipe']}; lesions "
            + ("drawn" if made.get("lesion_masks") is None else "of real shapes, planted")
        )
        items["SHA-256 of the arrays"] = made["sha256"]
    wall = f"{results.wall_seconds:,.0f} s since the last start"
    return items | _provenance(results) | {"wall time": wall}


def _provenance(results: Results) -> dict[str, str]:
    """Facts as recorded when each run ended; those of the report only where they differ."""
    items = {}
    for name, last in results.facts.items():
        counts = Counter(run.facts.get(name, _UNRECORDED) for run in results.runs)
        parts = [
            value if len(counts) == 1 else f"{value} ({count} of {counts.total()} runs)"
            for value, count in counts.items()
        ]
        if last not in counts:
            parts.append(f"{last} (this report)")
        items[name] = "; ".join(parts)
        if name == "commit" and len(counts) > 1:
            items["note"] = (
                "the runs are not known to be all of one commit; what differs between them may be "
                "due to the code"
            )
    return items
