"""MNIST-C through tensorflow-datasets, without TensorFlow.

The stock builder `mnist_corrupted` calls TensorFlow to unpack the archive, to open its files and to
encode images, but not to read prepared data. The builder here replaces these three steps. The data
that it prepares can be read with `tfds.data_source("mnist_corrupted/<corruption>")`.

Importing this module imports tensorflow_datasets, which takes seconds: import it only where needed.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from ocsvm_jax import extras
from ocsvm_jax.data import mnist_c_files
from ocsvm_jax.data.base import SPLITS, Source

with extras.needed_by(__name__, "train"):
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.image_classification import MNISTCorrupted

NAME = "mnist_corrupted"


class ArchiveBuilder(MNISTCorrupted, skip_registration=True):
    """The stock builder, except that it reads the archive with zipfile and NumPy.

    Construct it with `file_format="array_record"`, which can be read without TensorFlow. Examples
    keep the order of the archive; the stock builder shuffles them, in the same way for each
    corruption.
    """

    name = NAME
    # The checksum of the archive, which tfds would look for next to the file of this class.
    url_infos = MNISTCorrupted.url_infos

    def _info(self) -> tfds.core.DatasetInfo:
        stock = super()._info()
        return tfds.core.DatasetInfo(
            builder=self,
            description=stock.description,
            features=stock.features,
            supervised_keys=stock.supervised_keys,
            homepage=stock.homepage,
            citation=stock.citation,
            disable_shuffling=True,
        )

    # tfds leaves the next two signatures to each builder; pyright compares them with the stock.

    def _split_generators(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, dl_manager: Any
    ) -> dict[str, Iterator]:
        try:
            path = dl_manager.download(mnist_c_files.URL)
        except Exception as error:  # downloads fail in many ways
            raise FileNotFoundError(
                "tensorflow-datasets has not prepared MNIST-C yet, and its download failed: "
                f"{error!r}. {mnist_c_files.HELP}"
            ) from error
        archive = mnist_c_files.from_archive(Path(path))
        return {split: self._generate_examples(archive, split) for split in SPLITS}

    def _generate_examples(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, archive: Source, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        corruption = cast(str, self.builder_config_name)
        labels = archive.labels(corruption, split)
        images = archive.images(corruption, split, np.arange(len(labels)))
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            # tfds encodes a PIL image, unlike an array, as PNG without TensorFlow.
            yield i, {"image": Image.fromarray(image[:, :, 0]), "label": int(label)}


def prepared(data_dir: Path) -> Source:
    """The source in a directory of tensorflow-datasets, with the corruptions prepared there.

    Args:
      data_dir: the directory that contains the folder `mnist_corrupted`.

    Raises:
      FileNotFoundError: if no corruption is prepared there.
    """
    here = {path.parts[-3] for path in (data_dir / NAME).glob("*/*/dataset_info.json")}
    if not here:
        raise FileNotFoundError(
            f"no corruption is prepared in {data_dir / NAME}. {mnist_c_files.HELP}"
        )
    return _source(str(data_dir), sorted(here), on_demand=False)


def downloaded(data_dir: str | None = None) -> Source:
    """The source in a directory of tensorflow-datasets, prepared on demand.

    A missing corruption is prepared when its labels are first asked for; the first time this
    downloads the archive.

    Args:
      data_dir: None for the default directory of tensorflow-datasets.
    """
    return _source(data_dir, [config.name for config in MNISTCorrupted.BUILDER_CONFIGS])


def _source(data_dir: str | None, corruptions: list[str], on_demand: bool = True) -> Source:
    origin = f"tensorflow-datasets ({data_dir or 'default directory'})"

    @functools.cache
    def data_source(corruption: str, split: str, decoded: bool) -> Any:
        """One split as a sequence of dicts, with images decoded or as PNG bytes."""
        if on_demand:
            _prepare(corruption, data_dir)
        try:
            return tfds.data_source(
                f"{NAME}/{corruption}",
                split=split,
                data_dir=data_dir,
                download=False,
                decoders=None if decoded else {"image": tfds.decode.SkipDecoding()},
            )
        except NotImplementedError as error:
            raise ValueError(
                f"{corruption!r} in {origin} was prepared in a format that needs TensorFlow. "
                f"Prepare it with file_format='array_record', or pass the archive. "
                f"{mnist_c_files.HELP}"
            ) from error

    @functools.cache
    def labels(corruption: str, split: str) -> np.ndarray:
        examples = data_source(corruption, split, decoded=False)
        return np.array([example["label"] for example in examples], np.int64)

    def images(corruption: str, split: str, rows: np.ndarray) -> np.ndarray:
        examples = data_source(corruption, split, decoded=True).__getitems__(rows.tolist())
        return np.stack([example["image"] for example in examples])

    return Source("mnist_c", origin, tuple(corruptions), labels, images)


def _prepare(corruption: str, data_dir: str | None) -> None:
    if tfds.builder(f"{NAME}/{corruption}", data_dir=data_dir).is_prepared():
        return
    builder = ArchiveBuilder(config=corruption, data_dir=data_dir, file_format="array_record")
    # The prepared copies that Google once hosted are in a format that needs TensorFlow.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
