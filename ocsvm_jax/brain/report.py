"""The report of the brain experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ocsvm_jax.brain import tables
from ocsvm_jax.brain.study import Study


def text(results: Mapping[str, Any]) -> str:
    return "\n\n".join(f"{t.caption}\n{t.markdown()}" for t in [*tables.localisation(results, "raw"), *tables.images(results)])


def write(workdir: Path, results: Mapping[str, Any], read: Study, locations: np.ndarray) -> Path:
    return workdir
