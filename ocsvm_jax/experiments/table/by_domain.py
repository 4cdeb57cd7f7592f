"""Test scores of the rows without the domain, see `evaluation.domains`.

The groups are those of a protocol's validation images, whose labels are not used; the units of a
score are taken from the same images under the same run.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from ocsvm_jax import data
from ocsvm_jax.evaluation.domains import (
    Domains,
    Groups,
    by_group,
    fit_groups,
    group_of,
    of_groups,
)
from ocsvm_jax.experiments.table.record import DomainRecord

_SEED = 0  # of the k-means starts


class Grouped(NamedTuple):
    """The images of a protocol in their groups.

    Attributes:
      groups: fitted to the validation images.
      valid: (n,) group of each validation image.
      test: (m,) group of each test image; the number of groups for one far from all.
    """

    groups: Groups
    valid: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " m"]

    def normalized(
        self, valid: Float[np.ndarray, " n"], test: Float[np.ndarray, " m"]
    ) -> Float[np.ndarray, " m"]:
        """Scores of the test images without the domain, from the scores of one run."""
        fitted = of_groups(self.groups, self.valid, {"score": valid})
        return by_group(fitted, self.test, {"score": test}).scores["score"]

    def describe(self, dataset: data.Dataset) -> DomainRecord:
        """How many images of either set are in each group, and how many of them are anomalous."""
        k = len(self.groups.centres)
        numbers = {}
        for name in ("valid", "test"):
            group, anomalous = getattr(self, name), getattr(dataset, name).anomalous
            numbers[name] = np.bincount(group, minlength=k + 1).tolist()
            numbers[f"{name}_anomalous"] = np.bincount(
                group[anomalous == 1], minlength=k + 1
            ).tolist()
        silhouette = self.groups.silhouette
        return DomainRecord(
            silhouette=silhouette if np.isfinite(silhouette) else None,
            images={name: counts[:k] for name, counts in numbers.items()},
            far=numbers["test"][k],
        )


def grouped(dataset: data.Dataset, path: Path) -> Grouped:
    """Groups the images of a protocol; the groups are kept in a file and read from there."""
    if path.exists():
        groups = Domains.load(path).groups
    else:
        groups = fit_groups(dataset.valid.images, jax.random.key(_SEED))
        path.parent.mkdir(parents=True, exist_ok=True)
        Domains(groups, {}, {}).save(path)
    valid, test = (group_of(groups, part.images) for part in (dataset.valid, dataset.test))
    return Grouped(groups, valid, test)
