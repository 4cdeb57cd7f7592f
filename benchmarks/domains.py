"""Scores without the domain when anomalies are rare, or unlike in number from group to group.

    python benchmarks/domains.py --task=PATH:3:8 [--task=PATH:5:6 ...] [--draws=10]

A task is a location of MNIST-C, the normal digit and the anomalous one. Scores are those of
principal components, fitted to the training images. The groups and their units come from validation
images of which anomalous ones are left out at random until a share of each group is reached; the
test images are digits that were in neither. Prints Markdown.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from ocsvm_jax import data
from ocsvm_jax.evaluation import domains, metrics
from ocsvm_jax.evaluation.pca import PCA
from ocsvm_jax.reports import provenance
from ocsvm_jax.reports.numbers import resolved, stat_of

SCORES = {"reconstruction": "error", "error-contrast": "contrast of error"}
# Share of anomalies under each of the three corruptions.
EQUAL = ((0.5,) * 3, (0.2,) * 3, (0.05,) * 3, (0.01,) * 3)
UNEQUAL = ((0.5, 0.05, 0.05), (0.05, 0.5, 0.05), (0.05, 0.05, 0.5), (0.2, 0.05, 0.01))


class Task(NamedTuple):
    """The scores of one pair of digits.

    Attributes:
      name: such as "3 / 8".
      dataset: the images, by the leak-free protocol.
      valid: scores of the validation images by name.
      test: scores of the test images by name.
    """

    name: str
    dataset: data.Dataset
    valid: dict[str, Float[np.ndarray, " n"]]
    test: dict[str, Float[np.ndarray, " m"]]


def task(text: str) -> Task:
    """Scores the images of a task.

    Args:
      text: PATH:NORMAL:ANOMALOUS.

    Raises:
      ValueError: if it is not of this form, or the data do not exist.
    """
    parts = text.rsplit(":", 2)
    if len(parts) != 3 or not all(part.isdigit() for part in parts[1:]):
        raise ValueError(f"--task={text}: pass PATH:NORMAL:ANOMALOUS, such as mnist_c.zip:3:8.")
    path, normal, anomalous = parts[0], int(parts[1]), int(parts[2])
    dataset = data.load(
        "mnist_c", dir=path, normal=(normal,), anomalies=(anomalous,), protocol="leak_free"
    )
    fitted = PCA.fit(dataset.train.images)
    scores = [fitted.scores(part.images) for part in (dataset.valid, dataset.test)]
    return Task(f"{normal} / {anomalous}", dataset, *scores)


def with_shares(
    anomalous: Bool[np.ndarray, " n"],
    corruption: Shaped[np.ndarray, " n"],
    shares: Sequence[float],
    generator: np.random.Generator,
) -> Int[np.ndarray, " m"]:
    """Rows with at most so many anomalies under each corruption, the others left out at random.

    Args:
      anomalous: which images are anomalous.
      corruption: names.
      shares: of anomalous images, in (0, 1), for the corruptions in order of appearance.
      generator: draws the anomalous images that stay.
    """
    rows = []
    for name, share in zip(dict.fromkeys(corruption.tolist()), shares, strict=True):
        normal, other = (np.flatnonzero((corruption == name) & (anomalous == a)) for a in (0, 1))
        wanted = round(len(normal) * share / (1.0 - share))
        rows += [normal, generator.permutation(other)[:wanted]]
    return np.sort(np.concatenate(rows))


def areas(
    one: Task, shares: Sequence[float], in_test: bool, draw: int
) -> tuple[dict[str, tuple[float, float]], int]:
    """AUROC of each score as it is and by domain, and the number of groups.

    Args:
      one: the task.
      shares: of anomalies in the validation images, under each corruption.
      in_test: whether the test images have the same shares, or all of their anomalies.
      draw: seed.
    """
    generator = np.random.default_rng(draw)
    valid, test = one.dataset.valid, one.dataset.test
    fitted_rows = with_shares(valid.anomalous == 1, valid.corruption, shares, generator)
    groups = domains.fit_groups(valid.images[fitted_rows], jax.random.key(draw))
    group = domains.group_of(groups, valid.images[fitted_rows])
    rows = np.arange(len(test.classes))
    if in_test:
        rows = with_shares(test.anomalous == 1, test.corruption, shares, generator)
    labels, new_group = test.anomalous[rows], domains.group_of(groups, test.images[rows])
    fitted = domains.of_groups(groups, group, {n: one.valid[n][fitted_rows] for n in SCORES})
    new = {name: one.test[name][rows] for name in SCORES}
    out = domains.by_group(fitted, new_group, new).scores
    found = {n: (metrics.auroc(labels, new[n]), metrics.auroc(labels, out[n])) for n in SCORES}
    return found, len(groups.centres)


def line(one: Task, shares: Sequence[float], in_test: bool, draws: int) -> str:
    """A line of the table: mean and sd over draws of the anomalies that stay."""
    runs = [areas(one, shares, in_test, draw) for draw in range(draws)]
    cells = [
        resolved(stat_of([found[name][i] for found, _ in runs])) for name in SCORES for i in (0, 1)
    ]
    counts = sorted({count for _, count in runs})
    words = " / ".join(f"{share:.0%}" for share in (shares if len(set(shares)) > 1 else shares[:1]))
    groups = ", ".join(map(str, counts))
    return f"| {one.name} | {words} | {groups} | {' | '.join(cells)} |"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--task", action="append", required=True, help="PATH:NORMAL:ANOMALOUS")
    parser.add_argument("--draws", type=int, default=10, help="draws of the anomalies that stay")
    arguments = parser.parse_args()
    if arguments.draws < 2:
        parser.error("two draws at least: the table is of their mean and spread.")
    tasks = [task(text) for text in arguments.task]
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    columns = " | ".join(f"{words} | by domain" for words in SCORES.values())
    for shares, in_test, title in (
        (EQUAL, False, "The same share in every group, all test images"),
        (UNEQUAL, False, "Other shares in each corruption, all test images"),
        (UNEQUAL, True, "Other shares in each corruption, in the test images too"),
    ):
        print(f"## {title}\n\n| digits | anomalies | groups | {columns} |")
        print("|---|---|---|" + "--:|" * (2 * len(SCORES)))
        for one in tasks:
            for each in shares:
                print(line(one, each, in_test, arguments.draws), flush=True)
        print()


if __name__ == "__main__":
    main()
