"""Tables of other scores of the runs that the rows report: as one detector, on the same latents."""

from ocsvm_jax.evaluation.metrics import METRICS
from ocsvm_jax.experiments.table.columns import blocks, cell, column, over
from ocsvm_jax.experiments.table.record import PROTOCOLS, TableRecord
from ocsvm_jax.reports.numbers import mean, score
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
