"""The constructor parameters of the detectors: those of a method, and those that all share."""

import inspect
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ocsvm_jax.detectors.inputs import SCALINGS
from ocsvm_jax.evaluation.final import RULES
from ocsvm_jax.methods import METHODS
from ocsvm_jax.methods.arguments import (
    ArgumentError,
    at_least,
    check_flag,
    check_gamma,
    check_nu,
    number,
    one_of,
    whole,
)
from ocsvm_jax.suggestions import did_you_mean

# The scores that a detector can be judged by, its own first.
SCORES: dict[str, tuple[str, ...]] = {
    "ae": ("reconstruction", "ocsvm"),
    "vae": ("reconstruction", "ocsvm"),
    "sae": ("reconstruction", "ocsvm"),
    "ogae": ("ocsvm", "ocsvm-log", "last_m", "reconstruction"),
    "turned_ogae": ("contrast+error", "contrast", "ocsvm", "last_m", "reconstruction"),
    "edited_ogae": ("ocsvm-log", "ocsvm", "last_m", "reconstruction"),
    "deep_svdd": ("distance", "ocsvm"),
    "soft_deep_svdd": ("distance", "ocsvm"),
    "dspsvdd": ("distance", "ocsvm"),
    "dvaesvdd": ("distance", "reconstruction", "ocsvm"),
}
# Methods that take nothing but images, and why.
IMAGES_ONLY = {
    "turned_ogae": "compares images with themselves turned by 180 degrees",
    "edited_ogae": "compares images with the same images edited",
}
DTYPES = ("float32", "bfloat16")

# After the parameters of the method.
SHARED: dict[str, Any] = {
    "score_by": None,
    "final_nu": 0.5,
    "final_gamma": "neighbours",
    "false_alarm": 0.05,
    "network": None,
    "scaling": "standard",
    "epochs": None,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "validation_fraction": 0.1,
    "patience": 0,
    "n_models": 1,
    "seed": 0,
    "warm_start": False,
    "workdir": None,
    "dtype": "float32",
    "verbose": False,
}

_SHARED_ARGS = """\
  latent_dim: number of latent dimensions; None for half as many as an input has values, between 2
    and 32.
{own}
  score_by: {scores}.
  final_nu: nu of the one-class SVM that is fitted to the latents of all training rows at the end,
    for the scores made from it. With 0.5 it ranks well whether or not the rows hold outliers; the
    share of rows flagged is that of `false_alarm`, not nu.
  final_gamma: gamma of its RBF kernel, on latents divided by their standard deviation: a number,
    "scale" or "auto", or a rule without labels: "neighbours" (`ocsvm_jax.path.robust_defaults`) or
    "chosen" (`ocsvm_jax.path.choose_model`, which takes longer).
  false_alarm: share of the held-out rows that lie outside `offset_` after `fit`. For a share with a
    guarantee see `calibrate`.
  network: None for the default of the input (convolutional for images, a perceptron for vectors);
    "series" for rows (n, t) or (n, t, c) with a convolutional network along t; or your own, a pair
    (encoder, decoder), each a Flax Linen module, an nnx module or two functions
    `init(key, x) -> params` and `apply(params, x) -> y`. They see inputs scaled as below, and
    images (b, h, w, c).{heads}
  scaling: of the columns of vectors and channels of series: "standard" (mean and standard
    deviation), "robust" (median and interquartile range) or "none". Images are scaled to [0, 1].
  epochs: number of epochs; None for those of about 2,000 steps (1,000 for images), between 10 and
    1,000.
  batch_size: even; fewer rows than that are one batch.
  learning_rate: of Adam.
  validation_fraction: share of the rows held out from the training, 2 rows at least. Their loss
    decides on early stopping, and their scores on `offset_`.
  patience: stop after this many epochs without a smaller held-out loss, and use the weights of the
    smallest; 0 to train all epochs.
  n_models: number of models with seeds seed, seed + 1, ...; their score is the mean rank among the
    training rows. An accelerator trains them together under `vmap`.
  seed: of the held-out rows, the initial weights and the order of the rows.
  warm_start: whether a second `fit` starts from the weights of the first, for `epochs` more.
  workdir: None, or a folder for checkpoints and metrics. A fit that was interrupted goes on there
    when it is repeated, and gives the same bits; one that was finished is read.
  dtype: of the arithmetic of the default networks: "float32", or "bfloat16" for mixed precision on
    an accelerator. Parameters, latents, losses and one-class SVMs are float32.
  verbose: whether to print progress."""


def defaults(method: str) -> dict[str, Any]:
    """All constructor parameters of the detector of a method, with their defaults."""
    return {"latent_dim": None} | METHODS[method].fields | SHARED


def constructor(method: str) -> Any:
    """The `__init__` of the detector of a method, with the signature that scikit-learn reads."""
    parameters = defaults(method)

    def __init__(self: Any, **given: Any) -> None:  # noqa: N807
        for name in given:
            if name not in parameters:
                raise TypeError(
                    f"{type(self).__name__} has no parameter {name!r}."
                    f"{did_you_mean(name, parameters)} Its parameters are: {', '.join(parameters)}."
                )
        for name, default in parameters.items():
            setattr(self, name, given.get(name, default))

    keywords = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in parameters.items()
    ]
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    __init__.__signature__ = inspect.Signature([this, *keywords])  # pyright: ignore
    return __init__


def described(method: str, summary: str) -> str:
    """The docstring of a detector: its summary, and what its parameters are."""
    own, *others = SCORES[method]
    scores = f'the score that detects: None for "{own}", or {", ".join(map(repr, others))}'
    heads = ""
    if METHODS[method].heads > 1:
        heads = "\n    The encoder has two outputs per latent dimension: mean and log-variance."
    if not METHODS[method].bias:
        heads += (
            "\n    Neither should have biases: with them, one point would serve for all inputs."
        )
    own_args = _arguments_of(method)
    args = _SHARED_ARGS.format(own=own_args, scores=scores.replace("'", '"'), heads=heads)
    args = "\n".join(line for line in args.splitlines() if line.strip())
    return f"{inspect.cleandoc(summary)}\n\nArgs:\n{args}\n"


def _arguments_of(method: str) -> str:
    """What the docstring of the method says of its own arguments."""
    text = inspect.getdoc(METHODS[method].build) or ""
    args = text.partition("\nArgs:\n")[2].partition("\n\n")[0]
    wanted, kept = METHODS[method].fields, []
    keep = False
    for line in args.splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            keep = line.strip().partition(":")[0] in wanted
        if keep:
            kept.append(line)
    return "\n".join(kept)


_check_even = whole(lambda value: value >= 2 and value % 2 == 0, "it must be even, at least 2")
_check_share = number(lambda value: 0 < value < 1, "it must lie strictly between 0 and 1")
_check_rate = number(lambda value: 0 < value < math.inf, "it must be positive and finite")


def check(method: str, given: Mapping[str, Any]) -> None:
    """Raises ValueError, naming the parameter, for the first invalid one that all detectors share.

    The parameters of the method are checked when it is built.
    """
    for name in ("latent_dim", "epochs"):
        if given[name] is not None:
            at_least(1)(name, given[name])
    _check_even("batch_size", given["batch_size"])
    _check_rate("learning_rate", given["learning_rate"])
    for name in ("validation_fraction", "false_alarm"):
        _check_share(name, given[name])
    at_least(0)("patience", given["patience"])
    at_least(1)("n_models", given["n_models"])
    whole(lambda value: 0 <= value < 2**31, "it must lie in [0, 2^31)")("seed", given["seed"])
    for name in ("warm_start", "verbose"):
        check_flag(name, given[name])
    one_of(SCALINGS)("scaling", given["scaling"])
    one_of(DTYPES)("dtype", given["dtype"])
    if given["score_by"] is not None:
        one_of(SCORES[method])("score_by", given["score_by"])
    check_nu("final_nu", given["final_nu"])
    if not isinstance(given["final_gamma"], str) or given["final_gamma"] not in RULES:
        try:
            check_gamma("final_gamma", given["final_gamma"])
        except ArgumentError as error:
            raise ArgumentError(
                f"{str(error).rstrip('.')}, {' or '.join(map(repr, RULES))}."
            ) from None
    _check_network(given["network"])
    if not isinstance(given["workdir"], str | os.PathLike | None):
        raise ArgumentError(f"workdir is {given['workdir']!r}; it must be None or a path.")


def _check_network(network: Any) -> None:
    if network is None or (isinstance(network, str) and network == "series"):
        return
    if isinstance(network, str) or not isinstance(network, tuple | list) or len(network) != 2:
        raise ArgumentError(
            f"network is {network!r}; it must be None, 'series' or a pair (encoder, decoder)."
        )


def plain(value: Any) -> Any:
    """A parameter as JSON writes it, the numbers of NumPy included."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return [plain(part) for part in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def settled(value: Any) -> Any:
    """A setting of a method that has a hash: lists as tuples, numbers of NumPy as Python's."""
    value = plain(value)
    return tuple(value) if isinstance(value, list) else value
