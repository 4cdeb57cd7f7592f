"""Progress reports for the callbacks of long runs over a path."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class GridProgress(NamedTuple):
    """Progress after a part of the work; `callback=print` shows it as a sentence.

    Attributes:
      done: number of parts that are done.
      total: number of all parts, which take about equally long.
      seconds: time since the first part began, without compilation if it could be separated.
      seconds_left: estimated time for the remaining parts.
      result: result of the last part, in words.
    """

    done: int
    total: int
    seconds: float
    seconds_left: float
    result: str

    def __str__(self) -> str:
        return (
            f"{self.done} of {self.total} in {self.seconds:.1f} s, "
            f"about {self.seconds_left:.1f} s left: {self.result}"
        )


class Clock:
    """Counts parts of the work and reports them to the callback, if there is one."""

    def __init__(self, total: int, callback: Callable[[GridProgress], Any] | None) -> None:
        self._total, self._callback = total, callback
        self._done, self._began = 0, time.monotonic()

    def tell(self, result: str, left: int | None = None) -> None:
        """Reports that one more part is done.

        Args:
          result: its result, in words.
          left: number of parts left, if it differs from the number planned.
        """
        self._done += 1
        if left is not None:
            self._total = self._done + left
        seconds = time.monotonic() - self._began
        seconds_left = seconds / self._done * (self._total - self._done)
        if self._callback is not None:
            told = GridProgress(self._done, self._total, seconds, seconds_left, result)
            self._callback(told)
