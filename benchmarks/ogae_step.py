"""What the guidance costs: a training step of OgAE against one of the plain autoencoder.

    python benchmarks/ogae_step.py

Batch 100, float32, with the settings of configs/mnistc.py. As in training, an epoch of 20 steps is
one compiled scan. The two take turns; times are medians over the turns.
"""

import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configs import mnistc  # noqa: E402
from ocsvm_jax.experiments import config as experiment  # noqa: E402
from ocsvm_jax.reports import provenance  # noqa: E402
from ocsvm_jax.training import epoch as training  # noqa: E402

STEPS, BATCH, TURNS = 20, 100, 15


def main() -> None:
    """Measures and prints a Markdown table."""
    rng = np.random.default_rng(0)
    # Smooth blobs: what matters is that the latents, and so the duals, are not degenerate.
    noise = rng.random((STEPS * BATCH, 7, 7, 1))
    images = (255 * noise.repeat(4, 1).repeat(4, 2)).astype(np.uint8)
    feed = training.feed_of(images, images[:BATCH])
    runs, epochs, compiled = {}, {}, {}
    for name in ("ae", "ogae"):
        config: Any = mnistc.get_config()
        config.method.name = name
        config.train.epochs = 2  # so that the turns run in the second phase, with both routes
        method = experiment.build_method(config)
        run = training.start(method, images, BATCH, 0)
        epoch: Any = training.epoch_function(method, BATCH, 0)
        began = time.perf_counter()
        epochs[name] = epoch.lower(run, feed).compile()
        compiled[name] = time.perf_counter() - began
        runs[name], _ = epochs[name](run, feed)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, epoch in epochs.items():
            began = time.perf_counter()
            runs[name], parts = epoch(runs[name], feed)
            jax.block_until_ready(parts)
            seconds[name].append((time.perf_counter() - began) / STEPS)
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    print("| training step | times plain | milliseconds | compilation, s |\n|---|---|---|---|")
    for name, t in medians.items():
        ratio = t / medians["ae"]
        print(f"| {name} | {ratio:.3f} | {1e3 * t:.2f} | {compiled[name]:.1f} |")


if __name__ == "__main__":
    main()
