"""A small MNIST-C made of noise, and the two forms in which it is distributed."""

import io
import zipfile
from pathlib import Path

import numpy as np

from ocsvm_jax.data import Dataset

CORRUPTIONS = ("identity", "motion_blur", "translate", "stripe", "canny_edges", "brightness")
COUNTS = {"train": 60, "test": 30}  # in runs of ten, each with every digit once

Arrays = dict[str, np.ndarray]  # "<corruption>/<split>_<kind>.npy" -> content


def make_arrays() -> Arrays:
    rng = np.random.default_rng(0)
    content = {}
    for split, count in COUNTS.items():
        labels = rng.permuted(np.arange(count).reshape(-1, 10), axis=1).ravel() % 10
        for corruption in CORRUPTIONS:
            shape = (count, 28, 28, 1)
            content[f"{corruption}/{split}_images.npy"] = rng.integers(0, 256, shape, np.uint8)
            content[f"{corruption}/{split}_labels.npy"] = labels
    return content


def write_folder(folder: Path, arrays: Arrays) -> Path:
    for name, array in arrays.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, array)
    return folder


def write_archive(path: Path, arrays: Arrays) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array)
            archive.writestr(f"mnist_c/{name}", stream.getvalue())
    return path


def assert_same(one: Dataset, other: Dataset) -> None:
    for part, twin in zip(one[1:], other[1:], strict=True):
        for field, same in zip(part, twin, strict=True):
            assert field.dtype == same.dtype
            np.testing.assert_array_equal(field, same)
