"""Results of a trained method: scores of both splits, table rows, picture of the latents."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ocsvm_jax import data
from ocsvm_jax.evaluation import domains, metrics
from ocsvm_jax.evaluation.density import LatentDensity
from ocsvm_jax.evaluation.domains import Domains
from ocsvm_jax.evaluation.latents import Plane, some_of_each
from ocsvm_jax.evaluation.scores import BothWays, FinalOCSVM, all_scores
from ocsvm_jax.files import whole_file
from ocsvm_jax.model import OCSVM
from ocsvm_jax.reports.figures import LatentPicture
from ocsvm_jax.solver import Status

SPLITS = ("val", "test")


def score_splits(
    final: FinalOCSVM,
    density: LatentDensity | None,
    seen: Mapping[str, BothWays],
    dataset: data.Dataset,
) -> dict[str, np.ndarray]:
    """The content of scores.npz: aligned arrays of labels, corruptions and scores per split.

    They are `<split>_labels` (1 for anomalous images), `<split>_corruption`, and `<split>_<score>`
    for each score of `evaluation.scores.all_scores`.
    """
    out: dict[str, np.ndarray] = {}
    for split, images in zip(SPLITS, (dataset.valid, dataset.test), strict=True):
        out[f"{split}_labels"] = images.anomalous
        out[f"{split}_corruption"] = images.corruption
        scores = all_scores(final, seen[split], density)
        out |= {f"{split}_{name}": value for name, value in scores.items()}
    return out


def save_scores(path: Path, scores: Mapping[str, np.ndarray]) -> None:
    """Writes scores.npz atomically."""
    with whole_file(path) as file:
        np.savez_compressed(file, **scores)  # pyright: ignore[reportArgumentType]


def of_split(scores: Mapping[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """The scores of one split by name."""
    return {
        name.removeprefix(f"{split}_"): value
        for name, value in scores.items()
        if name.startswith(f"{split}_") and value.dtype.kind == "f"
    }


def fit_domains(valid: data.ImageSet, scores: Mapping[str, np.ndarray], seed: int) -> Domains:
    """Groups of the validation images, and where their scores lie; labels are not used.

    Args:
      valid: the validation images.
      scores: as returned by `score_splits`.
      seed: seed of the run.
    """
    own = of_split(scores, SPLITS[0])
    return domains.fit_domains(valid.images, own, jax.random.key(seed))


def by_domain(
    fitted: Domains, images: np.ndarray, scores: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores without the domain, by the name of the score and "_by_domain", and far images."""
    found = domains.normalized(fitted, images, scores)
    return {f"{name}_by_domain": v for name, v in found.scores.items()}, found.far


def describe_domains(fitted: Domains, name: str, far: np.ndarray) -> str:
    """How many groups there are, and how many images belong to none."""
    text = f"{name}: {len(fitted.groups.centres)} groups of validation images"
    if not far.any():
        return text
    return (
        f"{text}; {far.sum():,} of {far.size:,} images are far from every group. Their domain was "
        "not seen: their scores by domain are in the units of all validation images"
    )


def rows(
    scores: Mapping[str, np.ndarray], resamples: int, left_out: Sequence[str] = ()
) -> list[metrics.Row]:
    """AUROC, AUPR and AUROC30 with bootstrap intervals of every score on both splits.

    Args:
      scores: as returned by `score_splits`.
      resamples: number of bootstrap resamples.
      left_out: names of collapsed scores, see `evaluation.collapse`.
    """
    out = []
    for split in SPLITS:
        labels = scores[f"{split}_labels"]
        own = {n: v for n, v in of_split(scores, split).items() if n not in left_out}
        out += metrics.table(labels, own, split=split, num_resamples=resamples)
    return out


def describe_collapse(names: Sequence[str]) -> str:
    """The message about scores without information."""
    return (
        f"the score {' and '.join(names)} has collapsed: it hardly differs between images, so it "
        "is not a result and is left out of the tables"
    )


def describe_fit(ocsvm: OCSVM, num_latents: int) -> str:
    """Support vectors, status and gap of the final one-class SVM, in words."""
    assert ocsvm.info is not None, "a model that ocsvm_fit returned"
    status = Status(int(ocsvm.info.status)).name.lower().replace("_", " ")
    vectors = f"{ocsvm.coefficients.shape[0]} support vectors of {num_latents} latents"
    return f"{vectors}, {status}, gap {float(ocsvm.info.gap):.1e}"


def latent_picture(
    ocsvm: OCSVM,
    z_train: Float[np.ndarray, "n d"],
    z_test: Float[np.ndarray, "m d"],
    test: data.ImageSet,
    per_group: int = 400,
) -> LatentPicture | None:
    """Latents and decision function in the plane of the training latents' two main directions.

    Args:
      ocsvm: the final one-class SVM.
      z_train: latents of the training images.
      z_test: latents of the test images.
      test: the test images, normal and anomalous.
      per_group: maximum number of points drawn per group, chosen at random.

    Returns:
      The picture, or None for latents of one dimension, which have no such plane.
    """
    if z_train.shape[1] < 2:
        return None
    plane, rng = Plane.of(z_train), np.random.default_rng(0)
    rows = {
        "test normal": np.flatnonzero(test.anomalous == 0),
        "test anomalous": np.flatnonzero(test.anomalous == 1),
    }
    (chosen,) = some_of_each([np.arange(len(z_train))], per_group, rng)
    groups = {"train": z_train[np.sort(chosen)]}
    for name, chosen in zip(rows, some_of_each([*rows.values()], per_group, rng), strict=True):
        groups[name] = z_test[np.sort(chosen)]
    points = plane.project(np.concatenate(list(groups.values())))
    margin = 0.1 * np.ptp(points, axis=0) + 1e-3
    axis_x, axis_y = np.linspace(points.min(0) - margin, points.max(0) + margin, 120).T
    grid = np.stack(np.meshgrid(axis_x, axis_y), -1).reshape(-1, 2)
    f = ocsvm.decision_function(jnp.asarray(plane.points(grid), z_train.dtype))
    return LatentPicture(
        points=points,
        group=np.repeat(list(groups), [len(z) for z in groups.values()]),
        axis_x=axis_x,
        axis_y=axis_y,
        decision=np.asarray(f).reshape(len(axis_y), len(axis_x)),
        title="Latents and the final one-class SVM",
        caption="The plane contains the mean of the training latents and their two main "
        "directions. Points are projected onto it, and the map shows f on the plane, so a latent "
        "and its projection may lie on different sides of the boundary.",
    )
