"""What a part of the benchmark gives: rows, measured in turns."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from timing import compiled, interleaved

QUEUE = 20  # calls that wait in the device's queue at once


class Row(NamedTuple):
    """One figure.

    Attributes:
      what: the problem.
      contestant: who solved it.
      value: the figure, in `unit`; None if there is none, which `note` explains.
      unit: "s", "s a problem" and the like, or another unit such as "TB/s".
      ratio: the figure as a multiple of that of the first contestant of the same turns.
      first: seconds of the compilation or, where the note says so, of the first call.
      note: accuracy, statuses, or why there is no figure.
      goal: the name of its goal in `goals.GOALS`, "" for none.
    """

    what: str
    contestant: str
    value: float | None
    unit: str
    ratio: float | None = None
    first: float | None = None
    note: str = ""
    goal: str = ""


class Setting(NamedTuple):
    """How a part is run.

    Attributes:
      quick: sizes scaled down for a CPU.
      ends: when its time is up, in seconds of `time.monotonic()`.
      data_dir: the directory of MNIST-C; "" if there is none.
    """

    quick: bool
    ends: float
    data_dir: str = ""

    def left(self) -> float:
        """Seconds left."""
        return self.ends - time.monotonic()

    def pick(self, quick: Any, whole: Any) -> Any:
        """The first with `quick`, else the second."""
        return quick if self.quick else whole

    def turns(self, share: float) -> dict[str, Any]:
        """Arguments of `interleaved`: 7 turns at most, in a share of the time left."""
        turns, calls = self.pick((1, 2), (7, 4))
        return {"turns": turns, "calls": calls, "seconds": share * self.left()}


class Contestant(NamedTuple):
    """A function of no arguments.

    Attributes:
      run: the function.
      units: problems, or steps, that it solves at a call.
      first: seconds of its compilation.
      note: see `Row`.
      goal: see `Row`.
    """

    run: Callable[[], Any]
    units: int = 1
    first: float | None = None
    note: str = ""
    goal: str = ""

    def queued(self, goal: str = "", times: int = QUEUE) -> "Contestant":
        """Several calls one after the other, of which only the last is waited for.

        A single short call costs mostly what the host needs to start it and to hear of its end.
        """

        def run() -> Any:
            out = None
            for _ in range(times):
                out = self.run()
            return out

        note = f"{times} calls in the queue"
        return Contestant(run, times * self.units, None, note, goal)


def prepared(function: Callable[..., Any], *arguments: Any, **fields: Any) -> Contestant:
    """A contestant that calls the compiled function with these arguments."""
    ready, seconds = compiled(function, *arguments)
    return Contestant(lambda: ready(*arguments), first=seconds, **fields)


def contest(
    what: str, contestants: dict[str, Contestant], unit: str, setting: Setting, share: float = 0.2
) -> Iterator[Row]:
    """A row a contestant; they take turns, and the first is what the others are compared with."""
    runs = {name: contestant.run for name, contestant in contestants.items()}
    times = interleaved(runs, **setting.turns(share))
    each = {name: t / contestants[name].units for name, t in times.items()}
    ours = next(iter(each.values()))
    for name, value in each.items():
        given = contestants[name]
        yield Row(what, name, value, unit, value / ours, given.first, given.note, given.goal)


def attempts(sections: dict[str, Callable[[], Iterator[Row]]]) -> Iterator[Row]:
    """The rows of all sections; one that fails costs only what it has not measured yet."""
    for what, section in sections.items():
        try:
            yield from section()
        except Exception as error:  # whatever a device, or a peer on it, may raise
            lines = str(error).strip().splitlines() or [""]
            yield Row(what, "", None, "", note=f"{type(error).__name__}: {lines[0][:200]}")


def kernel_kind(compiled_text: str) -> str:
    """Whether a compiled program holds a kernel written in Pallas."""
    targets = ("__gpu$xla.gpu.triton", "triton_kernel_call", "mosaic_gpu", "tpu_custom_call")
    return "a fused kernel" if any(t in compiled_text for t in targets) else "XLA's loop"
