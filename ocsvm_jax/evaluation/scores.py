"""The scores of a trained model: one way for single runs, tables and a user's own images."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ocsvm_jax.arrays.dimensions import effective_dimensions
from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.evaluation import collapse
from ocsvm_jax.evaluation.contrast import Units, Views, log_views
from ocsvm_jax.evaluation.density import LatentDensity
from ocsvm_jax.evaluation.final import (
    Final,
    fit_latents,
    ocsvm_log_score,
    ocsvm_score,
    score_name,
)
from ocsvm_jax.files import write_json
from ocsvm_jax.methods.base import Method, Score
from ocsvm_jax.methods.turning import half_turn
from ocsvm_jax.model import OCSVM
from ocsvm_jax.solver import Status
from ocsvm_jax.training.epoch import seen

Images = Shaped[np.ndarray, "_ ..."]  # of any size and channels, or vectors
# From a block of images: latents (b, d), and the method's own scores by name.
Model = Callable[[Array], tuple[Array, dict[str, Score]]]

_BLOCK = 500


class Seen(NamedTuple):
    """Images as a model sees them: latents, and the method's own scores by name, in float64."""

    z: Float[np.ndarray, "n d"]
    own: dict[str, Float[np.ndarray, " n"]]


class BothWays(NamedTuple):
    """Images as they are, and turned by 180 degrees; None for what has no upright: vectors."""

    upright: Seen
    turned: Seen | None

    def errors(self) -> Views | None:
        """Log reconstruction errors; None for a method that has none, and for vectors."""
        if self.turned is None or "reconstruction" not in self.upright.own:
            return None
        return log_views(
            Views(self.upright.own["reconstruction"], self.turned.own["reconstruction"])
        )

    def final(self, ocsvm: OCSVM) -> tuple[Float[np.ndarray, " n"], Views | None]:
        """Minus the decision function of the images, and both views of it where there are two."""
        upright = ocsvm_score(ocsvm, self.upright.z)
        if self.turned is None:
            return upright, None
        return upright, Views(upright, ocsvm_score(ocsvm, self.turned.z))


def model_of(method: Method, state: Any) -> Model:
    """The compiled function of a trained method."""
    return partial(_model, method, state)


# All images go through in blocks of one size, so this is compiled once per method.
_model = jax.jit(seen, static_argnums=0)


def see(model: Model, images: Images, block: int = _BLOCK) -> Seen:
    """Passes images through a model once, in blocks of so many."""

    def rows(x: Array) -> tuple[Array, dict[str, Score]]:
        z, scores = model(x)
        # The offset is one number for all; in blocks, everything has a row per image.
        return z, {
            name: Score(part.values, jnp.broadcast_to(part.offset, part.values.shape))
            for name, part in scores.items()
        }

    z, own = in_blocks(rows, [images], block=block)
    # Added in float64, where the offset does not drown the differences; see `Score`.
    return Seen(z, {n: part.values.astype(np.float64) + part.offset for n, part in own.items()})


def see_both_ways(model: Model, images: Images, block: int = _BLOCK) -> BothWays:
    """Passes images through a model upright and, if they have an upright, turned."""
    turned = None
    if images.ndim == 4:
        turned = see(model, np.ascontiguousarray(half_turn(images)), block)
    return BothWays(see(model, images, block), turned)


def own_scores(new: BothWays) -> dict[str, Float[np.ndarray, " n"]]:
    """The method's own scores, and the contrast of the reconstruction errors."""
    errors = new.errors()
    return new.upright.own | ({} if errors is None else {"error-contrast": errors.contrast})


class FinalOCSVM(NamedTuple):
    """A final one-class SVM, and the units in which its contrast and that of errors are added.

    Attributes:
      ocsvm: fitted to the latents of the training images.
      contrast: units of the contrast of its score; None where images have no upright.
      errors: units of the contrast of the log reconstruction errors, if there are any.
    """

    ocsvm: OCSVM
    contrast: Units | None
    errors: Units | None

    @classmethod
    def fit(cls, train: BothWays, settings: Final) -> "FinalOCSVM":
        """Fits it to training images.

        Raises:
          ValueError: if a latent is not finite.
        """
        ocsvm, errors = fit_latents(train.upright.z, settings), train.errors()
        _, views = train.final(ocsvm)
        return cls(
            ocsvm,
            None if views is None else Units.of(views),
            None if errors is None else Units.of(errors),
        )

    def scores(self, new: BothWays) -> dict[str, Float[np.ndarray, " n"]]:
        """The scores of `final.FINAL_SCORES` that the images and the method have."""
        upright, views = new.final(self.ocsvm)
        out = {"ocsvm": upright}
        log_score = ocsvm_log_score(self.ocsvm, new.upright.z)
        if log_score is not None:
            out["ocsvm-log"] = log_score
        if views is None or self.contrast is None:
            return out
        out["contrast"] = views.contrast
        errors = new.errors()
        if errors is not None and self.errors is not None:
            out["contrast+error"] = self.contrast.express(views) + self.errors.express(errors)
        return out

    @property
    def converged(self) -> bool:
        """Whether the fit reached its tolerance."""
        return self.ocsvm.info is not None and bool(self.ocsvm.info.status == Status.CONVERGED)

    def save(self, directory: Path) -> None:
        """Writes `ocsvm.npz` and `contrast.json` into a directory."""
        self.ocsvm.save(directory / "ocsvm.npz")
        write_json(
            directory / "contrast.json",
            {"contrast": self.contrast, "errors": self.errors},
            indent=None,
        )

    @classmethod
    def load(cls, directory: Path) -> "FinalOCSVM":
        """Reads what `save` wrote; without `contrast.json`, one that makes no contrasts.

        Raises:
          ValueError: if there is no `ocsvm.npz`.
        """
        if not (directory / "ocsvm.npz").exists():
            raise ValueError(
                f"{directory} holds no ocsvm.npz: its training was not finished. The same train.py "
                "command continues where it stopped."
            )
        path = directory / "contrast.json"
        units = json.loads(path.read_text()) if path.exists() else {}
        known = (units.get("contrast"), units.get("errors"))
        contrast, errors = (None if unit is None else Units(*unit) for unit in known)
        return cls(OCSVM.load(directory / "ocsvm.npz"), contrast, errors)


def all_scores(
    final: FinalOCSVM, new: BothWays, density: LatentDensity | None = None
) -> dict[str, Float[np.ndarray, " n"]]:
    """A model's own scores and those of what is fitted to its latents, larger for more anomalous.

    Args:
      final: the final one-class SVM.
      new: the images.
      density: adds the scores of `density.DENSITY_SCORES`; None for a run of before there were any.
    """
    of_latents = {} if density is None else density.scores(new.upright.z)
    return dict(sorted((own_scores(new) | final.scores(new) | of_latents).items()))


class Scored(NamedTuple):
    """All scores of a model on sets of images.

    Attributes:
      scores: (n,) by set and name; none where the model gives latents that are not finite.
      collapsed: names of scores without information, by set.
      unconverged: names of final fits that did not converge.
      dimensions: the effective number of dimensions of the training latents, if they are finite.
    """

    scores: dict[str, dict[str, Float[np.ndarray, " n"]]]
    collapsed: dict[str, list[str]]
    unconverged: list[str]
    dimensions: float | None


def score_sets(
    model: Model,
    train_images: Images,
    sets: Mapping[str, Images],
    finals: Mapping[str, Final],
    densities: bool = True,
) -> Scored:
    """Scores sets of images by the model's own scores and by what is fitted to its latents.

    Args:
      model: the trained model.
      train_images: what it was trained on: the final one-class SVMs are fitted to their latents.
      sets: images by name.
      finals: settings of the final one-class SVMs by name, as `final.finals_of` gives them.
      densities: whether to compute the scores of `density.DENSITY_SCORES`.
    """
    train = see_both_ways(model, train_images)
    if not np.all(np.isfinite(train.upright.z)):
        return Scored({}, {}, [], None)
    seen = {name: see_both_ways(model, images) for name, images in sets.items()}
    scores = {name: own_scores(images) for name, images in seen.items()}
    collapsed = {name: collapsed_scores(images) for name, images in seen.items()}
    unconverged = []
    for name, settings in finals.items():
        final = FinalOCSVM.fit(train, settings)
        unconverged += [] if final.converged else [name]
        for one, images in seen.items():
            scores[one] |= {score_name(s, name): v for s, v in final.scores(images).items()}
    if densities:
        density = LatentDensity.fit(train.upright.z)
        for one, images in seen.items():
            scores[one] |= density.scores(images.upright.z)
    return Scored(scores, collapsed, unconverged, effective_dimensions(train.upright.z))


def collapsed_scores(images: BothWays) -> list[str]:
    """Names of the scores of a model's own that have collapsed, see `collapse`."""
    sizes = np.sum(images.upright.z.astype(np.float64) ** 2, axis=1)
    return [
        name
        for name, values in own_scores(images).items()
        if collapse.collapsed(values, sizes if name == "distance" else None)
    ]
