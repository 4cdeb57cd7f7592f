"""Evaluates one trained model: metrics on validation images, and a picture of its latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ocsvm_jax import data
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.evaluation.latents import Plane, some_of_each
from ocsvm_jax.evaluation.scores import Images, Model, score_sets, see
from ocsvm_jax.experiments.table.latent_maps import MAX_POINTS_PER_GROUP


def on_validation(
    model: Model,
    train_images: Images,
    valid: Mapping[str, data.ImageSet],
    finals: Mapping[str, Final],
) -> dict[str, Any]:
    """Metrics of a model on validation images by protocol; see `score_sets`. Uses no test image.

    Returns:
      "valid": {protocol: {score: {metric: value}}}; "collapsed": names of scores that collapsed
      under at least one protocol; "unconverged" and "dimensions" as in `Scored`.
    """
    images = {protocol: found.images for protocol, found in valid.items()}
    scored = score_sets(model, train_images, images, finals)
    values = {
        protocol: {
            name: metrics_of(valid[protocol].anomalous, scores)
            for name, scores in named.items()
            if np.all(np.isfinite(scores))
        }
        for protocol, named in scored.scores.items()
    }
    return {
        "valid": values,
        "collapsed": sorted({name for names in scored.collapsed.values() for name in names}),
        "unconverged": scored.unconverged,
        "dimensions": scored.dimensions,
    }


def metrics_of(labels: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """AUROC, AUPR and AUROC30 of one score, by name."""
    return {name: function(labels, values) for name, function in metrics.POINT_VALUES.items()}


def plane(
    model: Model, train: data.ImageSet, test: data.ImageSet
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latents in the plane of the two main directions of the training latents, for a picture.

    Returns:
      Coordinates (n, 2), classes, corruptions and splits ("train" or "test"), with at most
      100 images for each split, class and corruption.
    """
    plane = Plane.of(see(model, train.images).z.astype(np.float64))
    rng = np.random.default_rng(0)
    points, classes, corruption, split = [], [], [], []
    for name, images in (("train", train), ("test", test)):
        names = np.char.add(images.corruption.astype(str), images.classes.astype(str))
        groups = [np.flatnonzero(names == group) for group in np.unique(names)]
        chosen = some_of_each(groups, MAX_POINTS_PER_GROUP, rng)
        some = data.take(images, np.sort(np.concatenate(chosen)))
        points.append(plane.project(see(model, some.images).z))
        classes.append(some.classes)
        corruption.append(some.corruption)
        split.append(np.full(len(some.classes), name))
    return tuple(map(np.concatenate, (points, classes, corruption, split)))  # pyright: ignore[reportReturnType]
