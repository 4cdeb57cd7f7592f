"""A card of the brain experiment as a record; configs/brain.py says what its fields mean."""

from typing import Any, NamedTuple

from ocsvm_jax.experiments.brain.study import DataPlan, Design, design_of
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.networks.patch import Order

Gamma = float | str  # a positive number, "scale" or "auto"


class MethodPlan(NamedTuple):
    """What the patch autoencoders are trained for."""

    order: Order
    centre_sd: float
    guidance_weight: float
    nu: float
    gamma: Gamma
    standardize: bool
    differentiate_dual: bool
    schedule: str
    betas: tuple[float, float]
    betas_second: tuple[float, float]
    similarity_weight: float


class TrainPlan(NamedTuple):
    """How long they are trained."""

    epochs: int
    steps: int
    locations: int
    learning_rate: float
    patience: int
    checkpoint_every: int


class FinalPlan(NamedTuple):
    """The one-class SVM of each voxel."""

    nu: float
    gamma: Gamma
    standardize: bool
    scores: tuple[str, ...]


class MapsPlan(NamedTuple):
    """How maps are made, and which are written as NIfTI files."""

    block: int
    nifti: str


class EvalPlan(NamedTuple):
    """How maps are judged."""

    resamples: int
    median: int
    erosion: int


class BrainPlan(NamedTuple):
    """A whole card; `design` is what its `data` says of the cohorts."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    design: Design
    data: DataPlan
    method: MethodPlan
    train: TrainPlan
    final: FinalPlan
    maps: MapsPlan
    eval: EvalPlan


def plan_of(config: Config) -> BrainPlan:
    """The record of a card that `check.check` has passed."""
    kinds = (DataPlan, MethodPlan, TrainPlan, FinalPlan, MapsPlan, EvalPlan)
    names = BrainPlan._fields[-len(kinds) :]
    parts: list[Any] = [kind(**config[n].to_dict()) for kind, n in zip(kinds, names, strict=True)]
    return BrainPlan(tuple(config.methods), tuple(config.seeds), design_of(config.data), *parts)
