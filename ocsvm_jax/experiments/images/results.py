"""What a trained method is judged by: scores of both splits, a table, a picture of the latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ocsvm_jax import data
from ocsvm_jax.evaluation import collapse, metrics
from ocsvm_jax.evaluation import scores as scoring
from ocsvm_jax.files import whole_file
from ocsvm_jax.methods import Method
from ocsvm_jax.model import OCSVM
from ocsvm_jax.reports.figures import LatentPicture
from ocsvm_jax.solver import Status

SPLITS = ("val", "test")


def score_splits(
    method: Method, state: Any, ocsvm: OCSVM, dataset: data.Dataset
) -> dict[str, np.ndarray]:
    """The content of scores.npz: for each split, `<split>_labels` and the arrays aligned with it.

    Labels are 1 for anomalous images; beside them are `<split>_corruption` and, for each score of
    the method, `<split>_<score>`.
    """
    out: dict[str, np.ndarray] = {}
    for split, images in zip(SPLITS, (dataset.valid, dataset.test), strict=True):
        out[f"{split}_labels"] = images.anomalous
        out[f"{split}_corruption"] = images.corruption
        scores = scoring.score_images(method, state, ocsvm, images.images)
        out |= {f"{split}_{name}": value for name, value in scores.items()}
    return out


def save_scores(path: Path, scores: Mapping[str, np.ndarray]) -> None:
    """Writes scores.npz, whole or not at all."""
    with whole_file(path) as file:
        np.savez_compressed(file, **scores)  # pyright: ignore[reportArgumentType]


def without_information(
    method: Method, state: Any, dataset: data.Dataset, scores: Mapping[str, np.ndarray]
) -> list[str]:
    """Names of the scores that have collapsed on the validation images, see `collapse`.

    What is said of a score on the test images would be luck: it is not to be reported.
    """
    z = scoring.encode_images(method, state, dataset.valid.images).astype(np.float64)
    sizes = np.sum(z**2, axis=1)
    own = {name: values for name, values in _of_split(scores, "val").items() if name != "ocsvm"}
    return [
        name
        for name, values in own.items()
        if collapse.collapsed(values, sizes if name == "distance" else None)
    ]


def _of_split(scores: Mapping[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(f"{split}_"): value
        for name, value in scores.items()
        if name.startswith(f"{split}_") and value.dtype.kind == "f"
    }


def rows(
    scores: Mapping[str, np.ndarray], resamples: int, left_out: Sequence[str] = ()
) -> list[metrics.Row]:
    """AUROC, AUPR and AUROC30 with bootstrap intervals of every score on both splits.

    Args:
      scores: as `score_splits` gives them.
      resamples: of the bootstrap.
      left_out: names of scores that are no result, see `without_information`.
    """
    out = []
    for split in SPLITS:
        labels = scores[f"{split}_labels"]
        own = {n: v for n, v in _of_split(scores, split).items() if n not in left_out}
        out += metrics.table(labels, own, split=split, num_resamples=resamples)
    return out


def describe_collapse(names: Sequence[str]) -> str:
    """What to tell of scores without information."""
    return (
        f"the score {' and '.join(names)} has collapsed: it hardly differs between images, so it "
        "is no result and is left out of the tables"
    )


def describe_fit(ocsvm: OCSVM, num_latents: int) -> str:
    """How the fit of the final one-class SVM ended, in words."""
    assert ocsvm.info is not None, "a model that ocsvm_fit returned"
    status = Status(int(ocsvm.info.status)).name.lower().replace("_", " ")
    vectors = f"{ocsvm.coefficients.shape[0]} support vectors of {num_latents} latents"
    return f"{vectors}, {status}, gap {float(ocsvm.info.gap):.1e}"


def latent_picture(
    method: Method,
    state: Any,
    ocsvm: OCSVM,
    train: data.ImageSet,
    test: data.ImageSet,
    per_group: int = 400,
) -> LatentPicture | None:
    """Latents and the decision function in the plane of the two main directions of the training.

    At most `per_group` points are taken of each group, at random. Latents of one dimension have no
    such plane, and no picture.
    """
    z_train = scoring.encode_images(method, state, train.images)
    if z_train.shape[1] < 2:
        return None
    centre = z_train.mean(0)
    plane = np.linalg.svd(z_train - centre, full_matrices=False)[2][:2]
    rng = np.random.default_rng(0)

    def some(images: np.ndarray) -> np.ndarray:
        rows = np.sort(rng.permutation(len(images))[:per_group])
        return scoring.encode_images(method, state, images[rows])

    groups = {
        "train": z_train[np.sort(rng.permutation(len(z_train))[:per_group])],
        "test normal": some(test.images[test.anomalous == 0]),
        "test anomalous": some(test.images[test.anomalous == 1]),
    }
    points = (np.concatenate(list(groups.values())) - centre) @ plane.T
    margin = 0.1 * np.ptp(points, axis=0) + 1e-3
    axis_x, axis_y = np.linspace(points.min(0) - margin, points.max(0) + margin, 120).T
    grid = np.stack(np.meshgrid(axis_x, axis_y), -1).reshape(-1, 2)
    f = ocsvm.decision_function(jnp.asarray(centre + grid @ plane, z_train.dtype))
    return LatentPicture(
        points=points,
        group=np.repeat(list(groups), [len(z) for z in groups.values()]),
        axis_x=axis_x,
        axis_y=axis_y,
        decision=np.asarray(f).reshape(len(axis_y), len(axis_x)),
        title="Latents and the final one-class SVM",
        caption="The plane runs through the mean of the training latents along their two main "
        "directions. Points are projected onto it; f is that of the points of the plane, so a "
        "latent may lie on another side of the boundary than its projection.",
    )
