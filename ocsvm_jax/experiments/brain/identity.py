"""Identity of the data of a brain experiment: grid, subjects and content, not files.

The same volumes compressed differently have the same identity.
"""

from typing import Any

import numpy as np

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.experiments.workdir import EXCLUDED, GRID
from ocsvm_jax.files import sha256


def of(read: Study) -> dict[str, Any]:
    """Identity of the data by part, as `experiments.workdir.entered` compares it."""
    space = read.space
    return {
        GRID: {
            "shape": list(space.shape),
            "affine": space.affine.tolist(),
            "slices": [int(k) for k in space.slices],
        },
        EXCLUDED: None if read.exclude is None else sha256(read.exclude),
    } | {
        f"cohort {name!r}": {"subjects": list(cohort.subjects), "sha256": _of_cohort(cohort)}
        for name, cohort in read.cohorts.items()
    }


def _of_cohort(cohort: Cohort) -> str:
    return sha256(cohort.images, cohort.masks, cohort.lesions, np.asarray(cohort.has_lesions))
