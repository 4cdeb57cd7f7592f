"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file opened for writing beside `path`, which takes its place when the block succeeds.

    Anyone who reads `path` finds the old content or the new one, never a part; a block that raises
    leaves the old content and nothing else.

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
