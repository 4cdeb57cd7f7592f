"""The records of this package: a set of images, a dataset, and a source of images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels of every image of every source
SPLITS = ("train", "test")  # the two parts into which every source divides its digits


class ImageSet(NamedTuple):
    """Images and what is known of each.

    Attributes:
      images: (n, 28, 28, 1) uint8, grey values 0 (black) to 255 (white).
      classes: (n,) int64, the class label of the source, such as the digit shown.
      corruption: (n,) strings, the name of the corruption the image went through.
      anomalous: (n,) int8, 1 where the class is one of the anomalies and 0 where it is normal.
    """

    images: np.ndarray
    classes: np.ndarray
    corruption: np.ndarray
    anomalous: np.ndarray


class Dataset(NamedTuple):
    """One task of unsupervised anomaly detection.

    Attributes:
      name: name of the source, as given to `ocsvm_jax.data.load`.
      train: normal images only.
      valid: normal and anomalous images, on which hyperparameters are chosen.
      test: normal and anomalous images, on which results are reported.
    """

    name: str
    train: ImageSet
    valid: ImageSet
    test: ImageSet


class Source(NamedTuple):
    """Labelled images under several corruptions, read in two steps, the cheap one first.

    Both functions take the name of a corruption and a split, "train" or "test", and raise
    FileNotFoundError or ValueError with a message for the user if what they find is unusable.

    Attributes:
      name: name of the source.
      origin: where its images come from, for messages.
      corruptions: the names of the corruptions it holds.
      labels: `labels(corruption, split)` gives the class labels, (n,) int64. It also checks
        whatever can be checked of the images without reading them.
      images: `images(corruption, split, rows)` gives the images of these rows, in this order,
        (len(rows), 28, 28, 1) uint8. `rows` is an increasing (m,) array of indices into
        `labels`.
    """

    name: str
    origin: str
    corruptions: tuple[str, ...]
    labels: Callable[[str, str], np.ndarray]
    images: Callable[[str, str, np.ndarray], np.ndarray]
