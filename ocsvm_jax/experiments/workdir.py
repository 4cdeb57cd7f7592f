"""A working directory over several calls: one process at a time, the same data, nothing lost."""

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ocsvm_jax.data import Dataset, ImageSet
from ocsvm_jax.files import whole_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_IMAGES_FILE = "images.json"  # digests of all images that the runs of a directory have seen


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


def check_nothing_lost(results: Path, lost: Collection[str], ask: str) -> None:
    """Raises ValueError if a new report would drop something that the one there holds.

    Args:
      results: the file of the results there.
      lost: what they hold and this call leaves out, in words.
      ask: the options that ask for it.
    """
    if lost:
        raise ValueError(
            f"{results} holds what this call leaves out, and its report would lose: "
            f"{'; '.join(lost)}. Ask for it too ({ask}), or pass another --workdir. Nothing was "
            "changed."
        )


def sha256(*arrays: np.ndarray) -> str:
    """Of the values, shapes and types of arrays; strings may be stored in any width."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array
        digest.update(repr((plain.shape, plain.dtype.str)).encode())
        digest.update(np.ascontiguousarray(plain).data)  # no copy: cohorts may be large
    return digest.hexdigest()


def image_digests(train: ImageSet, sets: Mapping[str, Dataset]) -> dict[str, str]:
    """A digest of the training images, and of validation and test images of each protocol."""
    parts = {"training": train}
    for name, found in sets.items():
        parts |= {f"{name}, validation": found.valid, f"{name}, test": found.test}
    return {name: sha256(*images) for name, images in parts.items()}


def check_images(workdir: Path, images: Mapping[str, str]) -> None:
    """Compares the images with those that the runs in `workdir` were made of; changes nothing.

    Args:
      workdir: one that says nothing of its images is of any.
      images: what `image_digests` returns.

    Raises:
      ValueError: if they are others; the message says which part.
    """
    path = workdir / _IMAGES_FILE
    before = json.loads(path.read_text()) if path.exists() else images
    changed = [name for name, found in images.items() if before.get(name, found) != found]
    if changed:
        raise ValueError(
            f"the images are not those that the runs in {workdir} have seen; changed: "
            f"{'; '.join(changed)}. Pass another --workdir, or bring the images back. Nothing was "
            "changed."
        )


def note_images(workdir: Path, images: Mapping[str, str]) -> None:
    """Writes down what `check_images` compares later calls with."""
    with whole_file(workdir / _IMAGES_FILE) as file:
        file.write((json.dumps(images, indent=1) + "\n").encode())
