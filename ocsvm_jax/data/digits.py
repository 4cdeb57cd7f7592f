"""Source `digits`: the handwritten digits that come with scikit-learn, for runs without a download.

The source has 1,797 digits of 8 x 8 pixels (UCI, Alpaydin and Kaynak 1998), enlarged to the size of
MNIST and corrupted by `ocsvm_jax.data.corruptions`. It is smaller and easier than MNIST-C: results
on it show that a pipeline works, not how good a method is.
"""

import functools

import numpy as np
from scipy import ndimage

from ocsvm_jax import extras
from ocsvm_jax.data.base import IMAGE_SHAPE, SPLITS, Source
from ocsvm_jax.data.corruptions import CORRUPTIONS

with extras.needed_by(__name__, "train"):
    from sklearn import datasets

SMALL = 8  # pixels along each side of an original
SCALE = 3  # 8 pixels become 24
TRAIN_PERCENT = 70


def source(dir: str = "") -> Source:
    """Returns the source; nothing is computed until its functions are called.

    Args:
      dir: must be empty, since the images come with scikit-learn.

    Raises:
      ValueError: if a directory is given.
    """
    if dir:
        raise ValueError(
            f"source 'digits' comes with scikit-learn and reads no directory, got dir={dir!r}: "
            "leave dir empty, or load 'mnist_c' from it."
        )
    return Source(
        name="digits",
        origin="source 'digits'",
        corruptions=tuple(CORRUPTIONS),
        labels=lambda corruption, split: _clean(split)[1],
        images=lambda corruption, split, rows: _corrupted(corruption, split)[rows],
    )


@functools.cache
def _corrupted(corruption: str, split: str) -> np.ndarray:
    """All images of a split under one corruption, (n, 28, 28, 1) uint8, read-only.

    The random stream is seeded with the names of the corruption and the split, and the whole split
    is corrupted whatever rows are asked for, so an image never depends on what else is loaded.
    """
    rng = np.random.default_rng(list(f"{corruption}/{split}".encode()))
    images = CORRUPTIONS[corruption](_clean(split)[0], rng)
    grey = np.round(images * 255).astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
    grey.setflags(write=False)
    return grey


@functools.cache
def _clean(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a split and their labels: (n, 28, 28) float64 in [0, 1] and (n,) int64.

    The first 70% of each class are the training split. The file is ordered by writer, so that most
    writers are in one split only.
    """
    small, labels = datasets.load_digits(return_X_y=True)
    position = np.zeros(len(labels), int)
    for c in np.unique(labels):
        position[labels == c] = np.arange(np.sum(labels == c))
    trains = 100 * position < TRAIN_PERCENT * np.bincount(labels)[labels]
    chosen = trains if split == SPLITS[0] else ~trains

    small = small[chosen].reshape(-1, SMALL, SMALL) / 16
    images = np.zeros((len(small), *IMAGE_SHAPE[:2]))
    margin = (IMAGE_SHAPE[0] - SCALE * SMALL) // 2
    inside = images[:, margin:-margin, margin:-margin]
    zoom = (1, SCALE, SCALE)
    ndimage.zoom(small, zoom, output=inside, order=3, mode="grid-constant", grid_mode=True)
    # Cubic splines overshoot near strokes.
    np.clip(images, 0, 1, out=images)
    return images, np.asarray(labels[chosen], np.int64)
