"""Table I under other definitions of AUPR and AUROC30, and what the published values imply.

    python benchmarks/definitions.py --workdir=DIR [--data_dir=PATH_TO_MNIST_C]

DIR is the working directory of a finished `train.py --config=configs/mnistc_table1.py`; nothing is
trained, chosen or scored. The paper's three columns do not fit any ROC curve of ordinary shape: at
an AUROC near .5, AUPR is .62 although chance is .49, and AUROC30 is .65 although chance is .5 in
McClish's definition. Two other readings of these columns are computed from our rows' test scores:

- AUPR of decisions: the area under two lines, from recall 0 and precision 1 to the threshold that
  calls half of the images anomalous, and from there to recall 1, where the precision is the share
  of anomalous images. At this share, .488, chance is .62.
- upper sensitivity: the mean true positive rate over false positive rates from .3 to 1. Chance is
  .65.

Finally, for each row of the paper: the share of anomalous images at which scores from two normal
distributions of equal variance with the published AUROC have the published AUPR.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats
from sklearn.metrics import auc, precision_recall_curve, roc_curve

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ocsvm_jax import data  # noqa: E402
from ocsvm_jax.evaluation.final import Final, score_name  # noqa: E402
from ocsvm_jax.experiments.table import judge, rows, store  # noqa: E402
from ocsvm_jax.experiments.table.kept_scores import kept_scores  # noqa: E402

_FPR = np.linspace(1e-5, 1 - 1e-5, 20_001)


def aupr_of_decisions(labels: np.ndarray, scores: np.ndarray) -> float:
    """See the module docstring."""
    precision, recall, _ = precision_recall_curve(labels, scores > np.median(scores))
    return float(auc(recall, precision))


def upper_sensitivity(labels: np.ndarray, scores: np.ndarray, least: float = 0.3) -> float:
    """Mean true positive rate over false positive rates from `least` to 1."""
    fpr, tpr, _ = roc_curve(labels, scores)
    grid = np.linspace(least, 1, 2_001)
    return float(np.trapezoid(np.interp(grid, fpr, tpr), grid) / (1 - least))


def implied_prevalence(auroc: float, aupr: float) -> float:
    """Share of anomalous images at which a binormal ROC curve of this AUROC has this AUPR."""
    tpr = stats.norm.cdf(stats.norm.ppf(_FPR) + np.sqrt(2) * stats.norm.ppf(auroc))

    def excess(share: float) -> float:
        precision = share * tpr / (share * tpr + (1 - share) * _FPR)
        return float(np.trapezoid(precision, tpr)) - aupr

    root: Any = optimize.brentq(excess, 0.05, 0.95)
    return float(root)


def test_scores(workdir: Path, record: dict[str, Any], row: rows.Row) -> list[np.ndarray]:
    """The test scores of a row that the table has kept, protocol "paper", one array a seed."""
    (found,) = [r for r in record["rows"] if r["name"] == row.name]
    result = found["protocols"]["paper"]
    parts: dict[str, dict[str, Any]] = {"method": {}, "final": {}}
    for key, value in result["settings"].items():
        part, field = key.split(".")
        parts[part][field] = value
    name = score_name(row.score, Final(**parts["final"]).name if parts["final"] else None)
    out = []
    for seed in result["seeds"]:
        epochs = record["config"]["train"]["epochs"]
        spec = store.Spec(row.method, parts["method"], seed, epochs, "")
        out.append(kept_scores(workdir, "paper", spec)["test"][name])
    return out


def main() -> None:
    """Prints a Markdown table, and how far each pair of columns lies from the paper's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--data_dir", default="")
    arguments = parser.parse_args()
    record = json.loads((arguments.workdir / "results.json").read_text())
    test = data.load(**record["config"]["data"] | {"dir": arguments.data_dir}).test
    print(
        "| method | AUROC | paper | AUPR | of decisions | paper | AUROC30 | upper sensitivity "
        "| paper | implied share |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    ours, theirs = [], []
    for row in [row for row in rows.ROWS if row.group == "paper"]:
        figures = []
        for values in test_scores(arguments.workdir, record, row):
            auroc, aupr, auroc30 = judge.metrics_of(test.anomalous, values).values()
            decisions = aupr_of_decisions(test.anomalous, values)
            figures.append(
                [auroc, aupr, decisions, auroc30, upper_sensitivity(test.anomalous, values)]
            )
        if not figures or row.published is None:
            continue
        mean, (p_auroc, p_aupr, p_auroc30) = np.mean(figures, axis=0), row.published
        ours.append(mean)
        theirs.append([p_auroc, p_aupr, p_aupr, p_auroc30, p_auroc30])
        words = [f"{value:.3f}" for value in mean]
        print(
            f"| {row.name} | {words[0]} | {p_auroc} | {words[1]} | {words[2]} | {p_aupr} "
            f"| {words[3]} | {words[4]} | {p_auroc30} "
            f"| {implied_prevalence(p_auroc, p_aupr):.3f} |"
        )
    difference = np.abs(np.array(ours) - np.array(theirs)).mean(axis=0)
    names = ("AUROC", "AUPR", "AUPR of decisions", "AUROC30", "upper sensitivity")
    for name, value in zip(names, difference, strict=True):
        print(f"\nMean distance from the paper's column, {name}: {value:.3f}", end="")
    print()


if __name__ == "__main__":
    main()
