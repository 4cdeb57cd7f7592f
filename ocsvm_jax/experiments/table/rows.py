"""The rows of Table I with their published values, followed by baselines and our own rows.

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, Table I (digit 3 against digit 8).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of the table: a method judged by one of its scores.

    Attributes:
      name: name in the paper, or our own.
      method: name of the registered method; rows of one method share its trained models.
      score: name of the score; "ocsvm" for that of the final one-class SVM on the latents.
      words: description of the score.
      group: "paper" for the eleven rows of the paper's table, "baseline" for those of a baseline,
        "ours" for all others.
      published: the paper's AUROC, AUPR and AUROC30, if it has the row.
      searched: whether the search optimises this row; if not, the row chooses among the points
        found for the method's other rows.
      fixed: settings of an ablation, the only ones that this row reports; None for other rows.
    """

    name: str
    method: str
    score: str
    words: str
    group: str = "paper"
    published: tuple[float, float, float] | None = None
    searched: bool = True
    fixed: Mapping[str, Any] | None = None


_FINAL, _ERROR, _DISTANCE = "-f, final one-class SVM", "reconstruction error", "distance to centre"
_LOG = "log form of -f, final one-class SVM"
_CONTRAST = "contrast of -f and of log error"
# What is fitted to the same latents as the final one-class SVM, see `evaluation.density`.
DENSITY_WORDS = {
    "gaussian": "Mahalanobis distance of latents",
    "knn": "distance of latents to 5 neighbours",
}

ROWS = (
    Row("AE", "ae", "reconstruction", _ERROR, published=(0.56, 0.66, 0.66)),
    Row("AE + OCSVM", "ae", "ocsvm", _FINAL, published=(0.54, 0.65, 0.67)),
    Row("VAE", "vae", "reconstruction", _ERROR, published=(0.54, 0.65, 0.66)),
    Row("VAE + OCSVM", "vae", "ocsvm", _FINAL, published=(0.52, 0.63, 0.65)),
    Row("SAE", "sae", "reconstruction", _ERROR, published=(0.55, 0.65, 0.67)),
    Row("SAE + OCSVM", "sae", "ocsvm", _FINAL, published=(0.53, 0.64, 0.66)),
    Row("OgAE", "ogae", "ocsvm", _FINAL, published=(0.59, 0.70, 0.71)),
    Row("h-DSVDD", "deep_svdd", "distance", _DISTANCE, published=(0.51, 0.62, 0.65)),
    Row("s-DSVDD", "soft_deep_svdd", "distance", _DISTANCE, published=(0.52, 0.63, 0.66)),
    Row("DSPSVDD", "dspsvdd", "distance", _DISTANCE, published=(0.51, 0.62, 0.65)),
    Row("DVAESVDD", "dvaesvdd", "distance", _DISTANCE, published=(0.59, 0.67, 0.65)),
    # Principal components of the pixels: nothing is trained.
    *(
        Row(name, "pca", score, words, group="baseline")
        for name, score, words in (
            ("PCA", "reconstruction", _ERROR),
            ("PCA, contrast of error", "error-contrast", "contrast of log error"),
            ("PCA, contrast", "contrast+error", _CONTRAST),
            ("PCA + OCSVM", "ocsvm", _FINAL),
            ("PCA + Gaussian", "gaussian", DENSITY_WORDS["gaussian"]),
            ("PCA + neighbours", "knn", DENSITY_WORDS["knn"]),
        )
    ),
    Row(
        "OgAE, last-M",
        "ogae",
        "last_m",
        "-f, mean of the last M steps",
        group="ours",
        searched=False,
    ),
    Row("AE, contrast", "ae", "contrast+error", _CONTRAST, group="ours", searched=False),
    Row("OgAE, contrast", "ogae", "contrast+error", _CONTRAST, group="ours", searched=False),
    Row("Edited OgAE", "edited_ogae", "ocsvm-log", _LOG, group="ours"),
    Row("Turned OgAE", "turned_ogae", "contrast+error", _CONTRAST, group="ours"),
    Row("Turned OgAE, -f alone", "turned_ogae", "ocsvm", _FINAL, group="ours", searched=False),
    # Turned OgAE without one part of its loss; all other settings are the card's.
    *(
        Row(
            f"Turned OgAE without {part}",
            "turned_ogae",
            "contrast+error",
            _CONTRAST,
            group="ours",
            fixed=less,
        )
        for part, less in {
            "turned images": {"turned_weight": 0.0},
            "guidance": {"guidance_weight": 0.0},
            "both": {"guidance_weight": 0.0, "turned_weight": 0.0},
        }.items()
    ),
)
