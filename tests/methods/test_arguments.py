"""Arguments of methods are checked where they are used, and have defaults."""

import inspect

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from support.small import NETWORK, SETTINGS, built, network

from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.methods.arguments import ArgumentError

NAN = float("nan")
WEIGHTS = {
    "guidance_weight",
    "turned_weight",
    "edited_weight",
    "kl_weight",
    "similarity_weight",
    "reconstruction_weight",
    "vae_weight",
}
WRONG = {
    "nu": (0.0, -0.1, 1.1, 2, NAN, None, "small", True, np.array([0.1, 0.2])),
    "gamma": (0.0, -1.0, NAN, float("inf"), None, "skale"),
    "standardize": (None, "no", 1),
    "differentiate_dual": ("no",),
    "stretch": (0,),
    "schedule": ("two-phase", None),
    "betas": (1.0, (1.0,), (1.0, -1.0), (1.0, NAN)),
    "betas_second": (1.0, (1.0, 2.0, 3.0)),
    "last_m": (0, -1, 2.0, True),
    "num_epochs": (0, 2.5),
    "similarity": ("cosin", None),
    "kernel": ("gaussian", "polynomial", None),
    "radius": ("learnt", None),
    "pretrain": (-0.1, 1.0, NAN, "half"),
    "edits": ((), "turned", ("turned", "turned"), ("erasd",), (3,), 3, None),
    "convolved": (-0.1, 1.1, NAN, "half", None),
} | dict.fromkeys(WEIGHTS, (-1.0, NAN, float("inf"), "large", None))


@pytest.fixture(autouse=True)
def without_annotations(monkeypatch):
    # Outside of this suite nothing checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def arguments(name):
    parameters = inspect.signature(METHODS[name].build).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", METHODS)
def test_every_argument_has_a_default_and_is_checked(name):
    """All but the length of the training, which is no property of a method."""
    recipe = METHODS[name]
    taken = arguments(name)
    assert taken == {*recipe.fields} | ({"num_epochs"} if recipe.takes_epochs else set())
    assert {*recipe.traced} <= {*recipe.fields}
    for argument in taken:
        for value in WRONG[argument]:
            with pytest.raises(ArgumentError, match=rf"^{argument} is"):
                built(name, network(name), optax.sgd(0.1), **{argument: value})


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_possible(name):
    recipe = METHODS[name]
    length = {"num_epochs": 3} if recipe.takes_epochs else {}
    assert isinstance(recipe.build(network(name), optax.sgd(0.1), **length), Method)


def test_a_field_means_the_same_in_all_methods():
    """A table has one card for all of its methods."""
    every = [item for recipe in METHODS.values() for item in recipe.fields.items()]
    assert len({name for name, _ in every}) == len(set(every))


@pytest.mark.parametrize("nu", [np.float32(0.5), np.float64(0.5), jnp.float32(0.5), 1, 0.5])
def test_numbers_of_any_kind(nu):
    method = built("ogae", NETWORK, optax.sgd(0.1), nu=nu, gamma=nu, guidance_weight=nu)
    assert isinstance(method, Method)


def test_traced_numbers_are_not_looked_at():
    def built_in(nu):
        built("ogae", NETWORK, optax.sgd(0.1), nu=nu, gamma=nu, betas=(nu, nu))
        return nu

    assert jax.jit(built_in)(2.0) == 2.0


def test_the_message_says_what_is_possible():
    for changes, message in (
        ({"nu": 2}, "nu is 2; it must lie in (0, 1]."),
        ({"gamma": "skale"}, "gamma is 'skale'; it must be a positive number, \"scale\" or"),
        ({"guidance_weight": -1}, "guidance_weight is -1; it must be finite, at least 0."),
        ({"last_m": 0}, "last_m is 0; it must be at least 1."),
        ({"schedule": "two"}, "schedule is 'two'; it is one of ('two_phase', 'constant')."),
    ):
        with pytest.raises(ArgumentError) as caught:
            built("ogae", NETWORK, optax.sgd(0.1), **changes)
        assert str(caught.value).startswith(message)


def test_an_argument_of_another_method():
    with pytest.raises(TypeError, match="kl_weight"):
        METHODS["ae"].build(NETWORK, optax.sgd(0.1), kl_weight=SETTINGS["kl_weight"])
