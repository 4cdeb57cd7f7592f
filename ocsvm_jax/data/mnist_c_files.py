"""MNIST-C in the layout of its authors, as a folder or as the archive they published.

Layout: `<corruption>/{train,test}_{images,labels}.npy`, images uint8 (n, 28, 28, 1), labels
integers (n,). In the archive `mnist_c.zip` these are below `mnist_c/`; it is read without
unpacking.
"""

import contextlib
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ocsvm_jax.data.base import IMAGE_SHAPE, SPLITS, Source

ARCHIVE = "mnist_c.zip"
URL = "https://zenodo.org/record/3239543/files/mnist_c.zip"
SIZE = 246_661_575  # bytes of the archive

HELP = (
    f"MNIST-C is the archive {ARCHIVE} ({SIZE:,} bytes) at {URL}. Pass its path, its "
    "folder, the folder it unpacks to, or a directory in which tensorflow-datasets prepared "
    "mnist_corrupted: load('mnist_c', dir=PATH), or --config.data.dir=PATH."
)
ARCHIVE_FOLDER = "mnist_c"  # also the name of the folder that unpacking creates
FILES = tuple(f"{split}_{kind}.npy" for split in SPLITS for kind in ("images", "labels"))

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Store(NamedTuple):
    """Named files, in a folder or in an archive.

    Attributes:
      origin: the folder or archive, for messages.
      names: all .npy files, as "<corruption>/<file>".
      open: opens a file for reading and returns its stream and its length in bytes.
      array: reads a .npy file, mapped into memory if possible.
    """

    origin: str
    names: tuple[str, ...]
    open: Callable[[str], AbstractContextManager[tuple[IO[bytes], int]]]
    array: Callable[[str], np.ndarray]


def holds_layout(folder: Path) -> bool:
    """Whether a folder contains at least one file of the layout."""
    return any(path.name in FILES for path in folder.glob("*/*.npy"))


def from_folder(folder: Path) -> Source:
    """The source in a folder of the layout.

    Raises:
      FileNotFoundError: if the folder contains no file of the layout.
    """

    @contextlib.contextmanager
    def open_file(name: str) -> Iterator[tuple[IO[bytes], int]]:
        with (folder / name).open("rb") as stream:
            yield stream, (folder / name).stat().st_size

    def array(name: str) -> np.ndarray:
        return np.load(folder / name, mmap_mode="r", allow_pickle=False)

    names = tuple(path.relative_to(folder).as_posix() for path in folder.glob("*/*.npy"))
    return _source(Store(f"folder {folder}", names, open_file, array))


def from_archive(path: Path) -> Source:
    """The source in the published archive, without unpacking it.

    Raises:
      ValueError: if the file is not a complete zip archive.
      FileNotFoundError: if the archive contains no file of the layout.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) is not a whole zip archive: {error}. If its "
            "download was cut short, download it again."
        ) from error

    @contextlib.contextmanager
    def open_member(name: str) -> Iterator[tuple[IO[bytes], int]]:
        member = f"{ARCHIVE_FOLDER}/{name}"
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            yield stream, archive.getinfo(member).file_size

    def array(name: str) -> np.ndarray:
        with open_member(name) as (stream, _):
            # Read to the end at once, since only then zipfile compares the checksum.
            return np.load(io.BytesIO(stream.read()), allow_pickle=False)

    prefix = f"{ARCHIVE_FOLDER}/"
    names = [m.removeprefix(prefix) for m in members if m.startswith(prefix) and m.endswith(".npy")]
    return _source(Store(f"archive {path}", tuple(names), open_member, array))


def _source(store: Store) -> Source:
    """The source in a store: checks the header of each file, then reads the rows asked for."""
    corruptions = {name.split("/")[0] for name in store.names if name.split("/")[-1] in FILES}
    if not corruptions:
        raise FileNotFoundError(
            f"{store.origin} holds no file <corruption>/{{train,test}}_{{images,labels}}.npy."
        )

    def labels(corruption: str, split: str) -> np.ndarray:
        images_name, labels_name = (f"{corruption}/{split}_{k}.npy" for k in ("images", "labels"))
        images_shape = _check(store, images_name, IMAGE_SHAPE, np.uint8)
        labels_shape = _check(store, labels_name, (), np.integer)
        if images_shape[0] != labels_shape[0]:
            raise ValueError(
                f"{images_name} has {images_shape[0]} images and {labels_name} "
                f"{labels_shape[0]} labels, in {store.origin}: the numbers must be equal."
            )
        return _read(store, labels_name).astype(np.int64)

    def images(corruption: str, split: str, rows: np.ndarray) -> np.ndarray:
        return _read(store, f"{corruption}/{split}_images.npy")[rows]

    return Source("mnist_c", store.origin, tuple(sorted(corruptions)), labels, images)


def _check(
    store: Store, name: str, item_shape: tuple[int, ...], kind: type[np.generic]
) -> tuple[int, ...]:
    """Checks the header and the length of a file, which is fast, and returns its shape.

    Args:
      store: the store that contains the file.
      name: the file.
      item_shape: the shape of one of its n items.
      kind: the NumPy type its values must have.
    """
    if name not in store.names:
        raise FileNotFoundError(f"{name} is missing in {store.origin}.")
    with _damage_reported(store, name), store.open(name) as (stream, size):
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"version {version} of the .npy format does not hold plain arrays")
        shape, _, dtype = _HEADER_READERS[version](stream)
        header = stream.tell()
    fits = shape == (*shape[:1], *item_shape) and np.issubdtype(dtype, kind)
    if not (shape and fits):
        wanted = ", ".join(map(str, ("n", *item_shape)))
        raise ValueError(
            f"{name} in {store.origin} is {dtype} of shape {shape}; it must be {kind.__name__} of "
            f"shape ({wanted})."
        )
    expected = header + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise ValueError(
            f"{name} in {store.origin} has {size:,} bytes where its header announces "
            f"{expected:,}: it is truncated or overwritten. Copy or download it again."
        )
    return shape


def _read(store: Store, name: str) -> np.ndarray:
    with _damage_reported(store, name):
        return store.array(name)


@contextlib.contextmanager
def _damage_reported(store: Store, name: str) -> Iterator[None]:
    """Turns the exceptions of NumPy, zipfile and zlib for damaged files into one message."""
    try:
        yield
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{name} in {store.origin} cannot be read: {error}. Copy or download it again."
        ) from error
