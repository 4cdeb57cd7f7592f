"""The working directory of a table over several calls: what it holds must stay one experiment."""

import json
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from ocsvm_jax import data
from ocsvm_jax.files import whole_file

RESULTS_FILE = "results.json"
_IMAGES_FILE = "images.json"  # digests of all images that the runs of a directory have seen


def check_rows(workdir: Path, rows: Collection[str]) -> None:
    """Raises ValueError if the results there hold a row beyond `rows`, which a new report drops."""
    path = workdir / RESULTS_FILE
    if not path.exists():
        return
    there = [row["name"] for row in json.loads(path.read_text())["rows"]]
    lost = [name for name in there if name not in rows]
    if lost:
        raise ValueError(
            f"{path} has rows that this call leaves out, and its report would lose: "
            f"{', '.join(lost)}. Ask for their methods too (--config.table.methods, "
            "--config.table.ablations), or pass another --workdir. Nothing was changed."
        )


def digests(train: data.ImageSet, sets: Mapping[str, data.Dataset]) -> dict[str, str]:
    """A digest of the training images and of each part of each protocol."""
    parts = {f"{name}, {part}": s for name, d in sets.items() for part, s in _parts(d).items()}
    return {name: data.digest(images) for name, images in ({"training": train} | parts).items()}


def _parts(found: data.Dataset) -> dict[str, data.ImageSet]:
    return {"validation": found.valid, "test": found.test}


def check_images(workdir: Path, images: Mapping[str, str]) -> None:
    """Raises ValueError if the runs there were trained, judged or tested on other images."""
    path = workdir / _IMAGES_FILE
    before = json.loads(path.read_text()) if path.exists() else images
    changed = [name for name, found in images.items() if before.get(name, found) != found]
    if changed:
        raise ValueError(
            f"the images are not those that the runs in {workdir} have seen; changed: "
            f"{'; '.join(changed)}. Pass another --workdir, or bring the images back. Nothing was "
            "changed."
        )


def note_images(workdir: Path, images: Mapping[str, str]) -> None:
    """Writes down what `check_images` compares later calls with."""
    with whole_file(workdir / _IMAGES_FILE) as file:
        file.write(json.dumps(images, indent=1).encode())


class Clock:
    """Wall time of all calls in a directory together; of a killed one, up to its last note."""

    def __init__(self, workdir: Path):
        """Starts now; reads nothing."""
        self._path, self._since = workdir / "seconds.json", time.perf_counter()

    def note(self) -> float:
        """Adds the time since the last note; returns the sum."""
        now = time.perf_counter()
        total = now - self._since
        total += json.loads(self._path.read_text()) if self._path.exists() else 0.0
        self._since = now
        with whole_file(self._path) as file:
            file.write(json.dumps(total).encode())
        return total
