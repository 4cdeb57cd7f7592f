"""Which figures a report of a table has, and what is said about each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import latent_maps, pictures
from ocsvm_jax.experiments.table.pictures import MeanCurve, PicturesData
from ocsvm_jax.experiments.table.schema import PROTOCOLS, protocols, tested
from ocsvm_jax.reports.figures import png
from ocsvm_jax.reports.numbers import finite

NAMES = ("latent", *(f"{kind}_{name}" for kind in ("dots", "roc") for name in PROTOCOLS))


class Picture(NamedTuple):
    """A figure of the report.

    Attributes:
      image: the content of its PNG file.
      alt: what is said in its place where it cannot be seen.
      caption: what is written below it.
      label: its name.
    """

    image: bytes
    alt: str
    caption: str
    label: str


def draw(record: Mapping[str, Any], data: PicturesData) -> dict[str, Picture]:
    """The figures that this record and these arrays give, by a name of `NAMES`.

    Raises:
      ValueError: the arrays of a latent map are not aligned.
    """
    drawn = {}
    for protocol in protocols(record):
        if any(tested(row, protocol) for row in record["rows"]):
            drawn[f"dots_{protocol}"] = _dots(record, protocol)
        runs = data.roc.get(protocol, {})
        curves = {name: pictures.mean_curve(own) for name, own in runs.items()}
        curves = {name: curve for name, curve in curves.items() if curve is not None}
        if curves:
            drawn[f"roc_{protocol}"] = _roc(curves, protocol, len(record["rows"]))
    if data.latent:
        drawn["latent"] = _latent(data.latent)
    return drawn


def _dots(record: Mapping[str, Any], protocol: str) -> Picture:
    # The paper's rows first, whatever the order of the record.
    rows = sorted(record["rows"], key=lambda row: row["group"] != "paper")
    results = {
        row["name"]: {
            metric: [value for value in stat["values"] if finite(value) is not None]
            for metric, stat in (tested(row, protocol) or {}).items()
        }
        for row in rows
    }
    # The published figures are those of the paper's own protocol.
    published = {
        row["name"]: {m: v for m, v in row["paper"].items() if finite(v) is not None}
        for row in rows
        if row.get("paper") and protocol == "paper"
    }
    chance = {"AUROC": 0.5, "AUROC30": 0.5}
    if (share := (record.get("prevalence") or {}).get(protocol)) is not None:
        chance["AUPR"] = share
    others = [row["name"] for row in rows if row["group"] != "paper"]
    name = PROTOCOLS[protocol]
    return Picture(
        png(pictures.dots, results, published, chance, others),
        f"For each method the {', '.join(METRICS)} of every seed and their mean; the numbers are "
        "in the table of results.",
        f"Test images, {name}: one dot for each seed, and their mean"
        + (", beside the figure that the paper gives." if published else ".")
        + (" Below the line: methods beyond the paper." if 0 < len(others) < len(rows) else ""),
        f"Results by seed, {name}",
    )


def _roc(curves: Mapping[str, MeanCurve], protocol: str, rows: int) -> Picture:
    best = max(curves, key=lambda name: curves[name].auroc)
    runs = [curve.runs for curve in curves.values()]
    counts = f"{min(runs)} to {max(runs)}" if min(runs) < max(runs) else f"{runs[0]}"
    name = PROTOCOLS[protocol]
    return Picture(
        png(pictures.roc, curves),
        f"ROC curves of {len(curves)} methods, each over those of the others; the best is {best}. "
        "The areas are in the table of results.",
        f"Mean ROC curve of each method on the test images, {name}, averaged over {counts} "
        f"run{'s' * (max(runs) > 1)} at equal false positive rates. Band: ± one standard "
        "deviation. Grey background: the false positive rates up to 0.3, over which AUROC30 is "
        "computed." + (" A method without a result has no panel." if len(curves) < rows else ""),
        f"ROC curves, {name}",
    )


def _latent(maps: Mapping[str, Any]) -> Picture:
    points = [np.asarray(picture[0], dtype=np.float64) for picture in maps.values()]
    image = png(latent_maps.latent_maps, {n: latent_maps.LatentMap(*p) for n, p in maps.items()})
    beyond = sum(int(latent_maps.outside(own).sum()) for own in points)
    total = sum(len(own) for own in points)
    return Picture(
        image,
        f"Latents of {', '.join(maps)} in a plane, once coloured by corruption and once by digit.",
        "Latents of one seed of each method, in the plane of their two main directions. At most "
        f"{latent_maps.MAX_POINTS_PER_GROUP} points are drawn of each combination of split, digit "
        f"and corruption; {beyond:,} of {total:,} points lie outside of their panel, which holds "
        "the central 99% of each direction and a margin.",
        "Latents by corruption and by digit",
    )
