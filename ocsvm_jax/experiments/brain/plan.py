"""A card of the brain experiment as a record; configs/brain.py explains its fields."""

from typing import Any, NamedTuple

from ocsvm_jax.experiments.brain.study import DataPlan, Design, design_of
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.networks.patch import Order

Gamma = float | str  # a positive number, "scale" or "auto"


class MethodPlan(NamedTuple):
    """Objectives and settings of the patch autoencoders."""

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
    """Training loop of the patch autoencoders."""

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
    """Block size of the maps, and which of them are written as NIfTI files."""

    block: int  # 0: as suits the device
    nifti: str


class EvalPlan(NamedTuple):
    """Evaluation of the maps."""

    resamples: int
    median: int
    erosion: int


class BrainPlan(NamedTuple):
    """A whole card; `design` holds the roles of the cohorts in its `data`."""

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
    """Converts a card that passed `check.check`."""
    kinds = (DataPlan, MethodPlan, TrainPlan, FinalPlan, MapsPlan, EvalPlan)
    names = BrainPlan._fields[-len(kinds) :]
    parts: list[Any] = [kind(**config[n].to_dict()) for kind, n in zip(kinds, names, strict=True)]
    return BrainPlan(tuple(config.methods), tuple(config.seeds), design_of(config.data), *parts)
