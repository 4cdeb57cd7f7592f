"""Files that appear whole or not at all, and directories that one process works in."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file opened for writing beside `path`, which takes its place when the block succeeds.

    Whoever reads `path` finds the old content or the new one, never a part; a block that raises
    leaves the old content and nothing else.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def sole_user(directory: Path) -> Iterator[None]:
    """Keeps other processes out of a directory that all of them would write into.

    Held by the operating system, so a killed process leaves nothing behind. Where locks are not to
    be had (Windows, some network file systems) nobody is kept out.

    Args:
      directory: made where it is missing; nothing is written into it.

    Raises:
      ValueError: if another process is in there.
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
                "another --workdir. Nothing was changed."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
