"""Values of a brain card that can not work, told before anything is read."""

import math

from ocsvm_jax.data.brain import INTENSITIES, LESION_OUTSIDE
from ocsvm_jax.experiments.brain.mappers import SCORES
from ocsvm_jax.experiments.brain.recipes import RECIPES
from ocsvm_jax.experiments.brain.study import arms_of
from ocsvm_jax.experiments.config import Config
from ocsvm_jax.methods.ogae import beta_schedule
from ocsvm_jax.suggestions import did_you_mean

_CHOICES = {
    "data.intensity": INTENSITIES,
    "data.lesion_outside": LESION_OUTSIDE,
    "data.profile": ("full", "ci"),
    "method.order": ("activation_norm", "norm_activation"),
    "maps.nifti": ("first_seed", "all", "none"),
}


def check(config: Config) -> None:
    """Raises ValueError on the first value that can not work."""
    _known("methods", config.methods, RECIPES)
    _known("final.scores", config.final.scores, SCORES)
    for name in ("methods", "seeds", "data.arms", "data.patients", "final.scores"):
        values = _field(config, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}; name one or more, each once.")
    if any(not isinstance(seed, int) or not 0 <= seed < 2**31 for seed in config.seeds):
        raise ValueError(f"seeds is {config.seeds}; they are whole numbers in [0, 2^31).")
    _apart(config.data)
    for name, choices in _CHOICES.items():
        value = _field(config, name)
        if value not in choices:
            raise ValueError(
                f"{name} is {value!r}; it is one of {choices}." + did_you_mean(value, choices)
            )
    for name in ("method.nu", "final.nu"):
        if not 0 < _field(config, name) <= 1:
            raise ValueError(f"{name} is {_field(config, name)}; it must lie in (0, 1].")
    for name in ("method.gamma", "final.gamma"):
        gamma = _field(config, name)
        number = isinstance(gamma, int | float) and 0 < gamma < math.inf
        if not number and gamma not in ("scale", "auto"):
            raise ValueError(
                f'{name} is {gamma!r}; it must be a positive number, "scale" or "auto".'
            )
    for name in ("method.guidance_weight", "method.similarity_weight"):
        value = _field(config, name)
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be finite and at least 0.")
    if not 0 <= config.method.centre_sd < math.inf:
        raise ValueError(
            f"method.centre_sd is {config.method.centre_sd}; it is a number of pixels, at least 0."
        )
    if not 0 < config.data.present <= 1:
        raise ValueError(f"data.present is {config.data.present}; it is a share in (0, 1].")
    if not 0 < config.train.learning_rate < math.inf:
        raise ValueError(
            f"train.learning_rate is {config.train.learning_rate}; it must be positive and finite."
        )
    beta_schedule(type(config)(config.method.to_dict() | {"num_epochs": config.train.epochs}))
    least = {
        "data.phantom_seed": 0,
        "train.epochs": 1,
        "train.steps": 1,
        "train.locations": 1,
        "train.patience": 0,
        "train.checkpoint_every": 1,
        "maps.block": 1,
        "eval.resamples": 1,
        "eval.erosion": 0,
    }
    for name, smallest in least.items():
        if _field(config, name) < smallest:
            raise ValueError(f"{name} is {_field(config, name)}; it must be at least {smallest}.")
    if config.eval.median < 1 or config.eval.median % 2 == 0:
        raise ValueError(f"eval.median is {config.eval.median}; it must be odd and at least 1.")


def _apart(data: Config) -> None:
    """Refuses to judge subjects by themselves: those trained on, and those held out."""
    judged = [name for arm in arms_of(data) for name in (arm.controls, *arm.patients.values())]
    if data.train in (data.held_out, *judged):
        raise ValueError(
            f"data.train is {data.train!r}, and so is data.held_out or a cohort of data.arms: "
            "subjects trained on can not be held out or judged."
        )
    if data.held_out in judged:
        raise ValueError(
            f"data.held_out is {data.held_out!r}, which is also a cohort of data.arms: subjects "
            "that the threshold is taken from, and early stopping, can not be judged by it."
        )


def _field(config: Config, name: str):
    for part in name.split("."):
        config = config[part]
    return config


def _known(name: str, values, known) -> None:
    for value in values:
        if value not in known:
            raise ValueError(
                f"{name} names {value!r}; it knows {tuple(known)}." + did_you_mean(value, known)
            )
