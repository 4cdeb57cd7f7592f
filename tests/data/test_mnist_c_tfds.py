"""From the archive through tensorflow-datasets and back, without TensorFlow or a network."""

import importlib
import sys

import pytest
from support.tiny_mnist_c import assert_same

from ocsvm_jax.data import load, mnist_c_files


@pytest.fixture(scope="module")
def mnist_c_tfds():
    """The module under test, which imports tensorflow-datasets: only where a test of it runs."""
    return importlib.import_module("ocsvm_jax.data.mnist_c_tfds")


@pytest.fixture
def downloads(monkeypatch, archive, mnist_c_tfds):
    """Hands the small archive to whoever asks for a download, and records what was asked for."""
    asked = []

    def download(self, url):
        asked.append(url)
        return archive

    monkeypatch.setattr(mnist_c_tfds.tfds.download.DownloadManager, "download", download)
    return asked


@pytest.fixture
def default_dir(monkeypatch, tmp_path, mnist_c_tfds):
    """Puts the default directory of tensorflow-datasets under a temporary one."""
    directory = tmp_path / "tfds"
    downloaded = mnist_c_tfds.downloaded
    monkeypatch.setattr(mnist_c_tfds, "downloaded", lambda: downloaded(str(directory)))
    return directory


@pytest.mark.parametrize("protocol", ["paper", "leak_free"])
def test_preparing_and_reading_gives_the_archive_back(downloads, default_dir, folder, protocol):
    direct = load("mnist_c", dir=str(folder), protocol=protocol)
    assert_same(load("mnist_c", protocol=protocol), direct)
    assert set(downloads) == {mnist_c_files.URL}

    # What was prepared serves a second time, by default and by name, without a download.
    downloads.clear()
    assert_same(load("mnist_c", protocol=protocol), direct)
    assert_same(load("mnist_c", dir=str(default_dir), protocol=protocol), direct)
    assert not downloads
    assert "tensorflow" not in sys.modules


def test_only_the_corruptions_asked_for_are_prepared(downloads, default_dir):
    chosen = {"train_corruptions": ("stripe",), "test_corruptions": ("identity",)}
    load("mnist_c", **chosen)
    prepared = {info.parts[-3] for info in default_dir.rglob("dataset_info.json")}
    assert prepared == {"stripe", "identity"}
    assert len(downloads) == 2  # tensorflow-datasets serves the second from its cache

    # A directory given by name is read as it is: nothing is downloaded into it.
    with pytest.raises(ValueError, match=r"'translate'.*Available: identity, stripe\."):
        load("mnist_c", dir=str(default_dir), train_corruptions=("translate",))
    with pytest.raises(ValueError, match=r"'nosuch'.*shot_noise.*canny_edges"):
        load("mnist_c", train_corruptions=("nosuch",))
    assert len(downloads) == 2


def test_a_failed_download_says_what_to_do(monkeypatch, default_dir, mnist_c_tfds):
    def download(self, url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(mnist_c_tfds.tfds.download.DownloadManager, "download", download)
    message = r"not prepared.*download failed.*no route to host.*--config\.data\.dir=PATH"
    with pytest.raises(FileNotFoundError, match=message):
        load("mnist_c")


def test_an_empty_directory_of_the_dataset(tmp_path):
    (tmp_path / "mnist_corrupted").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no corruption is prepared in .*mnist_corrupted"):
        load("mnist_c", dir=str(tmp_path))


@pytest.mark.parametrize("by_name", [True, False])
def test_a_format_that_needs_tensorflow_is_refused(downloads, default_dir, by_name):
    load("mnist_c")
    for info in default_dir.rglob("dataset_info.json"):
        info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=r"'identity' in .* was prepared in a format that needs"):
        load("mnist_c", dir=str(default_dir) if by_name else "")


def test_the_download_is_checked_against_the_published_size_and_checksum(tmp_path, mnist_c_tfds):
    builder = mnist_c_tfds.ArchiveBuilder(
        config="identity", data_dir=tmp_path, file_format="array_record"
    )
    expected = builder.url_infos[mnist_c_files.URL]
    assert expected.size == mnist_c_files.SIZE
    assert len(expected.checksum) == 64
