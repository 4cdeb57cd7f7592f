"""The records of this package: a set of images, a dataset, and a source of images."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

IMAGE_SHAPE = (28, 28, 1)  # height, width, channels of every image of every source
SPLITS = ("train", "test")  # the two splits of every source


class ImageSet(NamedTuple):
    """Images with their classes and corruptions.

    Attributes:
      images: (n, 28, 28, 1) uint8, grey values 0 (black) to 255 (white).
      classes: (n,) int64 class labels of the source, such as the digit shown.
      corruption: (n,) strings, the name of the corruption applied to each image.
      anomalous: (n,) int8, 1 if the class is anomalous and 0 if it is normal.
      digit: (n,) int64, the row of its split that an image shows, such as the index of the digit
        in MNIST: one digit under several corruptions has one number. None if that is not known.
    """

    images: np.ndarray
    classes: np.ndarray
    corruption: np.ndarray
    anomalous: np.ndarray
    digit: np.ndarray | None = None


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
    """Labelled images under several corruptions, read in two steps: labels first, then images.

    Both functions take the name of a corruption and a split, "train" or "test". They raise
    FileNotFoundError or ValueError with a message for the user if the files cannot be used.

    Attributes:
      name: name of the source.
      origin: where its images come from, for messages.
      corruptions: names of the corruptions it has.
      labels: `labels(corruption, split)` returns the class labels, (n,) int64. It also checks
        everything about the images that can be checked without reading them.
      images: `images(corruption, split, rows)` returns the images of these rows, in this order,
        (len(rows), 28, 28, 1) uint8. `rows` is an increasing (m,) array of indices into `labels`.
    """

    name: str
    origin: str
    corruptions: tuple[str, ...]
    labels: Callable[[str, str], np.ndarray]
    images: Callable[[str, str, np.ndarray], np.ndarray]
