"""Source `mnist_c`: MNIST under 15 corruptions and the identity, wherever the user keeps it.

Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", arXiv 1906.02337.
"""

from pathlib import Path

from ocsvm_jax.data import mnist_c_files
from ocsvm_jax.data.base import Source


def source(dir: str = "") -> Source:
    """Finds MNIST-C and returns it as a source.

    Args:
      dir: a folder in the layout of `mnist_c_files` or the one above it, the archive or the
        folder it lies in, or a directory prepared by tensorflow-datasets; they are tried in
        this order. Empty: the default directory of tensorflow-datasets, into which the archive
        is downloaded when a corruption is first asked for.

    Raises:
      FileNotFoundError: if it is not there; the message says what to pass.
      ValueError: if it is there and damaged.
    """
    # Here and not at the top: importing tensorflow_datasets takes seconds, and files need none.
    if not dir:
        from ocsvm_jax.data import mnist_c_tfds

        return mnist_c_tfds.downloaded()

    path = Path(dir).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"dir={dir!r} does not exist. {mnist_c_files.HELP}")
    if path.is_file():
        return mnist_c_files.from_archive(path)
    for folder in (path, path / mnist_c_files.ARCHIVE_FOLDER):
        if mnist_c_files.holds_layout(folder):
            return mnist_c_files.from_folder(folder)
    if (path / mnist_c_files.ARCHIVE).is_file():
        return mnist_c_files.from_archive(path / mnist_c_files.ARCHIVE)
    if (path / "mnist_corrupted").is_dir():
        from ocsvm_jax.data import mnist_c_tfds

        return mnist_c_tfds.prepared(path)
    held = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(
        f"MNIST-C is not in dir={dir!r}, which holds {held}. {mnist_c_files.HELP}"
    )
