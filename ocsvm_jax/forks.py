"""Keeps processes made by `os.fork` from running JAX, in which they would hang.

The child of a process that has used JAX inherits its locks but none of its threads, so its first
JAX computation never returns. `multiprocessing` forks by default on Linux before Python 3.14, and
so do servers that load a model before they start their workers. Neither knows of JAX. Such a child
may still score in NumPy.
"""

import os
from pathlib import Path

_THREADS = Path("/proc/self/task")
# Whether this package has used JAX in this process. Other code may have too: see `_before_fork`.
_started = False
_unusable = False


def note_jax_in_use() -> None:
    """Notes that this process has used JAX."""
    global _started
    _started = True


def jax_is_unusable() -> bool:
    """Whether this process was forked from one in which JAX was running."""
    return _unusable


def refuse(what: str, but: str = "") -> None:
    """Raises RuntimeError in a process in which JAX would hang; `but` is appended to the text."""
    if _unusable:
        raise RuntimeError(
            f"{what} runs JAX, which hangs in a process forked from one that has used it. Start "
            'the process with multiprocessing.get_context("spawn") or "forkserver", or use '
            "joblib, whose default (loky) does not fork." + but
        )


def _before_fork() -> None:
    global _started
    _started = _started or _has_xla_threads()


def _has_xla_threads() -> bool:
    """Whether XLA's thread pool exists, whichever code started it; only known on Linux."""
    names = (path / "comm" for path in _THREADS.iterdir()) if _THREADS.is_dir() else ()
    return any(_name(path).startswith("tf_XLA") for path in names)


def _name(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread has ended in the meantime
        return ""


def _in_the_child() -> None:
    global _unusable
    _unusable = _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_the_child)
