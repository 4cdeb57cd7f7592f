"""What the callbacks of long runs over a path are told."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class GridProgress(NamedTuple):
    """One more part of the work is done; `callback=print` shows it as a sentence.

    Attributes:
      done: how many parts are done.
      total: how many there are, of about the same size.
      seconds: time since they began, compilation not counted where it could be kept apart.
      seconds_left: about how long the others will take.
      result: what the last part found, in words.
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
    """Counts the parts and tells the callback, if there is one."""

    def __init__(self, total: int, callback: Callable[[GridProgress], Any] | None) -> None:
        self._total, self._callback = total, callback
        self._done, self._began = 0, time.monotonic()

    def tell(self, result: str, left: int | None = None) -> None:
        """One more part is done, and so many are left, if it is known that not all others are."""
        self._done += 1
        if left is not None:
            self._total = self._done + left
        seconds = time.monotonic() - self._began
        seconds_left = seconds / self._done * (self._total - self._done)
        if self._callback is not None:
            told = GridProgress(self._done, self._total, seconds, seconds_left, result)
            self._callback(told)
