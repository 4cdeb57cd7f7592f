"""The layout of MNIST-C in a folder and in the archive, and every way in which it can be broken."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.tiny_mnist_c import CORRUPTIONS, assert_same, write_archive, write_folder

from ocsvm_jax.data import load, mnist_c_files

REAL = Path(__file__).parents[3] / "shared" / "data" / "mnist_c"


def places(folder: Path, archive: Path) -> list[Path]:
    """Every form of `dir` that leads to the same images."""
    above = folder.parent / "above"
    above.mkdir()
    (above / "mnist_c").symlink_to(folder, target_is_directory=True)
    return [folder, above, archive, archive.parent]


def test_every_place_gives_the_images_that_were_written(folder, archive, arrays):
    for place in places(folder, archive):
        data = load("mnist_c", dir=str(place))
        assert len(data.train.images) == 3 * 6
        for corruption in ("stripe", "canny_edges", "brightness"):
            labels = arrays[f"{corruption}/train_labels.npy"]
            rows = np.flatnonzero((labels == 3) | (labels == 8))
            mine = data.test.corruption == corruption
            images = arrays[f"{corruption}/train_images.npy"][rows]
            np.testing.assert_array_equal(data.test.images[mine], images)
            np.testing.assert_array_equal(data.test.classes[mine], labels[rows])


def test_images_are_copies_that_can_be_written(folder):
    data = load("mnist_c", dir=str(folder))
    data.train.images[:] = 0
    assert load("mnist_c", dir=str(folder)).train.images.any()


def test_arrays_in_fortran_order_and_small_integer_labels(tmp_path, folder, arrays):
    other = {
        name: np.asfortranarray(a) if a.ndim > 1 else a.astype(np.uint8)
        for name, a in arrays.items()
    }
    again = write_folder(tmp_path / "fortran", other)
    assert_same(load("mnist_c", dir=str(again)), load("mnist_c", dir=str(folder)))


def test_other_classes_and_corruptions(folder, arrays):
    labels = arrays["stripe/test_labels.npy"]
    first, second = (np.isin(half, (0, 1, 2, 9)) for half in (labels[:15], labels[15:]))
    data = load(
        "mnist_c",
        dir=str(folder),
        normal=[0, 1],
        anomalies=[2, 9],
        train_corruptions=["stripe"],
        test_corruptions=["stripe", "identity"],
        protocol="leak_free",
    )
    # 30 test images, under two corruptions: validation has those of the first 15.
    assert [len(part.images) for part in data[1:]] == [12, 2 * first.sum(), 2 * second.sum()]


def test_a_source_may_hold_few_corruptions(tmp_path, arrays):
    few = {n: a for n, a in arrays.items() if n.startswith(("identity/", "stripe/"))}
    folder = write_folder(tmp_path / "few", few)
    chosen = {"train_corruptions": ("identity",), "test_corruptions": ("stripe",)}
    assert len(load("mnist_c", dir=str(folder), **chosen).train.images) == 6
    with pytest.raises(ValueError, match=r"'motion_blur'\. Available: identity, stripe\."):
        load("mnist_c", dir=str(folder))


def truncate(path: Path, count: int) -> None:
    os.truncate(path, path.stat().st_size - count)


def replace(array: np.ndarray):
    return lambda path: np.save(path, array, allow_pickle=True)


IMAGES = "stripe/test_images.npy"
LABELS = "stripe/test_labels.npy"


@pytest.mark.parametrize(
    ("name", "damage", "error", "message"),
    [
        (IMAGES, lambda p: p.unlink(), FileNotFoundError, "is missing in"),
        (LABELS, lambda p: p.unlink(), FileNotFoundError, "is missing in"),
        (IMAGES, lambda p: truncate(p, 1), ValueError, "its header announces"),
        (IMAGES, lambda p: p.write_bytes(b""), ValueError, "cannot be read"),
        (LABELS, lambda p: truncate(p, 8), ValueError, "its header announces"),
        (LABELS, lambda p: p.write_bytes(b"<html>not found</html>"), ValueError, "cannot be read"),
        (LABELS, lambda p: os.truncate(p, 30), ValueError, "cannot be read"),
        (IMAGES, replace(np.zeros((30, 28, 28), np.uint8)), ValueError, r"\(n, 28, 28, 1\)"),
        (IMAGES, replace(np.zeros((30, 32, 32, 1), np.uint8)), ValueError, r"\(30, 32, 32, 1\)"),
        (IMAGES, replace(np.zeros((30, 28, 28, 1))), ValueError, "float64.*must be uint8"),
        (IMAGES, replace(np.zeros((29, 28, 28, 1), np.uint8)), ValueError, "29 images.*30 labels"),
        (LABELS, replace(np.zeros((30, 1), int)), ValueError, r"\(30, 1\); it must be integer"),
        (LABELS, replace(np.zeros(())), ValueError, r"float64 of shape \(\)"),
        (LABELS, replace(np.zeros(30)), ValueError, "float64.*must be integer"),
        (LABELS, replace(np.array([None] * 30)), ValueError, "object.*must be integer"),
    ],
)
def test_a_damaged_file_is_named(folder, name, damage, error, message):
    damage(folder / name)
    with pytest.raises(error, match=f"{name}.*{message}"):
        load("mnist_c", dir=str(folder))


def test_the_archive_is_checked_like_the_folder(tmp_path, arrays):
    arrays["stripe/test_images.npy"] = arrays["stripe/test_images.npy"][:-1]
    del arrays["identity/train_labels.npy"]
    archive = write_archive(tmp_path / "mnist_c.zip", arrays)
    with pytest.raises(FileNotFoundError, match=r"identity/train_labels.npy is missing in archive"):
        load("mnist_c", dir=str(archive))
    with pytest.raises(ValueError, match=r"29 images.*30 labels"):
        load("mnist_c", dir=str(archive), train_corruptions=("stripe",))


def test_a_truncated_archive(archive):
    truncate(archive, 1000)
    with pytest.raises(ValueError, match=r"is not a whole zip archive.*download it again"):
        load("mnist_c", dir=str(archive))


def test_a_damaged_archive(archive):
    content = bytearray(archive.read_bytes())
    # Noise does not compress: byte 20,000 lies within the images of the first member.
    content[20_000:20_004] = bytes(4)
    archive.write_bytes(content)
    with pytest.raises(ValueError, match=r"identity/train_images.npy .* cannot be read"):
        load("mnist_c", dir=str(archive))


def test_an_archive_of_something_else(tmp_path):
    archive = write_archive(tmp_path / "other.zip", {"readme.npy": np.zeros(3)})
    with pytest.raises(FileNotFoundError, match="holds no file <corruption>"):
        load("mnist_c", dir=str(archive))


@pytest.mark.parametrize("content", [[], ["notes.txt", "stripes"]])
def test_a_place_without_mnist_c(tmp_path, content):
    for name in content:
        (tmp_path / name).touch()
    held = ", ".join(content) or "nothing"
    message = f"holds {held}.*mnist_c.zip.*246,661,575 bytes.*zenodo.*--config.data.dir=PATH"
    with pytest.raises(FileNotFoundError, match=message):
        load("mnist_c", dir=str(tmp_path))


def test_a_place_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dir='.*nowhere' does not exist.*mnist_c\.zip"):
        load("mnist_c", dir=str(tmp_path / "nowhere"))


def test_an_unknown_source():
    with pytest.raises(ValueError, match=r"'mnistc'. Did you mean 'mnist_c'\?.*digits, mnist_c"):
        load("mnistc")


def test_a_folder_lists_the_corruptions_it_holds(folder):
    assert mnist_c_files.from_folder(folder).corruptions == tuple(sorted(CORRUPTIONS))


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"tensorflow", "tensorflow_datasets", "sklearn", "skimage", "PIL"}
    code = f"import sys, ocsvm_jax.data; print(sorted({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="no copy of MNIST-C in shared/data beside the repository"
)


@needs_real
def test_the_counts_of_the_paper():
    start = time.perf_counter()
    data = load("mnist_c", dir=str(REAL))
    assert time.perf_counter() - start < 5
    assert [len(part.images) for part in data[1:]] == [18_393, 5_952, 35_946]
    assert [int(part.anomalous.sum()) for part in data[1:]] == [0, 3 * 974, 3 * 5851]


@needs_real
def test_no_digit_is_on_both_sides_of_the_leak_free_protocol():
    chosen = {"train_corruptions": ("identity",), "test_corruptions": ("identity",)}
    data = load("mnist_c", dir=str(REAL), protocol="leak_free", **chosen)
    train, valid, test = ({image.tobytes() for image in part.images} for part in data[1:])
    assert len(valid) + len(test) == 1010 + 974
    assert abs(len(valid) - len(test)) < 30
    assert not train & valid and not train & test and not valid & test
