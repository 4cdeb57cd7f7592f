"""A whole run of configs/mnistc.py, with data, compilation, scores and report."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cards import card
from timing import clocked

import train
from device.contest import Row, Setting, attempts
from ocsvm_jax import data
from ocsvm_jax.data import digits

EPOCHS = 20
# How many digits of a class MNIST has for one of the digits of scikit-learn.
REPEATS = {"train": 48, "test": 19}


def rows(setting: Setting) -> Iterator[Row]:
    """MNIST-C, if there is any, and scikit-learn's digits repeated to its size."""
    data.SOURCES["repeated_digits"] = repeated_digits
    if setting.quick:
        note = "387 images, with compilation"
        yield from attempts({"digits": lambda: run("ae", "digits", "", 1, note, "")})
        return
    sections = {}
    if setting.data_dir:
        note = "with compilation"
        mnist_c = partial(run, "ogae", "mnist_c", setting.data_dir, EPOCHS, note, "mnistc")
        sections["mnist_c"] = mnist_c
    else:
        note = "scikit-learn's digits repeated with noise to MNIST-C's number; with compilation"
        repeated = partial(run, "ogae", "repeated_digits", "", EPOCHS, note, "mnistc")
        sections["repeated digits"] = repeated
    yield from attempts(sections)


def run(
    method: str, source: str, data_dir: str, epochs: int, note: str, goal: str
) -> Iterator[Row]:
    """One run by train.py in this process, everything included."""
    config = card(method, data_dir)
    config.data.name, config.train.epochs = source, epochs
    if source == "digits":  # quick
        config.eval.resamples = 20
    with tempfile.TemporaryDirectory() as workdir:
        seconds, _ = clocked(train.main, config, Path(workdir) / "run")
    what = f"configs/mnistc.py, {method}, {epochs} epochs, {source}"
    yield Row(what, "train.py", seconds, "s", note=note, goal=goal)


def repeated_digits(dir: str = "") -> data.Source:
    """scikit-learn's digits, each many times with a little noise: as many as MNIST-C has."""
    small = digits.source(dir)

    def labels(corruption: str, split: str) -> np.ndarray:
        return np.tile(small.labels(corruption, split), REPEATS[split])

    def images(corruption: str, split: str, rows: np.ndarray) -> np.ndarray:
        count = len(small.labels(corruption, split))
        rng = np.random.default_rng([len(rows), count])
        clean: Any = small.images(corruption, split, np.arange(count))[rows % count]
        noise = rng.integers(-16, 17, clean.shape, np.int16)
        return np.clip(clean + noise, 0, 255).astype(np.uint8)

    return small._replace(name="repeated_digits", labels=labels, images=images)
