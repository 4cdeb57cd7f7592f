"""One model and 64 under vmap, through the programs of the table."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax.numpy as jnp
from cards import blobs, card
from population import BATCH, STEPS
from population import Contestant as Population

from device.contest import Contestant, Row, Setting, attempts, contest


def rows(setting: Setting) -> Iterator[Row]:
    """Of each method, the time a model and step; one model and many take turns."""
    images = jnp.asarray(blobs((STEPS + 1) * BATCH))
    names = setting.pick(("ae",), ("ogae", "ae"))
    yield from attempts({name: partial(of_method, name, images, setting) for name in names})


def of_method(name: str, images: Any, setting: Setting) -> Iterator[Row]:
    """One and 64 models, compiled one after the other: the first is reported if time runs out."""
    single = Population(card(name), 1, images)
    what = f"{name}, a step of a model, batch {BATCH}"
    contestants = {
        "1 model": Contestant(single.seconds, STEPS, single.compile_seconds, goal=f"{name} 1 model")
    }
    yield from contest(what, contestants, "s a step and model", setting, 0.02)
    number = setting.pick(2, 64)
    many = Population(card(name), number, images, single.start)
    contestants[f"{number} models under vmap"] = Contestant(
        many.seconds, number * STEPS, many.compile_seconds, goal=f"{name} {number} models"
    )
    yield from contest(f"{what}, in turns", contestants, "s a step and model", setting)
