"""A function of many rows, run in blocks of one size over all devices.

The rows are independent of one another, so nothing is ever exchanged: each device takes the next
block when it is done with one, and the result does not depend on how many there are. On a CPU, XLA
runs much of a batch of small problems on one core; there, several blocks are under way at once.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np


def in_blocks(
    function: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    *,
    block: int,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Any:
    """`function(*arrays)`, whose arrays and results all have one row per independent problem.

    Args:
      function: a compiled function (`jax.jit`) from arrays of `block` rows to a pytree of arrays of
        as many rows. Compile it once and pass it again: one size of block is all it ever sees.
      arrays: of v rows each, on the host; what is on the devices at a time is a block for each.
      block: rows of a block; the last one is filled up with its own first row.
      devices: to spread the blocks over; all local ones if left out.
      progress: called with the number of rows that are newly done.

    Returns:
      The pytree of NumPy arrays of v rows.

    Raises:
      ValueError: if the arrays have no rows, or not all the same number.
    """
    rows = {len(a) for a in arrays}
    if len(rows) != 1 or rows == {0}:
        raise ValueError(
            f"the arrays have {sorted(rows)} rows; they must all have the same number, at least 1."
        )
    (v,) = rows
    devices = list(devices or jax.local_devices())
    on_cpu = devices[0].platform == "cpu"
    # A CPU that is one device has one queue for each core here.
    queues = devices * max(1, (os.cpu_count() or 1) // len(devices)) if on_cpu else devices

    def run(job: tuple[int, Any]) -> Any:
        start, device = job
        parts = jax.device_put([_filled(a[start : start + block], block) for a in arrays], device)
        out = jax.device_get(function(*parts))
        count = min(block, v - start)
        progress(count)
        return jax.tree.map(lambda x: x[:count], out)

    starts = range(0, v, block)
    jobs = [(start, queues[i % len(queues)]) for i, start in enumerate(starts)]
    # The first alone: it compiles, and that of several threads would be done several times.
    first, rest = run(jobs[0]), jobs[1:]
    with ThreadPoolExecutor(len(queues)) as pool:
        out = [first, *pool.map(run, rest)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *out)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """`size` rows, the missing ones copies of the first."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.broadcast_to(rows[:1], (size - len(rows), *rows.shape[1:]))])
