"""Checks the values of a brain card before any data are read."""

from ocsvm_jax.data.brain import INTENSITIES, LESION_OUTSIDE
from ocsvm_jax.experiments import fields
from ocsvm_jax.experiments.brain.mappers import SCORES
from ocsvm_jax.experiments.brain.methods import check_centre_sd
from ocsvm_jax.experiments.brain.plan import plan_of
from ocsvm_jax.experiments.brain.recipes import RECIPES, TRAINED, method_of
from ocsvm_jax.experiments.brain.study import arms_of
from ocsvm_jax.experiments.fields import Config
from ocsvm_jax.methods.arguments import at_least, one_of, whole

_RULES = {
    "methods": fields.all_of(fields.names_of(tuple(RECIPES)), fields.each_once),
    "final.scores": fields.all_of(fields.names_of(SCORES), fields.each_once),
    "seeds": fields.seeds,
    "data.arms": fields.each_once,
    "data.patients": fields.each_once,
    "data.intensity": one_of(INTENSITIES),
    "data.lesion_outside": one_of(LESION_OUTSIDE),
    "data.profile": one_of(("full", "ci")),
    "data.phantom_seed": at_least(0),
    "data.present": fields.share_or_all,
    "method.order": one_of(("activation_norm", "norm_activation")),
    "method.centre_sd": check_centre_sd,
    "maps.nifti": one_of(("first_seed", "all", "none")),
    "maps.block": at_least(0),
    "train.steps": at_least(1),
    "train.locations": at_least(1),
    "eval.erosion": at_least(0),
    "eval.median": whole(
        lambda value: value >= 1 and value % 2 == 1, "it must be odd and at least 1"
    ),
    **fields.COMMON,
}


def check(config: Config) -> None:
    """Raises ValueError for the first invalid value."""
    fields.check(config, _RULES)
    _apart(config.data)
    plan = plan_of(config)
    for name in config.methods:
        if name in TRAINED:
            method_of(RECIPES[name].method, RECIPES[name].settings(plan))


def _apart(data: Config) -> None:
    """Raises ValueError if a training or held-out cohort would also be judged."""
    judged = [name for arm in arms_of(data) for name in (arm.controls, *arm.patients.values())]
    if data.train in (data.held_out, *judged):
        raise ValueError(
            f"data.train is {data.train!r}, and so is data.held_out or a cohort of data.arms: "
            "training subjects cannot be held out or judged. Name different cohorts."
        )
    if data.held_out in judged:
        raise ValueError(
            f"data.held_out is {data.held_out!r}, which is also a cohort of data.arms: the "
            "subjects that the threshold is taken from, and that early stopping uses, cannot be "
            "judged. Name different cohorts."
        )
