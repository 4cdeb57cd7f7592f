"""Recipes of the rows of the tables: how to build the mapper behind each name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import Bool

from ocsvm_jax.experiments.brain import mappers
from ocsvm_jax.experiments.brain import training as patch_training
from ocsvm_jax.experiments.brain.mappers import Mapper
from ocsvm_jax.experiments.brain.methods import (
    PAPER_FINAL,
    PAPER_METHOD,
    PAPER_TRAIN,
    patch_method,
)
from ocsvm_jax.experiments.brain.plan import BrainPlan
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.experiments.brain.training import PatchFeed
from ocsvm_jax.experiments.method_fields import fields_named
from ocsvm_jax.methods.base import Method
from ocsvm_jax.networks.pair import Network, from_flax
from ocsvm_jax.networks.patch import PatchDecoder, PatchEncoder
from ocsvm_jax.training.epoch import kept_state
from ocsvm_jax.training.history import Entry

History = list[Entry]


class Context(NamedTuple):
    """Shared by all runs of an experiment.

    Attributes:
      plan: the card.
      study: the data.
      feed: the subjects to train on.
      locations: voxels where maps are made.
      workdir: working directory of the experiment.
    """

    plan: BrainPlan
    study: Study
    feed: PatchFeed
    locations: Bool[np.ndarray, "z x y"]
    workdir: Path


class Recipe(NamedTuple):
    """A row of the tables, or several: one per score.

    Attributes:
      title: display name.
      build: `build(plan, feed, seed, directory) -> (mapper, history)`; trains in `directory` if
        there is something to train.
      method: name of the patch method to train; empty if there is nothing to train.
      settings: makes the plan of this row from that of the card.
      trivial: whether the row is one of the trivial baselines.
    """

    title: str
    build: Callable[[BrainPlan, PatchFeed, int, Path], tuple[Mapper, History]]
    method: str = ""
    settings: Callable[[BrainPlan], BrainPlan] = lambda plan: plan
    trivial: bool = False


def mapper_of(context: Context, name: str, seed: int, directory: Path) -> tuple[Mapper, History]:
    """The mapper of a row, trained if there is something to train, and its history."""
    recipe = RECIPES[name]
    return recipe.build(recipe.settings(context.plan), context.feed, seed, directory)


def network_of(plan: BrainPlan, momentum: float = 0.9) -> Network:
    """The patch autoencoder, with batch norms of this momentum."""
    options = {"order": plan.method.order, "momentum": momentum}
    return Network(from_flax(PatchEncoder(**options)), from_flax(PatchDecoder(**options)))


def method_of(name: str, plan: BrainPlan) -> Method:
    """A patch method with the plan's settings and network, trained with Adam.

    Raises:
      ValueError: if a value is invalid.
    """
    settings = plan.method._asdict() | {"num_epochs": plan.train.epochs}
    optimizer = optax.adam(plan.train.learning_rate)
    with fields_named():
        return patch_method(name, network_of(plan), optimizer, settings)


def _trained(
    method: str, plan: BrainPlan, feed: PatchFeed, seed: int, directory: Path
) -> tuple[Mapper, History]:
    train = plan.train
    run, history = patch_training.train(
        method_of(method, plan),
        feed,
        seed=seed,
        epochs=train.epochs,
        steps=train.steps,
        locations=train.locations,
        patience=train.patience,
        checkpoint_every=train.checkpoint_every,
        workdir=directory,
    )
    state = kept_state(run, train.patience)
    state = patch_training.calibrated(
        network_of(plan, momentum=0.0), state, feed, seed=seed, locations=train.locations
    )
    encoder = PatchEncoder(order=plan.method.order)
    params, stats = state.params["encoder"], state.stats["encoder"]
    return mappers.localized_ocsvm(encoder, params, stats, plan.final), history


def _pca(plan: BrainPlan, feed: PatchFeed, seed: int, _: Path) -> tuple[Mapper, History]:
    return mappers.pca_ocsvm(feed, seed, plan.final, plan.method.centre_sd), []


def _of_paper(plan: BrainPlan) -> BrainPlan:
    return plan._replace(
        method=plan.method._replace(**PAPER_METHOD),
        train=plan.train._replace(**PAPER_TRAIN),
        final=plan.final._replace(**PAPER_FINAL),
    )


def _learned(method: str, title: str, **options: Any) -> Recipe:
    return Recipe(f"{title} + localised OCSVM", partial(_trained, method), method, **options)


def _learned_as_in_the_paper(method: str, title: str) -> Recipe:
    recipe = _learned(method, title, settings=_of_paper)
    return recipe._replace(title=f"{recipe.title}, the paper's settings")


def _baseline(title: str, mapper: Callable[[PatchFeed, int], Mapper]) -> Recipe:
    return Recipe(title, lambda plan, feed, seed, _: (mapper(feed, seed), []), trivial=True)


RECIPES = {
    "ogae": _learned("ogae", "OgAE"),
    "sae": _learned("sae", "SAE"),
    "ae": _learned("ae", "AE"),
    "ogae_paper": _learned_as_in_the_paper("ogae", "OgAE"),
    "sae_paper": _learned_as_in_the_paper("sae", "SAE"),
    "pca": Recipe("PCA-16 + localised OCSVM", _pca),
    "darkness": _baseline("darkness", lambda feed, seed: mappers.darkness()),
    "minus_z": _baseline("voxelwise -z", lambda feed, seed: mappers.minus_z()),
    "mahalanobis": _baseline("local Mahalanobis, PCA-16", mappers.mahalanobis),
}
TRAINED = tuple(name for name, recipe in RECIPES.items() if recipe.method)  # once per seed
TRIVIAL = tuple(name for name, recipe in RECIPES.items() if recipe.trivial)


def name_of(method: str) -> str:
    """Display name of a row; the name in the card if this version does not know it."""
    return RECIPES[method].title if method in RECIPES else method
