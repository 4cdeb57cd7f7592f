"""Files that are written atomically."""

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


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
