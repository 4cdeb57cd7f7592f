"""Judging one trained model: figures on validation images, scores of test images."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax import collapse, data, metrics, scoring
from ocsvm_jax.methods.base import Score
from ocsvm_jax.solver import Status
from ocsvm_jax.table import grid

FUNCTIONS = {"AUROC": metrics.auroc, "AUPR": metrics.aupr, "AUROC30": metrics.auroc30}


class Judged(NamedTuple):
    """One model's functions of a block of uint8 images.

    Attributes:
      encode: to latents (b, d).
      score: to the method's own scores by name.
    """

    encode: Callable[[Array], Array]
    score: Callable[[Array], dict[str, Score]]


def final_name(final: Mapping[str, Any]) -> str:
    """The name of the score of a final one-class SVM with these settings."""
    return "ocsvm " + " ".join(f"{name}={value}" for name, value in sorted(final.items()))


def finals_of(final_grid: grid.Grid) -> dict[str, dict[str, Any]]:
    """The settings of all final one-class SVMs by the names of their scores."""
    return {final_name(point): point for point in grid.product(final_grid)}


def latents(model: Judged, images: np.ndarray) -> Float[np.ndarray, "n d"]:
    """The latent of each image."""
    return scoring.in_blocks(lambda x: {"z": model.encode(x)}, images)["z"]


def on_validation(
    model: Judged,
    train_images: np.ndarray,
    valid: Mapping[str, data.ImageSet],
    finals: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Figures of a model on validation images, nothing of the test.

    Args:
      model: the trained model.
      train_images: what it was trained on: the final one-class SVMs are fitted to their latents.
      valid: validation images by protocol.
      finals: as `finals_of` gives them.

    Returns:
      "valid": {protocol: {score: {metric: figure}}}; "collapsed": names of scores without
      information on some protocol; "unconverged": names of final fits that did not converge;
      "dimensions": the effective number of dimensions of the training latents.
    """
    z = latents(model, train_images)
    if not np.all(np.isfinite(z)):
        return {"valid": {}, "collapsed": [], "unconverged": [], "dimensions": None}
    scores, encoded = {}, {}
    no_information = set()
    for protocol, images in valid.items():
        scores[protocol] = own = scoring.own_scores(model.score, images.images)
        encoded[protocol] = latents(model, images.images)
        sizes = np.sum(encoded[protocol].astype(np.float64) ** 2, axis=1)
        for name, values in own.items():
            if collapse.collapsed(values, sizes if name == "distance" else None):
                no_information.add(name)
    unconverged = []
    for name, final in finals.items():
        ocsvm = scoring.fit_latents(z, SimpleNamespace(**final))
        if ocsvm.info is None or ocsvm.info.status != Status.CONVERGED:
            unconverged.append(name)
        for protocol, z_valid in encoded.items():
            scores[protocol][name] = scoring.ocsvm_score(ocsvm, z_valid)
    figures = {
        protocol: {
            name: figures_of(valid[protocol].anomalous, values)
            for name, values in named.items()
            if np.all(np.isfinite(values))
        }
        for protocol, named in scores.items()
    }
    return {
        "valid": figures,
        "collapsed": sorted(no_information),
        "unconverged": unconverged,
        "dimensions": effective_dimensions(z),
    }


def on_test(
    model: Judged,
    score: str,
    final: Mapping[str, Any] | None,
    train_images: np.ndarray,
    images: np.ndarray,
) -> Float[np.ndarray, " n"]:
    """One score of test images: the method's own, or that of a final one-class SVM."""
    if final is None:
        return scoring.own_scores(model.score, images)[score]
    ocsvm = scoring.fit_latents(latents(model, train_images), SimpleNamespace(**final))
    return scoring.ocsvm_score(ocsvm, latents(model, images))


def figures_of(labels: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """AUROC, AUPR and AUROC30 of one score."""
    return {name: function(labels, values) for name, function in FUNCTIONS.items()}


def effective_dimensions(z: Float[np.ndarray, "n d"]) -> float:
    """(sum of the covariance's eigenvalues)^2 / sum of their squares: d if all are equal, 1 if one.

    Known as participation ratio; 0 for latents that are all the same.
    """
    covariance = np.atleast_2d(np.cov(z.astype(np.float64).T))
    squares = np.sum(covariance**2)
    return float(np.trace(covariance) ** 2 / squares) if squares > 0 else 0.0


def plane(
    model: Judged, train: data.ImageSet, test: data.ImageSet, per_group: int = 100
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latents in the plane of the two main directions of the training, for a picture.

    Returns:
      Coordinates (n, 2), classes, corruptions and "train" or "test" of at most `per_group` images
      of each class and corruption.
    """
    z = latents(model, train.images).astype(np.float64)
    centre = z.mean(0)
    directions = np.linalg.svd(z - centre, full_matrices=False)[2][:2]
    rng = np.random.default_rng(0)
    points, classes, corruption, split = [], [], [], []
    for name, images in (("train", train), ("test", test)):
        groups = np.char.add(images.corruption.astype(str), images.classes.astype(str))
        chosen = [
            rng.permutation(np.flatnonzero(groups == group))[:per_group]
            for group in np.unique(groups)
        ]
        some = data.take(images, np.sort(np.concatenate(chosen)))
        points.append((latents(model, some.images) - centre) @ directions.T)
        classes.append(some.classes)
        corruption.append(some.corruption)
        split.append(np.full(len(some.classes), name))
    return tuple(map(np.concatenate, (points, classes, corruption, split)))  # pyright: ignore[reportReturnType]
