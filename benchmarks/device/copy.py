"""The limits of the machine: memory, launches, dispatch, matrix products."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import compiled, interleaved

from device.contest import Row, Setting, attempts

KERNELS, STEPS = (1, 8, 64), 1000


def rows(setting: Setting) -> Iterator[Row]:
    """Every limit as one row."""
    yield from attempts(
        {
            "x + 1": lambda: bandwidth(setting),
            "a launch": lambda: launches(setting),
            "a call": lambda: dispatch(setting),
            "matrix product": lambda: products(setting),
        }
    )


def seconds_of(run: Callable[[], Any], setting: Setting) -> float:
    """Median seconds of a call."""
    return interleaved({"": run}, **setting.turns(0.1))[""]


def bandwidth(setting: Setting) -> Iterator[Row]:
    """Bytes read and written by x + 1 over 1 GiB."""
    x = jnp.ones(setting.pick(2**20, 2**28), jnp.float32)
    ready, first = compiled(lambda x: x + 1, x)
    t = seconds_of(lambda: ready(x), setting)
    yield Row(
        f"x + 1 over {x.nbytes / 2**20:,.0f} MiB",
        "read and written",
        2e-12 * x.nbytes / t,
        "TB/s",
        first=first,
        goal="bandwidth",
    )


def launches(setting: Setting) -> Iterator[Row]:
    """The cost of a kernel that computes next to nothing, inside a compiled loop.

    The barriers keep XLA from fusing the kernels of a step. The costs of a step of 1, 8 and 64
    kernels lie on a line, whose slope is the cost of a launch.
    """
    steps = setting.pick(50, STEPS)
    taken = []
    for kernels in KERNELS:

        def step(x, _, kernels=kernels):
            for _ in range(kernels):
                x = jax.lax.optimization_barrier(x * 1.0001 + 1)
            return x, None

        x = jnp.ones(1024, jnp.float32)
        ready, first = compiled(lambda x, step=step: jax.lax.scan(step, x, length=steps)[0], x)
        taken.append(seconds_of(lambda ready=ready, x=x: ready(x), setting) / steps)
        what = f"a step of {kernels} small kernel{'s' * (kernels > 1)} in a scan"
        yield Row(what, "jax.lax.scan", taken[-1], "s a step", first=first)
    slope, intercept = np.polyfit(KERNELS, taken, 1)
    note = f"slope over these; a step without any costs {1e6 * intercept:.1f} us"
    yield Row("a launch", "jax.lax.scan", float(slope), "s", note=note)


def dispatch(setting: Setting) -> Iterator[Row]:
    """From the call of a tiny program until its result is there."""
    x = jnp.ones(8, jnp.float32)
    ready, first = compiled(lambda x: x + 1, x)
    t = seconds_of(lambda: ready(x), setting)
    yield Row("a call of x + 1, 8 numbers", "one call, waited for", t, "s", first=first)

    def many() -> Any:
        y = x
        for _ in range(100):
            y = ready(y)
        return y

    t = seconds_of(many, setting) / 100
    yield Row("a call of x + 1, 8 numbers", "100 calls in the queue", t, "s")


def products(setting: Setting) -> Iterator[Row]:
    """float32 at both precisions; the solver's products ask for the highest."""
    n = setting.pick(512, 8192)
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.float32)
    for name in ("default", "highest"):
        ready, first = compiled(lambda x, name=name: jnp.matmul(x, x, precision=name), x)
        t = seconds_of(lambda ready=ready: ready(x), setting)
        value = 2e-12 * n**3 / t
        what, precision, goal = f"float32 product, {n:,}", f"{name} precision", f"matmul {name}"
        yield Row(what, precision, value, "TFLOP/s", first=first, goal=goal)
