"""The gallery of a report: score maps of a few patients, one figure per score and kind of lesion.

Scores are read from the map files, one slice and one score at a time.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain import maps, pictures
from ocsvm_jax.experiments.brain.records import Results
from ocsvm_jax.experiments.brain.rows import Row, rows_of
from ocsvm_jax.experiments.brain.study import Arm, Study
from ocsvm_jax.reports import figures
from ocsvm_jax.reports.section import Picture

_SIZES = ("smallest", "median", "largest")
# Scores from which a colour scale is computed; more would not change its ends visibly.
_POOLED = 2_000_000
_GREYS, _COLOURS = 32, 128  # in the palette of a figure


class Patient(NamedTuple):
    """A patient to draw.

    Attributes:
      number: index in the cohort.
      k: index of the slice in the arrays.
      label: text beside the patient's row.
    """

    number: int
    k: int
    label: str


def draw(
    workdir: Path, results: Results, read: Study, locations: Bool[np.ndarray, "z x y"]
) -> dict[str, dict[str, Picture]]:
    """Pictures of the first arm by kind of lesion and row name, for each method's first seed.

    Methods whose maps no longer exist are left out.

    Raises:
      ValueError: the maps in `workdir` were made from other data.
    """
    design = results.design
    arm, tested = design.arms[0], [read.cohorts[name] for name in design.mapped]
    shown = {
        kind: chosen
        for kind, name in arm.patients.items()
        if (chosen := choose(read.cohorts[name], locations, read))
    }
    wanted = {(arm.patients[kind], one.number): one.k for kind, own in shown.items() for one in own}
    drawn: dict[str, dict[str, Picture]] = {kind: {} for kind in shown}
    for row in rows_of(results):
        seed = next(run.seed for run in results.runs if run.method == row.method)
        directory = workdir / "runs" / f"{row.method}-seed{seed}" / "maps"
        if (found := _scores(directory, row.score, arm, tested, locations, wanted)) is None:
            continue
        planes, ends = found
        for kind, own in shown.items():
            cohort = read.cohorts[arm.patients[kind]]
            own_planes = [planes[cohort.name, one.number] for one in own]
            picture = _picture(row, arm, kind, cohort, own, own_planes, ends, locations)
            drawn[kind][row.name] = picture
    return {kind: own for kind, own in drawn.items() if own}


def choose(cohort: Cohort, locations: Bool[np.ndarray, "z x y"], read: Study) -> list[Patient]:
    """The patients with the smallest, median and largest lesion, each on its largest slice.

    Only lesion voxels at `locations` count; patients without any are skipped.

    Args:
      cohort: the patients.
      locations: voxels where maps are made.
      read: the data, for the slice coordinates.
    """
    areas = [(lesion & locations).sum(axis=(1, 2)) for lesion in cohort.lesions]
    ranked = sorted(
        (i for i, area in enumerate(areas) if area.any()), key=lambda i: int(areas[i].sum())
    )
    if not ranked:
        return []
    places = (0, (len(ranked) - 1) // 2, len(ranked) - 1)
    patients: dict[int, Patient] = {}
    for size, place in zip(_SIZES, places, strict=True):
        i = ranked[place]
        k = int(areas[i].argmax())
        z = read.space.affine[2] @ [0, 0, read.space.slices[k], 1]
        label = f"{size}: {areas[i].sum():,} voxels\n{cohort.subjects[i]}\nz = {z:+.0f} mm"
        patients.setdefault(i, Patient(i, k, label))
    return list(patients.values())


def _scores(
    directory: Path,
    score: str,
    arm: Arm,
    tested: Sequence[Cohort],
    locations: Bool[np.ndarray, "z x y"],
    wanted: Mapping[tuple[str, int], int],
) -> tuple[dict[tuple[str, int], Float[np.ndarray, "x y"]], tuple[float, float]] | None:
    """The slices to draw, and the ends of the colour scale over all subjects of the arm.

    Args:
      directory: the maps of a run.
      score: name of the score.
      arm: the subjects that share the colour scale.
      tested: all cohorts in column order.
      locations: voxels where maps are made.
      wanted: slice index by cohort name and patient index.

    Returns:
      Planes by cohort name and patient index, and (vmin, vmax); None if maps are missing.
    """
    starts = np.cumsum([0, *(len(cohort.subjects) for cohort in tested)])
    columns = {c.name: slice(a, b) for c, a, b in zip(tested, starts, starts[1:], strict=False)}
    pooled = [c for c in tested if c.name in arm.cohorts]
    count = locations.sum() * sum(len(cohort.subjects) for cohort in pooled)
    step = math.ceil(count / _POOLED)
    planes, scores, masks = {}, [], []
    for k, values in maps.stored(directory, score):
        expected = (int(locations[k].sum()), int(starts[-1]))
        if values.shape != expected:
            raise ValueError(
                f"{directory} holds scores of shape {values.shape} for slice {k}, but the data "
                f"have {expected} voxels and subjects: the maps were made from other data. Use a "
                "new --workdir."
            )
        x, y = np.nonzero(locations[k])
        for cohort in pooled:
            # A view would keep the whole slice in memory.
            scores.append(values[::step, columns[cohort.name]].T.copy())
            masks.append(cohort.masks[:, k, x[::step], y[::step]])
        for (name, i), wanted_k in wanted.items():
            if wanted_k == k:
                plane = np.full(locations.shape[1:], np.nan, np.float32)
                plane[locations[k]] = values[:, columns[name]][:, i]
                planes[name, i] = plane
    if not scores or planes.keys() != wanted.keys():
        return None
    return planes, pictures.colour_range(scores, masks)


def _picture(
    row: Row,
    arm: Arm,
    kind: str,
    cohort: Cohort,
    patients: Sequence[Patient],
    planes: Sequence[Float[np.ndarray, "x y"]],
    ends: tuple[float, float],
    locations: Bool[np.ndarray, "z x y"],
) -> Picture:
    numbers, ks = [one.number for one in patients], [one.k for one in patients]
    image = figures.png(
        pictures.overlay,
        cohort.images[numbers, ks],
        planes,
        cohort.masks[numbers, ks] & locations[ks],
        cohort.lesions[numbers, ks],
        labels=[one.label for one in patients],
        threshold=row.runs[0].thresholds["raw"],
        vmin=ends[0],
        vmax=ends[1],
        title=row.name,
    )
    low, high = ends
    caption = f"{row.name}, {arm.said}{kind} lesions. Colours from {low:.3g} to {high:.3g}."
    alt = f"Score maps of {row.name} over brains with {kind} lesions; see the tables."
    file = "-".join(["gallery", *map(_plain, (arm.name, kind, row.method, row.score))])
    return Picture(re.sub("-+", "-", file), _small(image), alt, caption, scrolls=row.name)


def _plain(name: str) -> str:
    """The name in characters that suit a file name."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")


def _small(image: bytes) -> bytes:
    """The PNG reduced to a palette: a third of the size, since noise in brains does not compress.

    The greys are evenly spaced; a palette computed from all pixels would consist mostly of greys.
    """
    with Image.open(io.BytesIO(image)) as file:
        full = file.convert("RGB")
    pixels = np.asarray(full)
    coloured = pixels[np.ptp(pixels, axis=-1) > 255 / _GREYS]
    greys = np.repeat(np.linspace(0, 255, _GREYS).round().astype(int), 3).tolist()
    palette = Image.new("P", (1, 1))
    palette.putpalette(greys + (_palette(coloured) if len(coloured) else []))
    out = io.BytesIO()
    reduced = full.quantize(palette=palette, dither=Image.Dither.NONE)
    reduced.save(out, format="png", optimize=True)
    return out.getvalue()


def _palette(pixels: UInt8[np.ndarray, "n 3"]) -> list[int]:
    found = Image.fromarray(pixels[None]).quantize(_COLOURS, Image.Quantize.MEDIANCUT).getpalette()
    return [] if found is None else found[: 3 * _COLOURS]
