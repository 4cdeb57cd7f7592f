"""Descriptions of a population: `phantom.json`, and the table of its subjects."""

from typing import Any, NamedTuple

from ocsvm_jax.data.phantom import files
from ocsvm_jax.data.phantom.cohorts import CohortPlan, Profile, person
from ocsvm_jax.data.phantom.template import Template

_COLUMNS = ("cohort", "subject", "group", "scanner", "age", "lesion_ml", "prevalence")


class Job(NamedTuple):
    """A subject to write: its cohort, and its number there."""

    cohort: CohortPlan
    number: int


class Written(NamedTuple):
    """A written subject: name, SHA-256 of its arrays, lesion volume, share of the brain."""

    subject: str
    sha256: str
    lesion_ml: float
    prevalence: float


def describe(
    sizes: Profile, template: Template, cohorts: list[CohortPlan], written: dict[Job, Written]
) -> dict[str, Any]:
    """The content of `phantom.json` for a finished population: sizes, prevalence, SHA-256.

    Args:
      sizes: the profile.
      template: the template of the profile.
      cohorts: plans of the cohorts.
      written: all subjects.
    """
    parts, prevalences = {}, {}
    for cohort in cohorts:
        subjects = [written[Job(cohort, number)] for number in range(cohort.size)]
        prevalence = sum(subject.prevalence for subject in subjects) / len(subjects)
        parts[cohort.name] = {
            "subjects": len(subjects),
            "kind": cohort.kind,
            "scanners": list(cohort.scanners),
            "prevalence": prevalence,
            "sha256": files.joint([subject.sha256 for subject in subjects]),
        }
        if cohort.kind != "control":
            prevalences.setdefault(cohort.kind, []).append(prevalence)
    return {
        "complete": True,
        "shape": list(template.shape),
        "slices_mm": list(sizes.slices_mm),
        "subjects": len(written),
        "prevalence": {kind: sum(p) / len(p) for kind, p in prevalences.items()},
        "cohorts": parts,
        "sha256": files.joint([part["sha256"] for part in parts.values()]),
    }


def table(written: dict[Job, Written], seed: int) -> str:
    """The content of `participants.tsv`: one line per subject and cohort, ages in years."""
    lines = ["\t".join(_COLUMNS)]
    for job, subject in written.items():
        cohort = job.cohort
        age, scanner = person(cohort, job.number, seed)
        numbers = (f"{age:.1f}", f"{subject.lesion_ml:.3f}", f"{subject.prevalence:.5f}")
        lines.append(
            "\t".join(
                (cohort.name, subject.subject, cohort.kind, scanner, numbers[0], *numbers[1:])
            )
        )
    return "\n".join(lines) + "\n"
