import zipfile

import numpy as np
import pytest

from ocsvm_jax.data.own_images import read_images


def images(n):
    return np.random.default_rng(0).integers(0, 256, (n, 28, 28, 1)).astype(np.uint8)


def read(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    return read_images(tmp_path / "x.npy")


def test_read_images(tmp_path):
    some = images(5)
    np.testing.assert_array_equal(read(tmp_path, some), some)
    np.testing.assert_array_equal(read(tmp_path, some[..., 0]), some)
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(read(tmp_path, (some / 255).astype(dtype)), some)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((3, 28, 27), np.uint8),
            r"holds shape \(3, 28, 27, 1\); images are \(n, 28, 28\)",
        ),
        (np.zeros((28, 28), np.uint8), r"holds shape \(28, 28\)"),
        (np.zeros((0, 28, 28), np.uint8), "with n >= 1"),
        (np.zeros((), np.uint8), r"holds shape \(\)"),
        (np.zeros((2, 28, 28, 3)), r"holds shape \(2, 28, 28, 3\)"),
        (np.zeros((2, 28, 28), np.int64), r"holds int64; images are uint8 0..255 or float in"),
        (np.full((2, 28, 28), np.nan), "holds floats from nan to nan"),
        (np.full((2, 28, 28), 200.0), "from 200.0 to 200.0; .* Divide by 255"),
        (np.full((2, 28, 28), -0.1), "they must lie in"),
        (np.full((2, 28, 28), "x"), "holds <U1"),
        (np.array([{}], dtype=object), "allow_pickle=False"),
    ],
)
def test_read_images_refuses(tmp_path, array, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, array)


def test_read_images_from_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_images(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", images(2))
    with pytest.raises(ValueError, match="archive of several arrays"):
        read_images(tmp_path / "x.npz")
    content = (tmp_path / "x.npz").read_bytes()
    for name, damaged in (("half", content[:300]), ("empty", b""), ("text", b"hello")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot be read as a \.npy array"):
            read_images(tmp_path / name)
    with pytest.raises(ValueError, match=r"cannot be read as a \.npy array"):
        read_images(tmp_path)
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(ValueError, match="archive of several arrays"):
        read_images(tmp_path / "zip")
