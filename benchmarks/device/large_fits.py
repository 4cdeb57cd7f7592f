"""`ocsvm_fit` in float32 without a Gram matrix, up to a million points, and scikit-learn."""

import multiprocessing
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from large import ours, points, scikit_learn
from timing import clocked

from device.contest import Row, Setting, attempts
from ocsvm_jax import Status

# n, d, gamma, nu, turns
PROBLEMS = (
    (16_553, 32, 0.01, 0.03, 5),
    (16_553, 32, 0.01, 0.5, 5),
    (100_000, 20, 0.05, 0.03, 3),
    (1_000_000, 20, 0.05, 0.03, 3),
    (100_000, 20, 0.05, 0.5, 1),
    (1_000_000, 20, 0.05, 0.5, 1),
)
PEER_POINTS = 100_000  # scikit-learn needs many minutes for more
QUICK = ((2_000, 8, 0.1, 0.03, 2),)


def rows(setting: Setting) -> Iterator[Row]:
    """Ours first; scikit-learn, as far as it ends in its limit, after all of ours."""
    problems = setting.pick(QUICK, PROBLEMS)
    yield from attempts({described(*p): partial(fits, *p) for p in problems})
    within = [p for p in problems if p[0] <= PEER_POINTS]
    yield from attempts({described(*p): partial(peer, *p, setting) for p in within})


def described(n: int, d: int, gamma: float, nu: float, turns: int) -> str:
    """The problem in words."""
    return f"fit of {n:,} x {d}, gamma {gamma}, nu {nu}"


def fits(n: int, d: int, gamma: float, nu: float, turns: int) -> Iterator[Row]:
    """The median of some fits, the first, which compiles, apart."""
    x = jnp.asarray(points(n, d))
    first, model = clocked(ours, x, nu, gamma)
    seconds = float(np.median([clocked(ours, x, nu, gamma)[0] for _ in range(turns)]))
    assert model.info is not None
    info = jax.device_get(model.info)
    note = (
        f"{Status(int(info.status)).name}, gap {float(info.gap):.0e}, {int(info.num_steps)} "
        f"rounds, {len(model.coefficients):,} support vectors; first call"
    )
    what = described(n, d, gamma, nu, turns)
    yield Row(what, "ocsvm_fit, float32", seconds, "s", None, first, note, f"fit {n} {nu}")


def peer(n: int, d: int, gamma: float, nu: float, turns: int, setting: Setting) -> Iterator[Row]:
    """One fit of scikit-learn, in a process that can be ended."""
    what, limit = described(n, d, gamma, nu, turns), min(20.0, setting.left() / 2)
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=timed_peer, args=(send, n, d, gamma, nu), daemon=True)
    process.start()
    try:
        if not receive.poll(limit):
            note = f"not done within {limit:.0f} s"
            yield Row(what, "scikit-learn", None, "", note=note)
            return
        yield Row(what, "scikit-learn", receive.recv(), "s", note="one fit, on one core")
    finally:
        process.kill()


def timed_peer(send: Any, n: int, d: int, gamma: float, nu: float) -> None:
    """Sends the seconds of a fit, without those of the process's start."""
    send.send(clocked(scikit_learn, points(n, d), nu, gamma)[0])
