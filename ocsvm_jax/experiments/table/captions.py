"""The pictures in the report of a table, with their captions and alternative texts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table import latent_maps, pictures
from ocsvm_jax.experiments.table.latent_maps import LatentMap
from ocsvm_jax.experiments.table.pictures import MeanCurve
from ocsvm_jax.experiments.table.record import PROTOCOLS, TableRecord
from ocsvm_jax.reports.figures import png
from ocsvm_jax.reports.numbers import finite
from ocsvm_jax.reports.section import Picture

FILES = ("latent", *(f"{kind}_{name}" for kind in ("dots", "roc") for name in PROTOCOLS))


class PicturesData(NamedTuple):
    """The arrays behind the pictures.

    Attributes:
      roc: for each protocol and each row of the table, one pair per seed: labels (n,), 1 for an
        anomalous image, and scores (n,), larger for more anomalous. A run whose scores are not
        finite is left out of the curve.
      latent: the map of each row that has one; rows that share a map share an entry.
    """

    roc: Mapping[str, Mapping[str, Sequence[pictures.LabelsAndScores]]]
    latent: Mapping[str, LatentMap]


def draw(record: TableRecord, data: PicturesData) -> dict[str, Picture]:
    """Draws all pictures that this record and these arrays allow; keys are names in `FILES`.

    Raises:
      ValueError: the arrays of a latent map are not aligned.
    """
    drawn = []
    for protocol in record.protocols:
        if any(row.test(protocol) for row in record.rows):
            drawn.append(_dots(record, protocol))
        runs = data.roc.get(protocol, {})
        curves = {name: pictures.mean_curve(own) for name, own in runs.items()}
        curves = {name: curve for name, curve in curves.items() if curve is not None}
        if curves:
            drawn.append(_roc(curves, protocol, len(record.rows)))
    if data.latent:
        drawn.append(_latent(data.latent))
    return {picture.file: picture for picture in drawn}


def _dots(record: TableRecord, protocol: str) -> Picture:
    # The paper's rows first, whatever the order of the record.
    rows = sorted(record.rows, key=lambda row: row.group != "paper")
    results = {
        row.name: {
            metric: [value for value in stat.values if finite(value) is not None]
            for metric, stat in row.test(protocol).items()
        }
        for row in rows
    }
    # The published values are those of the paper's own protocol.
    published = {
        row.name: {m: v for m, v in row.paper.items() if finite(v) is not None}
        for row in rows
        if row.paper and protocol == "paper"
    }
    chance = {"AUROC": 0.5, "AUROC30": 0.5}
    if protocol in record.prevalence:
        chance["AUPR"] = record.prevalence[protocol]
    others = [row.name for row in rows if row.group != "paper"]
    name = PROTOCOLS[protocol]
    return Picture(
        f"dots_{protocol}",
        png(pictures.dots, results, published, chance, others),
        f"For each method the {', '.join(METRICS)} of every seed and their mean; the numbers are "
        "in the table of results.",
        f"Test images, {name}: one dot for each seed, and their mean"
        + (", beside the value that the paper gives." if published else ".")
        + (" Below the line: methods beyond the paper." if 0 < len(others) < len(rows) else ""),
        f"Results by seed, {name}",
    )


def _roc(curves: Mapping[str, MeanCurve], protocol: str, rows: int) -> Picture:
    best = max(curves, key=lambda name: curves[name].auroc)
    runs = [curve.runs for curve in curves.values()]
    counts = f"{min(runs)} to {max(runs)}" if min(runs) < max(runs) else f"{runs[0]}"
    name = PROTOCOLS[protocol]
    return Picture(
        f"roc_{protocol}",
        png(pictures.roc, curves),
        f"ROC curves of {len(curves)} methods, each over those of the others; the best is {best}. "
        "The areas are in the table of results.",
        f"Mean ROC curve of each method on the test images, {name}, averaged over {counts} "
        f"run{'s' * (max(runs) > 1)} at equal false positive rates. Band: ± one standard "
        "deviation. Grey background: the false positive rates up to 0.3, over which AUROC30 is "
        "computed." + (" A method without a result has no panel." if len(curves) < rows else ""),
        f"ROC curves, {name}",
    )


def _latent(maps: Mapping[str, LatentMap]) -> Picture:
    image = png(latent_maps.latent_maps, maps)
    points = [np.asarray(picture.points, dtype=np.float64) for picture in maps.values()]
    beyond = sum(int(latent_maps.outside(own).sum()) for own in points)
    total = sum(len(own) for own in points)
    return Picture(
        "latent",
        image,
        f"Latents of {', '.join(maps)} in a plane, once coloured by corruption and once by digit.",
        "Latents of one seed of each method, in the plane of their two main directions. At most "
        f"{latent_maps.MAX_POINTS_PER_GROUP} points are drawn of each combination of split, digit "
        f"and corruption; {beyond:,} of {total:,} points lie outside their panel, which holds "
        "the central 99% of each direction and a margin.",
        "Latents by corruption and by digit",
    )
