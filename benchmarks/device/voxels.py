"""One one-class SVM a voxel: 68,000 and a cerebrum of 1.46 million, fitted and scored."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from localized import CEREBRUM, ours, points, scikit_learn
from timing import clocked

from device.contest import Contestant, Row, Setting, attempts, contest
from ocsvm_jax.blocks import in_blocks

VOXELS, SUBJECTS, D = 68_000, 60, 16
GAMMAS = (0.01, 0.3)
SAMPLE = 4_000  # voxels of scikit-learn
# Twice the points of a cerebrum and room to work.
CEREBRUM_BYTES = 6 * 4 * CEREBRUM * SUBJECTS * D


# gamma is an argument, so that both are served by one program for each size of a block.
fit_and_score = jax.jit(lambda gamma, train, query: ours(gamma, False, train, query))


def rows(setting: Setting) -> Iterator[Row]:
    """Voxels at both gammas, then the cerebrum."""
    made = points(*setting.pick((128, 10, 4), (VOXELS, SUBJECTS, D)), seed=0)
    gammas = setting.pick(GAMMAS[:1], GAMMAS)
    yield from attempts({f"gamma {g}": partial(slab, g, made, setting) for g in gammas})
    sections = {f"cerebrum, gamma {g}": partial(cerebrum, g, made, setting) for g in gammas}
    yield from attempts(sections)


def ending(gamma: float) -> str:
    """What the names of goals end in."""
    return "" if gamma == GAMMAS[0] else " gamma .3"


def slab(gamma: float, made: tuple[np.ndarray, np.ndarray], setting: Setting) -> Iterator[Row]:
    """On the device, with transfers in blocks of several sizes, and scikit-learn on a sample."""
    voxels, end = len(made[0]), ending(gamma)
    function = partial(fit_and_score, jnp.float32(gamma))
    resident = partial(function, *jax.device_put(made))
    first, scores = clocked(lambda: np.asarray(resident()))
    contestants = {"on the device": Contestant(resident, voxels, first, goal=f"voxels{end}")}
    for block in setting.pick((voxels,), (voxels, 4096, 512)):
        run = partial(in_blocks, function, made, block=block)
        first, _ = clocked(run)
        goal, note = f"localized {block}{end}", f"first call, {-(-voxels // block):,} blocks"
        contestants[f"with transfers, blocks of {block:,}"] = Contestant(run, 1, first, note, goal)
    sample = made[0][:SAMPLE], made[1][:SAMPLE]
    fits = partial(scikit_learn, gamma, *sample)
    first, reference = clocked(fits)
    error = np.max(np.abs(scores[: len(reference)] - reference))
    peer = f"{len(reference):,} voxels on {os.cpu_count()} cores"
    note = f"{peer}; scores within {error:.0e} of a spread of {reference.std():.0e}"
    goal = "" if end else "localized scikit-learn"
    contestants["scikit-learn"] = Contestant(fits, len(reference), first, note, goal)
    what = f"{voxels:,} voxels, gamma {gamma}"
    for row in contest(what, contestants, "s a voxel", setting, 0.1):
        yield of_all(row, voxels)


def of_all(row: Row, voxels: int) -> Row:
    """The row with the time of all voxels; that of the device stays the time of one."""
    assert row.value is not None
    assert row.ratio is not None
    if row.contestant == "on the device":
        return row
    if row.contestant == "scikit-learn":
        return row._replace(value=row.value * voxels, unit="s")
    return row._replace(unit="s", ratio=row.ratio / voxels)


def cerebrum(gamma: float, made: tuple[np.ndarray, np.ndarray], setting: Setting) -> Iterator[Row]:
    """The voxels again and again until they are as many as a cerebrum has."""
    voxels, end = len(made[0]), ending(gamma)
    total = setting.pick(2 * voxels, CEREBRUM)
    what = f"cerebrum, {total:,} voxels, gamma {gamma}"
    function = partial(fit_and_score, jnp.float32(gamma))
    on_device = jax.device_put(made)
    calls = -(-total // voxels)

    def resident() -> list[Any]:
        return [function(*on_device) for _ in range(calls)]

    first, _ = clocked(lambda: jax.block_until_ready(resident()))
    note = f"{calls} times {voxels:,} voxels that lie there"
    contestants = {"on the device": Contestant(resident, 1, first, note, f"cerebrum{end}")}
    if free_bytes() < CEREBRUM_BYTES and not setting.quick:
        yield from contest(what, contestants, "s", setting)
        yield Row(what, "with transfers", None, "", note="too little memory on the host")
        return
    whole = [np.tile(array, (calls, 1, 1))[:total] for array in made]
    run = partial(in_blocks, function, whole, block=voxels)
    note, goal = f"blocks of {voxels:,}", f"cerebrum transfers{end}"
    contestants["with transfers"] = Contestant(run, 1, None, note, goal)
    yield from contest(what, contestants, "s", setting)


def free_bytes() -> int:
    """Memory of the host that is free, 0 where it is not known."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
