"""Tables of other scores of the runs that the rows report.

As one detector, on the same latents, and without the domain.
"""

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.columns import blocks, cell, column, over
from ocsvm_jax.experiments.table.record import PROTOCOLS, TableRecord
from ocsvm_jax.reports.numbers import mean, percent, score
from ocsvm_jax.reports.page import Table

ENSEMBLES = (
    "The runs of a row, which differ in their seed, as one detector: the score of an image is the "
    "mean of its ranks among the test images under each of the models, so that it takes a set of "
    "images to score one. It costs as many trainings as there are models. Nothing was chosen for "
    "it; as a single detector it has no spread over seeds."
)


def ensembles(record: TableRecord, protocol: str) -> Table | None:
    """The runs of each row as one detector, beside their mean; None if no row has several runs."""
    rows, lines = [], []
    for row in record.rows:
        own, alone = row.protocols.get(protocol), row.test(protocol)
        if not (own and own.ensemble and alone):
            continue
        pairs = [(score(mean(alone[m])), score(own.ensemble[m])) for m in METRICS]
        models = len(alone[METRICS[0]].values)
        rows.append(row)
        lines.append([row.name, str(models), *(cell for pair in pairs for cell in pair)])
    if not rows:
        return None
    header = ["method", "models", *(h for m in METRICS for h in (f"{m}, mean", f"{m}, ensemble"))]
    caption = f"Runs of each row as one detector, {PROTOCOLS[protocol]}"
    return Table(caption, header, blocks(rows, lines))


LATENT_SCORES = (
    "Other scores on the latents of the runs that each row reports: -f of the final one-class SVM "
    "(that of the row, or else the one with the highest validation AUROC), the squared Mahalanobis "
    "distance under a Gaussian with a shrunk covariance, and the mean distance to 5 neighbours, "
    "the last two on standardised latents and without any setting to choose. They show what the "
    "one-class SVM adds to the latents."
)
_COLUMNS = {"ocsvm": "-f", "gaussian": "Gaussian", "knn": "neighbours"}


def latent_scores(record: TableRecord, protocol: str) -> Table | None:
    """Test AUROC of the scores on the same latents; None if no row has any."""
    own = [row.protocols.get(protocol) for row in record.rows]
    stats = [found.latent_scores if found else {} for found in own]
    if not any(stats):
        return None
    columns = [
        column([cell(found.get(name, {}).get(METRICS[0])) for found in stats]) for name in _COLUMNS
    ]
    lines = [[row.name, *cells] for row, *cells in zip(record.rows, *columns, strict=True)]
    caption = f"Test {METRICS[0]} of scores on the same latents, {PROTOCOLS[protocol]}"
    header = ["latents of", *_COLUMNS.values()]
    return Table(f"{caption}, {over(record)}", header, blocks(record.rows, lines))


BY_DOMAIN = (
    "Scores without the domain, for every row: images are grouped by low-level statistics (grey "
    "values, borders, gradients), and a score is expressed in interquartile ranges from the median "
    "of its group. Groups, medians and ranges are those of the validation images, without their "
    "labels. This is outside the paper's protocol, which sees no image of the new domains before "
    "the test but for the choice of settings, and it assumes that all groups have about the same "
    "share of anomalies. Settings are those chosen for the score as it is."
)


def by_domain(record: TableRecord, protocol: str) -> Table | None:
    """Each metric of the score as it is and without the domain; None if no row has both."""
    own = [row.protocols.get(protocol) for row in record.rows]
    stats = [(found.by_domain if found else None) or {} for found in own]
    if not any(stats):
        return None
    columns = {}
    for metric in METRICS:
        columns[metric] = column([cell(row.test(protocol).get(metric)) for row in record.rows])
        columns[f"{metric}, by domain"] = column([cell(found.get(metric)) for found in stats])
    lines = [[row.name, *cells] for row, *cells in zip(record.rows, *columns.values(), strict=True)]
    caption = f"Test images, {PROTOCOLS[protocol]}, as they are and by domain, {over(record)}"
    return Table(caption, ["method", *columns], blocks(record.rows, lines))


def domains(record: TableRecord, protocol: str) -> Table | None:
    """The groups of images, and the share of anomalies in each; None if there are none."""
    found = record.domains.get(protocol)
    if found is None:
        return None
    header = ["group", "validation images", "anomalous", "test images", "anomalous"]
    lines = []
    for i in range(len(found.images["valid"])):
        line = [str(i + 1)]
        for part in ("valid", "test"):
            count, anomalous = (found.images[name][i] for name in (part, f"{part}_anomalous"))
            line += [f"{count:,}", percent(anomalous / count if count else None)]
        lines.append(line)
    structure = "one group" if found.silhouette is None else f"silhouette {found.silhouette:.2f}"
    caption = f"Groups of images, {PROTOCOLS[protocol]}: {structure}"
    if found.far:
        caption += (
            f"; {found.far:,} test images are far from every group and scored in the units of all "
            "validation images"
        )
    return Table(caption, header, {"": lines})
