"""What a child made by `os.fork` may do: score in NumPy, but run no JAX.

The child of a process whose JAX has started inherits its locks and none of its threads: its first
JAX computation never comes back. `multiprocessing` forks by default on Linux below Python 3.14,
servers that load a model before they make their workers fork, and neither knows of JAX.
"""

import os
from pathlib import Path

_THREADS = Path("/proc/self/task")
# Whether the package has used JAX in this process; other code may have: see `_before_fork`.
_started = False
_unusable = False


def note_jax_in_use() -> None:
    """Says that JAX runs in this process from now on."""
    global _started
    _started = True


def jax_is_unusable() -> bool:
    """Whether this process was forked from one in which JAX was running."""
    return _unusable


def refuse(what: str, but: str = "") -> None:
    """Raises RuntimeError in a process in which JAX would never come back; `but` ends its text."""
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
    """Whether XLA's thread pool exists, whoever started it; found on Linux alone."""
    names = (path / "comm" for path in _THREADS.iterdir()) if _THREADS.is_dir() else ()
    return any(_name(path).startswith("tf_XLA") for path in names)


def _name(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread has ended meanwhile
        return ""


def _in_the_child() -> None:
    global _unusable
    _unusable = _started


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_the_child)
