"""Many models at once: k models under vmap against k runs one after the other.

    python benchmarks/population.py [--data_dir=PATH_TO_MNIST_C] [--models=1,2,4,8,16] [--turns=3]

The plain autoencoder and OgAE on 28 x 28 images, batch 100, float32, with the settings of
configs/mnistc.py, through the programs of `ocsvm_jax.training.population` that the table uses. The
members differ in their seed, and those of OgAE also in guidance weight and gamma. An epoch is one
compiled scan of 20 steps. k sequential runs are k epochs of the program for one model (for k above
4, four of them, times k / 4). The two take turns; times are medians over the turns and exclude
compilation. For k = 1 both are the same program. Images are random blobs unless data_dir is given.
On an accelerator, 64 models are tried, too.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cards import blobs, card

from ocsvm_jax import data
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.method_fields import settings_of
from ocsvm_jax.reports import provenance
from ocsvm_jax.training import population

STEPS, BATCH = 20, 100
LONGEST = 4  # runs one after the other that are timed in a turn; more of them are as many times
GUIDANCE_WEIGHTS, GAMMAS = (1e-3, 1e-2), (0.01, 0.1)


def members_of(name: str, number: int) -> list[population.Member]:
    """Each has a seed of its own, and OgAE's take turns through a small grid."""
    rows = np.arange(STEPS * BATCH)
    held_out = np.arange(STEPS * BATCH, (STEPS + 1) * BATCH)
    points: list[dict[str, float]] = [{}]
    if name == "ogae":
        points = [{"guidance_weight": w, "gamma": g} for w in GUIDANCE_WEIGHTS for g in GAMMAS]
    return [population.Member(points[i % len(points)], i, rows, held_out) for i in range(number)]


def program_of(config: Any, number: int) -> population.Program:
    """The programs of a population. What is measured is an epoch: patience plays no part."""
    settings = settings_of(config, config.method.name) | {"num_epochs": config.train.epochs}
    rate = config.train.learning_rate

    def build(traced):
        return experiment.method_of(settings | dict(traced), rate)

    return population.Program(build, population.Plan(2, BATCH, 0, 1), number)


class Contestant:
    """A population of `number` models that trains an epoch at a call."""

    def __init__(self, config: Any, number: int, images: jax.Array, start: Any = None):
        program = program_of(config, number)
        members = members_of(config.method.name, number)
        stacked = population._stacked(members)
        active, epoch = jnp.ones(number, bool), jnp.int32(1)
        self.start = start or program.start
        # One by one, by the program of a single model: one compilation less.
        runs = [jax.device_get(self.start(population._stacked([m]), images)) for m in members]
        self._run = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *runs)
        began = time.perf_counter()
        compiled = program.epoch.lower(self._run, stacked, active, images, epoch).compile()
        self.compile_seconds = time.perf_counter() - began
        self._epoch = lambda run: compiled(run, stacked, active, images, epoch)

    def seconds(self) -> float:
        """Trains an epoch; how long it took."""
        began = time.perf_counter()
        self._run, parts = self._epoch(self._run)
        jax.block_until_ready((self._run, parts))
        return time.perf_counter() - began


def measure(config: Any, numbers: list[int], turns: int, images: jax.Array) -> Iterator[str]:
    """Rows of the table for one method."""
    single = Contestant(config, 1, images)
    single.seconds()
    for number in numbers:
        many = single if number == 1 else Contestant(config, number, images, single.start)
        apart, together = [], []
        for _ in range(turns):
            calls = min(number, LONGEST)
            apart.append(sum(single.seconds() for _ in range(calls)) * number / calls)
            together.append(many.seconds())
        ratio = np.median(np.divide(together, apart))
        each = 1e3 * np.array([np.median(together), np.median(apart)]) / (number * STEPS)
        yield (
            f"| {config.method.name} | {number} | {ratio:.2f} | {each[0]:.2f} | {each[1]:.2f} "
            f"| {many.compile_seconds:.1f} | {single.compile_seconds:.1f} |"
        )


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--models", default="")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    usual = "1,2,4,8,16" + ("" if jax.default_backend() == "cpu" else ",64")
    numbers = [int(number) for number in (arguments.models or usual).split(",")]
    images, source = blobs((STEPS + 1) * BATCH), "random blobs"
    if arguments.data_dir:
        dataset = data.load(**card("ae", arguments.data_dir).data.to_dict())
        images, source = dataset.train.images[: len(images)], "MNIST-C"
    on_device = jnp.asarray(images)
    print(f"Machine: {'; '.join(provenance.facts().values())}")
    print(f"Images: {source}. A step of one model, batch {BATCH}; {arguments.turns} turns.\n")
    print(
        "| method | k | vmap / one after the other | vmap, ms a step and model "
        "| one after the other, ms | compilation of vmap, s | of one, s |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name in ("ae", "ogae"):
        for row in measure(card(name, arguments.data_dir), numbers, arguments.turns, on_device):
            print(row, flush=True)


if __name__ == "__main__":
    main()
