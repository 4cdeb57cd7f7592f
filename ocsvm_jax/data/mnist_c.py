"""Source `mnist_c`: MNIST under 15 corruptions and the identity, in any of several layouts.

Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer Vision", arXiv 1906.02337.
"""

from pathlib import Path

from ocsvm_jax.data import mnist_c_files
from ocsvm_jax.data.base import Source


def source(dir: str = "") -> Source:
    """Finds MNIST-C and returns it as a source.

    Args:
      dir: a folder in the layout of `mnist_c_files` or the folder above it, the archive or the
        folder that contains it, or a directory prepared by tensorflow-datasets, tried in this
        order. If empty, the default directory of tensorflow-datasets, into which the archive is
        downloaded when a corruption is first asked for.

    Raises:
      FileNotFoundError: if MNIST-C is not found; the message says what to pass.
      ValueError: if it is found but damaged.
    """
    # tensorflow_datasets takes seconds to import and is imported only where it is needed.
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
