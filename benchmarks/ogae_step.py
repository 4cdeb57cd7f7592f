"""What the guidance costs: a training step of OgAE against one of the plain autoencoder.

    python benchmarks/ogae_step.py

Batch 100, float32, with the settings of configs/mnistc.py. As in training, an epoch of 20 steps is
one compiled scan. The two take turns; times are medians over the turns.
"""

import jax
import numpy as np
from cards import blobs, card
from timing import clocked

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.reports import provenance
from ocsvm_jax.training import epoch as training

STEPS, BATCH, TURNS = 20, 100, 15


class Training:
    """A method that trains an epoch of `steps` steps at a call."""

    def __init__(self, name: str, steps: int = STEPS, batch: int = BATCH):
        self.steps = steps
        images = blobs(steps * batch)
        feed = training.feed_of(images, images[:batch])
        method = experiment.build_method(card(name))
        run = training.start(method, images, batch, 0)
        epoch = training.epoch_function(method, batch, 0)
        self.compile_seconds, compiled = clocked(lambda: epoch.lower(run, feed).compile())  # pyright: ignore[reportFunctionMemberAccess]
        self._epoch = lambda run: compiled(run, feed)
        # The turns run in the second phase of two, with both routes of the guidance.
        self._run, _ = self._epoch(run)

    def __call__(self) -> dict[str, jax.Array]:
        """Trains an epoch; its mean losses."""
        self._run, parts = self._epoch(self._run)
        return parts


def main() -> None:
    """Measures and prints a Markdown table."""
    runs = {name: Training(name) for name in ("ae", "ogae")}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, run in runs.items():
            taken, _ = clocked(lambda run=run: jax.block_until_ready(run()))
            seconds[name].append(taken / STEPS)
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    print("| training step | times plain | milliseconds | compilation, s |\n|---|---|---|---|")
    for name, t in medians.items():
        ratio, compilation = t / medians["ae"], runs[name].compile_seconds
        print(f"| {name} | {ratio:.3f} | {1e3 * t:.2f} | {compilation:.1f} |")


if __name__ == "__main__":
    main()
