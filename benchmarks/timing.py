"""The clocks that benchmarks share."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def clocked(run: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds and result of a call."""
    began = time.perf_counter()
    result = run(*arguments)
    return time.perf_counter() - began, result


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float]:
    """The compiled function, and how long lowering and compilation took."""
    began = time.perf_counter()
    ready = jax.jit(function).lower(*arguments).compile()
    return ready, time.perf_counter() - began


def interleaved(
    contestants: dict[str, Callable[[], Any]],
    turns: int,
    *,
    calls: int = 5,
    seconds: float = math.inf,
) -> dict[str, float]:
    """Median seconds of a call; they take turns, so that noise meets all alike.

    A turn is several calls in a row, of which the first, with the caches full of a rival's data and
    its threads still spinning, does not count.

    Args:
      contestants: functions of no arguments by their names.
      turns: the number of turns, fewer if they take longer than `seconds`, but at least one.
      calls: calls of a turn, at least 2.
      seconds: no turn begins later than this after the first.
    """
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        jax.block_until_ready(run())
    began = time.perf_counter()
    for turn in range(turns):
        if turn and time.perf_counter() - began > seconds:
            break
        for name, run in contestants.items():
            for call in range(calls):
                t, _ = clocked(lambda run=run: jax.block_until_ready(run()))
                if call:
                    taken[name].append(t)
    return {name: float(np.median(values)) for name, values in taken.items()}
