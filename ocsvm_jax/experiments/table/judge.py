"""Judging one trained model: figures on validation images, scores of test images."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax import data
from ocsvm_jax.evaluation import collapse, metrics
from ocsvm_jax.evaluation import scores as scoring
from ocsvm_jax.evaluation.contrast import Views, in_training_units, log_views
from ocsvm_jax.experiments.table import grid
from ocsvm_jax.methods.base import Score
from ocsvm_jax.methods.turning import half_turn
from ocsvm_jax.model import OCSVM
from ocsvm_jax.solver import Status

# The scores that use a final one-class SVM; a name such as "contrast gamma=0.1 ..." says which.
FINAL_SCORES = ("ocsvm", "contrast", "contrast+error")
FUNCTIONS = {"AUROC": metrics.auroc, "AUPR": metrics.aupr, "AUROC30": metrics.auroc30}


# Of a block of uint8 images: latents (b, d), and the method's own scores by name.
Model = Callable[[Array], tuple[Array, dict[str, Score]]]


def final_name(final: Mapping[str, Any]) -> str:
    """The name of a final one-class SVM with these settings."""
    return " ".join(f"{name}={value}" for name, value in sorted(final.items()))


def finals_of(final_grid: grid.Grid) -> dict[str, dict[str, Any]]:
    """The settings of all final one-class SVMs by their names."""
    return {final_name(point): point for point in grid.product(final_grid)}


def family(name: str) -> str:
    """The score that a name such as "ocsvm gamma=0.1 nu=0.03 standardize=True" is a variant of."""
    return name.split(" ", 1)[0]


def score_name(score: str, final: str | None) -> str:
    """The name of a score; `final` is that of the final one-class SVM it uses, if it uses one."""
    return score if final is None else f"{score} {final}"


class _Seen(NamedTuple):
    """Images as a model sees them: latents, and the method's own scores by name."""

    z: Float[np.ndarray, "n d"]
    own: dict[str, Float[np.ndarray, " n"]]


class _BothWays(NamedTuple):
    """Images as they are, and turned by 180 degrees."""

    upright: _Seen
    turned: _Seen

    def errors(self) -> Views | None:
        """Log reconstruction errors; None of a method that has none."""
        if "reconstruction" not in self.upright.own:
            return None
        return log_views(
            Views(self.upright.own["reconstruction"], self.turned.own["reconstruction"])
        )


def _see(model: Model, images: np.ndarray) -> _Seen:
    return _Seen(*scoring.see(model, images))


def _see_both_ways(model: Model, images: np.ndarray) -> _BothWays:
    return _BothWays(_see(model, images), _see(model, np.ascontiguousarray(half_turn(images))))


def _final_scores(
    ocsvm: OCSVM, train: _BothWays, new: _BothWays
) -> dict[str, Float[np.ndarray, " n"]]:
    """The scores that use a final one-class SVM: one of each of `FINAL_SCORES`."""
    views = [
        Views(*(scoring.ocsvm_score(ocsvm, seen.z) for seen in images)) for images in (train, new)
    ]
    out = {"ocsvm": views[1].upright, "contrast": views[1].contrast}
    of_train, of_new = train.errors(), new.errors()
    if of_train is not None and of_new is not None:
        errors = in_training_units(of_train, of_new)
        out["contrast+error"] = in_training_units(*views) + errors
    return out


def _own_scores(new: _BothWays) -> dict[str, Float[np.ndarray, " n"]]:
    """The method's own scores, and the contrast of the reconstruction errors."""
    errors = new.errors()
    return new.upright.own | ({} if errors is None else {"error-contrast": errors.contrast})


class Scored(NamedTuple):
    """All scores of a model on sets of images.

    Attributes:
      scores: (n,) by set and name; none where the model gives latents that are not finite.
      collapsed: names of scores without information on some set.
      unconverged: names of final fits that did not converge.
      dimensions: the effective number of dimensions of the training latents, if they are finite.
    """

    scores: dict[str, dict[str, Float[np.ndarray, " n"]]]
    collapsed: list[str]
    unconverged: list[str]
    dimensions: float | None


def score_sets(
    model: Model,
    train_images: np.ndarray,
    sets: Mapping[str, np.ndarray],
    finals: Mapping[str, Mapping[str, Any]],
) -> Scored:
    """Scores sets of images by the model's own scores and by every final one-class SVM.

    Args:
      model: the trained model.
      train_images: what it was trained on: the final one-class SVMs are fitted to their latents.
      sets: images by name.
      finals: as `finals_of` gives them.
    """
    train = _see_both_ways(model, train_images)
    if not np.all(np.isfinite(train.upright.z)):
        return Scored({}, [], [], None)
    seen = {name: _see_both_ways(model, images) for name, images in sets.items()}
    scores = {name: _own_scores(images) for name, images in seen.items()}
    no_information = {
        name
        for one, own in scores.items()
        for name, values in own.items()
        if collapse.collapsed(values, _sizes(seen[one]) if name == "distance" else None)
    }
    unconverged = []
    for final, settings in finals.items():
        ocsvm = scoring.fit_latents(train.upright.z, SimpleNamespace(**settings))
        if ocsvm.info is None or ocsvm.info.status != Status.CONVERGED:
            unconverged.append(final)
        for one, images in seen.items():
            for name, values in _final_scores(ocsvm, train, images).items():
                scores[one][score_name(name, final)] = values
    dimensions = effective_dimensions(train.upright.z)
    return Scored(scores, sorted(no_information), unconverged, dimensions)


def on_validation(
    model: Model,
    train_images: np.ndarray,
    valid: Mapping[str, data.ImageSet],
    finals: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Figures of a model on validation images by protocol, nothing of the test; see `score_sets`.

    Returns:
      "valid": {protocol: {score: {metric: figure}}}, and the other fields of `Scored`.
    """
    images = {protocol: found.images for protocol, found in valid.items()}
    scored = score_sets(model, train_images, images, finals)
    figures = {
        protocol: {
            name: figures_of(valid[protocol].anomalous, values)
            for name, values in named.items()
            if np.all(np.isfinite(values))
        }
        for protocol, named in scored.scores.items()
    }
    return {
        "valid": figures,
        "collapsed": scored.collapsed,
        "unconverged": scored.unconverged,
        "dimensions": scored.dimensions,
    }


def _sizes(images: _BothWays) -> Float[np.ndarray, " n"]:
    return np.sum(images.upright.z.astype(np.float64) ** 2, axis=1)


def on_test(
    model: Model,
    score: str,
    final: Mapping[str, Any] | None,
    train_images: np.ndarray,
    images: np.ndarray,
) -> Float[np.ndarray, " n"]:
    """One score of test images: without a final one-class SVM, or of one with these settings."""
    if final is None:
        return _own_scores(_see_both_ways(model, images))[score]
    train = _see_both_ways(model, train_images)
    ocsvm = scoring.fit_latents(train.upright.z, SimpleNamespace(**final))
    return _final_scores(ocsvm, train, _see_both_ways(model, images))[score]


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
    model: Model, train: data.ImageSet, test: data.ImageSet, per_group: int = 100
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Latents in the plane of the two main directions of the training, for a picture.

    Returns:
      Coordinates (n, 2), classes, corruptions and "train" or "test" of at most `per_group` images
      of each class and corruption.
    """
    z = _see(model, train.images).z.astype(np.float64)
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
        points.append((_see(model, some.images).z - centre) @ directions.T)
        classes.append(some.classes)
        corruption.append(some.corruption)
        split.append(np.full(len(some.classes), name))
    return tuple(map(np.concatenate, (points, classes, corruption, split)))  # pyright: ignore[reportReturnType]
