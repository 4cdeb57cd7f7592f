"""A small MNIST-C made of noise: its arrays, a folder and an archive that hold them."""

import socket
from pathlib import Path

import pytest
from support.tiny_mnist_c import Arrays, make_arrays, write_archive, write_folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Makes a test that would download fail at once instead of after minutes."""

    def refuse(*_, **__):
        pytest.fail("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def arrays() -> Arrays:
    return make_arrays()


@pytest.fixture
def folder(tmp_path: Path, arrays: Arrays) -> Path:
    return write_folder(tmp_path / "unpacked", arrays)


@pytest.fixture
def archive(tmp_path: Path, arrays: Arrays) -> Path:
    return write_archive(tmp_path / "mnist_c.zip", arrays)
