"""Divides a source of images into the training, validation and test sets of an experiment."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ocsvm_jax.data.base import Dataset, ImageSet, Source
from ocsvm_jax.suggestions import unknown


class Part(NamedTuple):
    """The digits from which an evaluation set is drawn.

    Attributes:
      split: "train" or "test", the split of the source.
      half: None for all digits of that split; 0 or 1 for those in the first or second half of its
        file. All corruptions have the digits in the same order, so a digit is in the same half
        under each of them. The digits of one writer are neighbours, so hardly a writer is in both.
    """

    split: str
    half: int | None


class Protocol(NamedTuple):
    """Where validation and test images come from; training images are from split "train"."""

    valid: Part
    test: Part


PROTOCOLS = {
    # Normal test images show the digits of the training, under other corruptions. This is the
    # paper's choice, which keeps the large split for the test.
    "paper": Protocol(valid=Part("test", None), test=Part("train", None)),
    "leak_free": Protocol(valid=Part("test", 0), test=Part("test", 1)),
}


def build(
    source: Source,
    *,
    normal: Iterable[int],
    anomalies: Iterable[int],
    train_corruptions: Iterable[str],
    test_corruptions: Iterable[str],
    protocol: str,
) -> Dataset:
    """Divides the images of a source according to a protocol.

    Labels and headers are checked before the first image is read. In each set the images are
    ordered by corruption, as given, and within a corruption in the order of the source.

    Args:
      source: the source of the images.
      normal: labels of the normal classes.
      anomalies: labels of the anomalous classes, all different from the normal ones.
      train_corruptions: names of the corruptions of training images.
      test_corruptions: names of the corruptions of validation and test images.
      protocol: a name in `PROTOCOLS`, see `ocsvm_jax.data.load`.

    Raises:
      ValueError: if a corruption, class or protocol is unknown, a class is both normal and
        anomalous, or a set would be empty.
      FileNotFoundError: if the source lacks a file.
    """
    normal = _classes("normal", normal)
    anomalies = _classes("anomalies", anomalies)
    if both := sorted(set(normal) & set(anomalies)):
        raise ValueError(
            f"classes {both} are in both normal={normal} and anomalies={anomalies}: "
            "remove them from one."
        )
    train_corruptions = _corruptions("train_corruptions", train_corruptions, source)
    test_corruptions = _corruptions("test_corruptions", test_corruptions, source)
    if protocol not in PROTOCOLS:
        raise ValueError(unknown("protocol", protocol, PROTOCOLS))
    valid, test = PROTOCOLS[protocol]

    labelled = normal + anomalies
    selections = {
        "train": _select(source, train_corruptions, Part("train", None), normal),
        "valid": _select(source, test_corruptions, valid, labelled),
        "test": _select(source, test_corruptions, test, labelled),
    }
    sets = {name: _read(source, chosen, anomalies) for name, chosen in selections.items()}
    return Dataset(source.name, **sets)


def holdout(train: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Sets a random share of the training images aside, for early stopping.

    As in the paper, images are drawn and not digits: a digit that is set aside may remain in
    training under another corruption.

    Args:
      train: n images.
      fraction: share to set aside, strictly between 0 and 1.
      seed: seed of `numpy.random.default_rng`.

    Returns:
      The images to train on, in their original order, and the `ceil(fraction * n)` images set
      aside, in random order: the batches of early stopping then mix corruptions as those of the
      training do.

    Raises:
      ValueError: if the fraction is out of range or leaves nothing to train on.
    """
    kept, held = holdout_rows(len(train.images), fraction, seed)
    return take(train, kept), take(train, held)


def holdout_rows(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images that `holdout` keeps, sorted, and of those it sets aside, shuffled.

    Args:
      count: number of images.
      fraction: share to set aside, strictly between 0 and 1.
      seed: seed of `numpy.random.default_rng`.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie strictly between 0 and 1, got {fraction}.")
    # Rounded first, so that 0.07 * 100 = 7.000000000000001 sets 7 images aside, not 8.
    aside = int(np.ceil(np.round(fraction * count, 6)))
    if not 0 < aside < count:
        raise ValueError(
            f"a fraction of {fraction} of {count} images sets {aside} aside and leaves "
            f"{count - aside}: both parts need at least one image."
        )
    order = np.random.default_rng(seed).permutation(count)
    # Losses of a whole batch (guidance, pairs, batch centres) depend on what else is in it, and the
    # images are sorted by corruption: in that order a held-out batch would hold a single one.
    return np.sort(order[aside:]), order[:aside]


def take(images: ImageSet, rows: np.ndarray) -> ImageSet:
    """The images of these rows, in this order."""
    *fields, digit = images
    chosen = (field[rows] for field in fields if field is not None)
    return ImageSet(*chosen, digit=None if digit is None else digit[rows])


def _classes(argument: str, values: Iterable[int]) -> tuple[int, ...]:
    """Checks a tuple of class labels, without asking the source whether it has them."""
    example = f"Pass a tuple of class labels such as {argument}=(3,)."
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{argument}={values!r} is not a sequence of class labels. {example}")
    values = tuple(values)
    if any(isinstance(v, bool) or not isinstance(v, int | np.integer) for v in values):
        raise ValueError(f"{argument}={values!r} must contain integers only. {example}")
    _check_distinct(argument, values, example)
    return tuple(int(v) for v in values)


def _corruptions(argument: str, values: Iterable[str], source: Source) -> tuple[str, ...]:
    """Checks a tuple of corruption names against those of the source."""
    example = f'Pass a tuple of names such as {argument}=("{source.corruptions[0]}",).'
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{argument}={values!r} is not a sequence of corruptions. {example}")
    values = tuple(values)
    for value in values:
        if value not in source.corruptions:
            kind = f"corruption in {argument} for {source.origin}:"
            raise ValueError(unknown(kind, value, source.corruptions))
    _check_distinct(argument, values, example)
    return values


def _check_distinct(argument: str, values: Sequence, example: str) -> None:
    if not values:
        raise ValueError(f"{argument} is empty. {example}")
    if len(set(values)) < len(values):
        raise ValueError(f"{argument}={values!r} contains a value twice. {example}")


def _select(
    source: Source, corruptions: Sequence[str], part: Part, classes: Sequence[int]
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Chooses rows by their labels.

    Returns:
      Per (corruption, split), the chosen rows (m,) and their classes (m,) int64.
    """
    chosen = {}
    first = None
    for corruption in corruptions:
        labels = source.labels(corruption, part.split)
        where = f"split {part.split!r} of {corruption!r} in {source.origin}"
        held = np.unique(labels)
        if missing := sorted(set(classes) - set(held.tolist())):
            raise ValueError(f"classes {missing} are not in {where}, which holds {held.tolist()}.")
        first = labels if first is None else first
        if part.half is not None and not np.array_equal(labels, first):
            raise ValueError(
                f"the labels of {where} differ from those of {corruptions[0]!r}, so digits cannot "
                "be divided by their position. Use protocol='paper', or files in the same order."
            )
        chosen[corruption, part.split] = _rows(labels, classes, part, where)
    return chosen


def _rows(
    labels: np.ndarray, classes: Sequence[int], part: Part, where: str
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(np.isin(labels, classes))
    if part.half is not None:
        rows = rows[(rows >= len(labels) // 2) == part.half]
        if missing := sorted(set(classes) - set(labels[rows].tolist())):
            half = ("first", "second")[part.half]
            raise ValueError(
                f"classes {missing} are not in the {half} half of {where}: use protocol='paper', "
                "or files in which the classes are mixed."
            )
    return rows, labels[rows]


def _read(
    source: Source,
    chosen: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]],
    anomalies: Sequence[int],
) -> ImageSet:
    """Reads the chosen rows, one corruption after the other."""
    images = [source.images(*key, rows) for key, (rows, _) in chosen.items()]
    classes = np.concatenate([labels for _, labels in chosen.values()])
    names = np.array([corruption for corruption, _ in chosen])
    return ImageSet(
        images=np.concatenate(images),
        classes=classes,
        corruption=np.repeat(names, [len(rows) for rows, _ in chosen.values()]),
        anomalous=np.isin(classes, anomalies).astype(np.int8),
        digit=_digits(list(chosen.values())),
    )


def _digits(chosen: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """Rows as numbers of digits; None where a corruption has them in another order."""
    rows, labels = chosen[0]
    if all(np.array_equal(r, rows) and np.array_equal(c, labels) for r, c in chosen):
        return np.concatenate([rows for rows, _ in chosen]).astype(np.int64)
    return None
