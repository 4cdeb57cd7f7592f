"""The two forms of a convolution in the training step of the autoencoder, one model and 64."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from autoencoder_step import BATCH, training_step

from device.contest import Row, Setting, attempts, contest, prepared
from ocsvm_jax.networks.forms import Form

FORMS: tuple[Form, ...] = ("lax", "banded")


def rows(setting: Setting) -> Iterator[Row]:
    """What "auto" takes on a CPU is "banded", elsewhere "lax"."""
    numbers = setting.pick((1,), (1, 64))
    yield from attempts({f"{k} models": partial(of_models, k, setting) for k in numbers})


def of_models(number: int, setting: Setting) -> Iterator[Row]:
    """The step of so many models under vmap, on the same images."""
    batch = setting.pick(10, BATCH)
    images = jnp.asarray(np.random.default_rng(0).random((batch, 28, 28, 1), dtype=np.float32))
    contestants = {}
    for form in FORMS:
        step, state = training_step(form, images, jax.random.key(0))
        if number > 1:
            step = jax.vmap(step, in_axes=(0, None))
            state = jax.tree.map(lambda leaf: jnp.stack([leaf] * number), state)
        goal = f"{form} {number}"
        contestants[f'conv="{form}"'] = prepared(step, state, images, goal=goal)
    what = f"autoencoder, {number} model{'s' * (number > 1)}, batch {batch}, one call"
    yield from contest(what, contestants, "s a step of all", setting)
