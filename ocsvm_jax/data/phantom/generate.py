"""Writes a synthetic population in several processes, and resumes if it was stopped."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ocsvm_jax import extras
from ocsvm_jax.data.phantom import files, shapes
from ocsvm_jax.data.phantom.cohorts import plan, profile_named
from ocsvm_jax.data.phantom.description import Job, Written, describe, table
from ocsvm_jax.data.phantom.lesions import VOXEL_ML
from ocsvm_jax.data.phantom.shapes import Shape
from ocsvm_jax.data.phantom.subject import draw
from ocsvm_jax.data.phantom.template import Template, prepare
from ocsvm_jax.files import whole_file

with extras.needed_by(__name__, "mri"):
    from tqdm import tqdm

RECIPE = 1  # increase with every change of the images that are drawn
DESCRIPTION = "phantom.json"
_FEW = 100  # below this number of subjects, starting other processes does not pay


class _Maker(NamedTuple):
    """Writes subjects; holds everything that all of them need."""

    out: Path
    template: Template
    seed: int
    lesion_shapes: tuple[Shape, ...]

    def __call__(self, job: Job) -> Written:
        """Writes a subject unless its files exist and are complete."""
        cohort, number = job
        subject = cohort.subject(number)
        names = ["T1", "mask"] + ([] if cohort.kind == "control" else ["lesion"])
        paths = [self.out / cohort.name / f"{subject}_{name}.nii.gz" for name in names]
        try:
            arrays = [files.read(path) for path in paths]
        except (OSError, ValueError):
            template = self.template
            drawn = draw(
                template,
                template.profile,
                cohort.name,
                number,
                self.seed,
                lesion_shapes=self.lesion_shapes,
            )
            arrays = [drawn.image, drawn.mask, drawn.lesion][: len(paths)]
            for path, array in zip(paths, arrays, strict=True):
                files.write(path, array, template.affine)
        voxels = 0 if len(arrays) < 3 else int(arrays[2].sum())
        return Written(
            subject, files.digest(arrays), voxels * VOXEL_ML, voxels / int(arrays[1].sum())
        )


def generate(
    out: Path,
    *,
    profile: str = "full",
    seed: int = 0,
    lesion_masks: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes a population and returns its description, the content of `phantom.json`.

    The files are `<out>/<cohort>/<subject>_T1.nii.gz`, `_mask` and, for patients, `_lesion`;
    `<out>/ventricles.nii.gz` of the template; `<out>/participants.tsv`; and `<out>/phantom.json`
    with the SHA-256 of the arrays. Files are written atomically. If a part of the population
    exists already, a call writes the rest.

    Args:
      out: folder to write; it is created if it does not exist.
      profile: "full" or "ci".
      seed: seed of the population, not negative; another seed gives other people.
      lesion_masks: folder of NIfTI masks in MNI space whose shapes the white matter lesions take.
      workers: number of processes; None is one per processor for a large population, and only this
        process for a small one. With more than one, a script that calls this needs
        `if __name__ == "__main__":`, as always with processes.
      progress: whether to show a progress bar.

    Raises:
      ValueError: if the profile is unknown, the seed is negative, workers is below 1, the folder
        contains another population or files that were changed after they were written, or masks
        are unusable.
    """
    sizes = profile_named(profile)
    if seed < 0:
        raise ValueError(f"The seed is {seed}; it must not be negative.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1, or None.")
    lesion_shapes = shapes.read_shapes(lesion_masks) if lesion_masks else ()
    heading = {
        "profile": profile,
        "seed": seed,
        "recipe": RECIPE,
        "lesion_masks": shapes.identity(lesion_shapes) if lesion_shapes else None,
    }
    before = _begin(out, heading)
    template = prepare(sizes)
    files.write(out / "ventricles.nii.gz", template.ventricles, template.affine)
    cohorts = list(plan(sizes).values())
    for cohort in cohorts:
        (out / cohort.name).mkdir(exist_ok=True)

    jobs = [Job(cohort, number) for cohort in cohorts for number in range(cohort.size)]
    maker = _Maker(out, template, seed, lesion_shapes)
    if workers is None:
        workers = 1 if len(jobs) < _FEW else _processors()
    bar = tqdm(
        _made(maker, jobs, workers),
        desc=f"{profile} population",
        total=len(jobs),
        unit="subject",
        disable=None if progress else True,
    )
    written = dict(zip(jobs, bar, strict=True))
    description = heading | describe(sizes, template, cohorts, written)
    if before.get("sha256", description["sha256"]) != description["sha256"]:
        raise ValueError(_changed_files(out, before, description))
    _write_text(out / "participants.tsv", table(written, seed))
    _write_text(out / DESCRIPTION, json.dumps(description, indent=2) + "\n")
    return description


def _begin(out: Path, heading: dict[str, Any]) -> dict[str, Any]:
    """Claims the folder for a population; returns the description from an earlier call."""
    path = out / DESCRIPTION
    if not path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(f"{out} is not empty and holds no {DESCRIPTION}: take another folder.")
        out.mkdir(parents=True, exist_ok=True)
        _write_text(path, json.dumps(heading | {"complete": False}, indent=2) + "\n")
        return {}
    try:
        before = json.loads(path.read_text())
        found = {key: before[key] for key in heading}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: remove {out} or take another folder.") from error
    other = [
        f"{key} {found[key]!r}, not {heading[key]!r}"
        for key in heading
        if found[key] != heading[key]
    ]
    if other:
        raise ValueError(
            f"{out} holds another population: {'; '.join(other)}. Take another folder or remove it."
        )
    return before


def _made(maker: _Maker, jobs: list[Job], workers: int) -> Iterator[Written]:
    if workers == 1:
        yield from map(maker, jobs)
        return
    # Not by fork, since JAX, which the package imports, runs threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start, (maker,)) as pool:
        try:
            yield from pool.map(_make, jobs, chunksize=4)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_maker: _Maker | None = None  # set in worker processes, which receive the template only once


def _start(maker: _Maker) -> None:
    global _maker
    _maker = maker


def _make(job: Job) -> Written:
    assert _maker is not None
    return _maker(job)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _changed_files(out: Path, before: dict[str, Any], now: dict[str, Any]) -> str:
    names = [
        name
        for name, part in now["cohorts"].items()
        if part["sha256"] != before["cohorts"][name]["sha256"]
    ]
    return (
        f"Files in {out} have changed since the population was finished, in "
        f"{', '.join(names)}. Remove these folders and start again."
    )


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())
