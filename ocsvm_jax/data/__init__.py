"""Images for the experiments, as NumPy arrays on the host, without JAX."""

from collections.abc import Callable, Iterable

from ocsvm_jax.data import mnist_c
from ocsvm_jax.data.base import Dataset, ImageSet, Source
from ocsvm_jax.data.protocol import PROTOCOLS, build, holdout, holdout_rows, take
from ocsvm_jax.suggestions import unknown

__all__ = [
    "PROTOCOLS",
    "SOURCES",
    "Dataset",
    "ImageSet",
    "Source",
    "holdout",
    "holdout_rows",
    "load",
    "take",
]


def _digits(dir: str) -> Source:
    # Imported here, since scikit-learn and scikit-image take seconds to import.
    from ocsvm_jax.data import digits

    return digits.source(dir)


# Maps the name of a source to a function of a directory ("" for the source's default).
SOURCES: dict[str, Callable[[str], Source]] = {
    "digits": _digits,
    "mnist_c": mnist_c.source,
}


def load(
    name: str,
    *,
    dir: str = "",
    normal: Iterable[int] = (3,),
    anomalies: Iterable[int] = (8,),
    train_corruptions: Iterable[str] = ("identity", "motion_blur", "translate"),
    test_corruptions: Iterable[str] = ("stripe", "canny_edges", "brightness"),
    protocol: str = "paper",
) -> Dataset:
    """Loads the training, validation and test images of an experiment.

    Training images are the normal classes of split "train" under `train_corruptions`. Validation
    and test images are the normal and anomalous classes under `test_corruptions`:

    - `protocol="paper"` (arXiv 2507.21164): validation from split "test", test from split "train".
      The normal test images then show digits seen in training, under corruptions not seen in
      training. A model may recognise a digit rather than its class, and its results may be too
      good.
    - `protocol="leak_free"`: both from split "test", validation from the first half of its file
      and test from the second. A digit is on the same side under every corruption, so no test digit
      was trained on or used to choose a hyperparameter. Nor was another digit of its writer, whose
      digits are neighbours in the file (but for data that the stock builder of tensorflow-datasets
      shuffled). Of MNIST, the first half of split "test" is the cleaner one, so a method may be
      better in validation than in test.

    Both train on the same images, so one trained model can be evaluated under both.

    Args:
      name: "digits", which needs no files, or "mnist_c".
      dir: for "mnist_c": a folder `<dir>/<corruption>/{train,test}_{images,labels}.npy` or
        `<dir>/mnist_c/...`, the archive `mnist_c.zip` or its folder, or a directory prepared by
        tensorflow-datasets. Empty: the default directory of tensorflow-datasets, into which
        MNIST-C is downloaded if it is not there.
      normal: labels of the normal classes.
      anomalies: labels of the anomalous classes, all different from the normal ones.
      train_corruptions: names of the corruptions of training images.
      test_corruptions: names of the corruptions of validation and test images.
      protocol: "paper" or "leak_free".

    Raises:
      ValueError: if a name, corruption, class or protocol is unknown, or files are damaged or have
        the wrong content. The message says what was received and what is available.
      FileNotFoundError: if the data do not exist.
    """
    if name not in SOURCES:
        raise ValueError(unknown("data source", name, SOURCES))
    return build(
        SOURCES[name](dir),
        normal=normal,
        anomalies=anomalies,
        train_corruptions=train_corruptions,
        test_corruptions=test_corruptions,
        protocol=protocol,
    )
