"""The programs that benchmarks/compiled.py counts: functions and the shapes of their arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from cards import blobs, card

from device.duals import solve, value_and_gradient
from ocsvm_jax import fit_large, guidance_loss, rbf
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.solver import large
from ocsvm_jax.training import epoch as training

STEPS, BATCH = 20, 100


class Program(NamedTuple):
    """A function, and arguments of which only shapes and dtypes matter."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def floats(*shape: int) -> jax.ShapeDtypeStruct:
    """An array of float32."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def step(name: str) -> Program:
    """An epoch of one model; its step is the body of the loop of 20."""
    images = blobs(STEPS * BATCH)
    method = experiment.build_method(card(name))
    feed = training.feed_of(images, images[:BATCH])
    begin = partial(training.begin, method)
    run = jax.eval_shape(begin, images[:BATCH], jax.random.key(0))

    def epoch(run: Any, feed: Any) -> Any:
        return training.one_epoch(method, run, run.epoch, feed, 0, BATCH)

    return Program(epoch, (run, feed))


def population_of(name: str, number: int = 64) -> Program:
    """An epoch of many models under vmap, by the program of the table."""
    import population

    program = population.program_of(card(name), number)
    members = population.population._stacked(population.members_of(name, number))
    images = blobs((population.STEPS + 1) * population.BATCH)
    run = jax.eval_shape(program.start, members, images)
    active, epoch = np.ones(number, bool), np.int32(1)
    return Program(program.epoch, (run, members, active, images, epoch))


def guidance() -> Program:
    """Equation (7) of a batch of 100 latents, with its gradient."""

    def loss(z: jax.Array) -> jax.Array:
        return guidance_loss(z, nu=0.03, gamma=0.01)[0]

    return Program(jax.value_and_grad(loss), (floats(BATCH, 32),))


def localized(voxels: int = 68_000) -> Program:
    """Fit and score of localised one-class SVMs."""
    from localized import ours

    points = floats(voxels, 60, 16)
    return Program(partial(ours, 0.01, False), (points, points))


def many_points(n: int = 100_000, d: int = 20) -> Program:
    """A fit without a Gram matrix; a round is the body of its loop."""

    def fit(x: jax.Array) -> Any:
        access = fit_large._access(rbf(0.05), x)
        C = jnp.full(n, 1 / (0.03 * n), jnp.float32)
        settings = large.Settings(jnp.float32(1e-6), fit_large._WORKING_SET, jnp.int32(10_000))
        return large.solve_large(access, C, settings)

    return Program(fit, (floats(n, d),))


PROGRAMS: dict[str, Callable[[], Program]] = {
    "AE step, batch 100": partial(step, "ae"),
    "OgAE step, batch 100": partial(step, "ogae"),
    "guidance_loss with its gradient, b = 100": guidance,
    "2,048 duals, n = 60": lambda: Program(solve, (floats(2048, 60, 60),)),
    "2,048 duals, n = 60, with gradients": lambda: Program(
        value_and_gradient, (floats(2048, 60, 60),)
    ),
    "ocsvm_fit, 100,000 x 20": many_points,
    "fit and score of 68,000 voxels": localized,
    "64 AE models": partial(population_of, "ae"),
    "64 OgAE models": partial(population_of, "ogae"),
    "65,536 duals, n = 60": lambda: Program(solve, (floats(65_536, 60, 60),)),
}
