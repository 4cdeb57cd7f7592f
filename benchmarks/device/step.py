"""A training step of the autoencoder and of OgAE at batch 100, and the guidance alone."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from ogae_step import BATCH, STEPS, Training

from device.contest import Contestant, Row, Setting, attempts, contest, prepared
from ocsvm_jax import guidance_loss


def rows(setting: Setting) -> Iterator[Row]:
    """Both steps in turns, then the guidance."""
    yield from attempts(
        {
            "training step": lambda: steps(setting),
            "guidance_loss": lambda: guidance(setting),
        }
    )


def steps(setting: Setting) -> Iterator[Row]:
    """Epochs of one compiled scan, in the second phase, as benchmarks/ogae_step.py has them."""
    count, batch = setting.pick((3, 20), (STEPS, BATCH))
    contestants = {}
    for name in ("ae", "ogae"):
        run = Training(name, count, batch)
        contestants[name] = Contestant(run, count, run.compile_seconds, goal=f"{name} step")
    what = f"training step, batch {batch}, {count} steps in a scan"
    yield from contest(what, contestants, "s a step", setting)


def guidance(setting: Setting) -> Iterator[Row]:
    """Equation (7) of a batch of latents: the value, and the value with its gradient, under jit."""
    batch = setting.pick(20, BATCH)
    z = jax.random.normal(jax.random.key(0), (batch, 32), jnp.float32)
    loss = partial(guidance_loss, nu=0.03, gamma=0.01)
    functions = {"value and gradient": jax.value_and_grad(lambda z: loss(z)[0])}
    functions |= setting.pick({}, {"value": lambda z: loss(z)[0]})
    goals = {"value": "guidance", "value and gradient": "guidance gradient"}
    contestants = {}
    for name, function in functions.items():
        contestants[name] = prepared(function, z, goal=goals[name])
        contestants[f"{name}, queued"] = contestants[name].queued()
    yield from contest(f"guidance_loss, b = {batch}", contestants, "s a call", setting)
