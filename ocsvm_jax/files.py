"""Files that are written atomically, folders of one process, and what arrays hold."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a temporary file for writing, which replaces `path` when the block succeeds.

    Readers of `path` find either the old content or the new, never a part of it. If the block
    raises, the old content stays and nothing else is left behind.

    Raises:
      FileNotFoundError: if the folder does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        message = f"the folder {path.parent} does not exist; make it first, to write"
        raise FileNotFoundError(errno.ENOENT, message, str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any, *, indent: int | None = 1) -> None:
    """Writes JSON atomically, see `whole_file`."""
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=indent) + "\n").encode())


def write_json_lines(path: str | os.PathLike, entries: Iterable[Any]) -> None:
    """Writes one JSON value per line, all of them atomically."""
    with whole_file(path) as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in entries).encode())


@contextmanager
def sole_user(directory: Path) -> Iterator[None]:
    """Keeps other processes from writing into a directory.

    The operating system holds the lock, so a killed process leaves nothing behind. Without support
    for locks (Windows, some network file systems) no process is kept out.

    Args:
      directory: created if it does not exist; nothing is written into it.

    Raises:
      ValueError: if another process is using it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is at work in {directory}: wait until it has ended, or pass "
                "another workdir. Nothing was changed."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def sha256(*arrays: np.ndarray) -> str:
    """SHA-256 over values, shapes and dtypes of arrays; strings may be stored in any width."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
        digest.update(repr((plain.shape, plain.dtype.str)).encode())
        digest.update(np.ascontiguousarray(plain).data)  # no copy: cohorts may be large
    return digest.hexdigest()
