"""What a problem costs at different numbers of points, 2,048 at once, in float32."""

from collections.abc import Iterator
from functools import partial

from timing import compiled

from device.contest import Contestant, Row, Setting, attempts, contest, kernel_kind
from device.duals import GAMMAS, described, matrices, points, solve


def rows(setting: Setting) -> Iterator[Row]:
    """A row a size; its note says whether a fused kernel solved it."""
    sizes = setting.pick((8,), (60, 8, 16, 32, 64, 100, 128, 200))
    yield from attempts({f"n = {n}": partial(size, n, setting) for n in sizes})


def size(n: int, setting: Setting) -> Iterator[Row]:
    """One call, and several in the queue."""
    lanes = setting.pick(32, 2048)
    x = points(lanes, n)
    Ks = matrices(x, GAMMAS[0])
    ready, seconds = compiled(solve, Ks)
    kind = kernel_kind(ready.as_text())  # pyright: ignore[reportFunctionMemberAccess]
    ours = Contestant(partial(ready, Ks), lanes, seconds, kind)
    contestants = {"ocsvm_jax": ours, "ocsvm_jax, queued": ours.queued()}
    yield from contest(described(lanes, n, GAMMAS[0]), contestants, "s a problem", setting, 0.05)
