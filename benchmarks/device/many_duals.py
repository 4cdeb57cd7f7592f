"""The dual under vmap over 68,000 and 262,144 problems of 60 points, in float32.

A part of its own, because the program of so many lanes did not always compile in its time.
"""

from collections.abc import Iterator
from functools import partial

from timing import compiled

from device.contest import Contestant, Row, Setting, attempts, contest, kernel_kind
from device.duals import (
    GAMMAS,
    POINTS,
    agreement,
    described,
    goal_of,
    matrices,
    points,
    solve,
    value_and_gradient,
)


def rows(setting: Setting) -> Iterator[Row]:
    """Values of every size, then values with gradients."""
    sizes = setting.pick((64,), (68_000, 262_144))
    yield from attempts({f"{k:,} duals": partial(values, k, setting) for k in sizes})
    yield from attempts(
        {f"{k:,} gradients": partial(gradients, k, setting) for k in setting.pick((), sizes[:1])}
    )


def values(lanes: int, setting: Setting) -> Iterator[Row]:
    """One call, and several in the queue."""
    x = points(lanes, setting.pick(10, POINTS))
    ready, seconds = compiled(solve, matrices(x, GAMMAS[0]))
    kind = kernel_kind(ready.as_text())  # pyright: ignore[reportFunctionMemberAccess]
    for gamma in setting.pick(GAMMAS[:1], GAMMAS):
        run = partial(ready, matrices(x, gamma))
        note = f"{kind}; {agreement(run(), x, gamma)}"
        ours = Contestant(run, lanes, seconds, note, goal_of(lanes, gamma))
        contestants = {"ocsvm_jax": ours, "ocsvm_jax, queued": ours.queued(times=5)}
        yield from contest(described(lanes, x.shape[1], gamma), contestants, "s a problem", setting)


def gradients(lanes: int, setting: Setting) -> Iterator[Row]:
    """rho and a functional of alpha, with the gradient in K."""
    x = points(lanes, setting.pick(10, POINTS))
    ready, seconds = compiled(value_and_gradient, matrices(x, GAMMAS[0]))
    for gamma in setting.pick(GAMMAS[:1], GAMMAS):
        ours = Contestant(partial(ready, matrices(x, gamma)), lanes, seconds)
        what = described(lanes, x.shape[1], gamma, ", value and gradient")
        yield from contest(what, {"ocsvm_jax": ours}, "s a problem", setting)
