"""Working directories: one process at a time, one configuration and the same data over all calls.

Every experiment calls `check` before anything is loaded, and `entered` before anything is written.
Checkpoints and finished runs do not record which images they were made from: `data.json` does, by
content, so that the files may be moved.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ocsvm_jax.data import Dataset, ImageSet
from ocsvm_jax.experiments.config import Config, plain
from ocsvm_jax.experiments.method_fields import without_foreign
from ocsvm_jax.files import sha256, sole_user, write_json

CONFIG_FILE = "config.json"
# Raised whenever the same card and the same data train another model, which must not go on from a
# checkpoint of before nor stand in one table with it; the changes are in CHANGELOG.md.
TRAINING = 2
_TRAINING = "training_version"  # its name in config.json, beside the fields of the card
# Parts of the identity of volumes, besides their cohorts.
GRID, EXCLUDED = "the voxel grid, or the slices that are read", "the voxels of data.exclude"
_DATA_FILE = "data.json"  # identity of the data of all runs in a directory
_IMAGES_FILE = "images.json"  # its name in image directories of version 0.1
# Locations do not identify data; `data.json` does.
_PLACES = ("data.dir", "data.lesions")


def check(workdir: Path, config: Config, free: Sequence[str] = ()) -> None:
    """Raises ValueError if `workdir` cannot be entered with this configuration; changes nothing.

    Nor can it be if its runs were trained by another version of the training, see `TRAINING`.

    Args:
      workdir: a new or empty directory, or one from an earlier call with this configuration.
      config: the configuration.
      free: fields ("seed"), or groups of fields ("eval."), that may differ from before.
    """
    if (workdir / CONFIG_FILE).exists():
        _check_version(workdir)
        known = any((workdir / name).exists() for name in (_DATA_FILE, _IMAGES_FILE))
        free = (*free, *_PLACES) if known else free
        lines = _other_fields(plain(config), _read(workdir), free)
        if lines:
            raise ValueError(
                f"{workdir} holds a run of another configuration:\n" + "\n".join(lines) + "\n"
                "Pass another --workdir, or remove that one. Nothing was changed."
            )
    elif workdir.exists() and not workdir.is_dir():
        raise ValueError(f"{workdir} is a file; pass a new or empty directory as --workdir.")
    elif workdir.exists() and any(workdir.iterdir()):
        raise ValueError(
            f"{workdir} is not empty and holds no {CONFIG_FILE}; pass a new or empty --workdir. "
            "Nothing was changed."
        )


def check_nothing_lost(results: Path, lost: Collection[str], ask: str) -> None:
    """Raises ValueError if a new report would drop results that the present one contains.

    Args:
      results: file of the present results.
      lost: descriptions of the parts that this call leaves out.
      ask: the options that would ask for them.
    """
    if lost:
        raise ValueError(
            f"{results} holds results that this call leaves out and its report would lose: "
            f"{'; '.join(lost)}. Ask for them too ({ask}), or pass another --workdir. Nothing was "
            "changed."
        )


@contextmanager
def entered(
    workdir: Path, config: Config, data: Mapping[str, Any] | None, free: Sequence[str] = ()
) -> Iterator[None]:
    """Reserves `workdir` for this process, this configuration and these data.

    Args:
      workdir: created if it does not exist.
      config: the configuration; the newest values of free fields are kept.
      data: identity of the data, as returned by `identity_of`; None if they are generated inside
        `workdir`, after which `same_data` is called.
      free: see `check`.

    Raises:
      ValueError: see `check`; also if another process is using `workdir`, or its runs have other
        data. Nothing is changed then.
    """
    check(workdir, config, free)
    with sole_user(workdir):
        check(workdir, config, free)  # again: another process may have been at work in between
        if data is not None:
            _check_data(workdir, data)
        path, now = workdir / CONFIG_FILE, plain(config)
        if not path.exists() or _read(workdir) != now:
            write_json(path, now | {_TRAINING: TRAINING}, indent=2)
        if data is not None:
            _note_data(workdir, data)
        yield


def same_data(workdir: Path, data: Mapping[str, Any]) -> None:
    """Compares data generated inside `workdir` with those of its runs, and records them.

    Raises:
      ValueError: if the runs have other data.
    """
    _check_data(workdir, data)
    _note_data(workdir, data)


def identity_of(train: ImageSet, sets: Mapping[str, Dataset]) -> dict[str, str]:
    """Digests of the training images, and of the validation and test images per protocol."""
    parts = {"training": train}
    for name, found in sets.items():
        parts |= {f"{name}, validation": found.valid, f"{name}, test": found.test}
    return {
        name: sha256(part.images, part.classes, part.corruption, part.anomalous)
        for name, part in parts.items()
    }


def read_config(workdir: Path) -> Config:
    """The configuration of the run in `workdir`.

    Raises:
      ValueError: if it is missing or damaged.
    """
    if not (workdir / CONFIG_FILE).exists():
        raise ValueError(f"{workdir} holds no {CONFIG_FILE}, so no run of train.py.")
    return ConfigDict(_read(workdir))


def _read(workdir: Path) -> dict[str, Any]:
    content = _read_object(workdir / CONFIG_FILE)
    content.pop(_TRAINING, None)
    return without_foreign(content)


def _check_version(workdir: Path) -> None:
    there = _read_object(workdir / CONFIG_FILE).get(_TRAINING, 1)
    if there != TRAINING:
        raise ValueError(
            f"{workdir} holds runs of another version of this program: training version {there}, "
            f"and this one trains other models from the same card, version {TRAINING} "
            "(CHANGELOG.md). Pass another --workdir, or go on with the version that began it. "
            "Nothing was changed."
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. Nothing was changed.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object. Nothing was changed.")
    return content


def _other_fields(
    now: Mapping[str, Any], then: Mapping[str, Any], free: Sequence[str]
) -> list[str]:
    """One line per field that differs and is not free."""
    ours, theirs = _flat(now), _flat(then)
    return [
        f"  {k}: {theirs.get(k)!r} there, {ours.get(k)!r} now"
        for k in sorted(ours | theirs)
        if ours.get(k) != theirs.get(k)
        and not any(k == name or (name[-1] == "." and k.startswith(name)) for name in free)
    ]


def _check_data(workdir: Path, data: Mapping[str, Any]) -> None:
    paths = [workdir / name for name in (_DATA_FILE, _IMAGES_FILE)]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return  # a directory without a record of its data
    before = _parts_of(_read_object(path))
    changed = [
        _difference(name, before.get(name), data.get(name))
        for name in dict.fromkeys((*before, *data))
        if before.get(name) != data.get(name)
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds runs of other data; different now:\n"
            + "".join(f"  {line}\n" for line in changed)
            + "Pass another --workdir, or bring the old files back. Nothing was changed."
        )


def _difference(name: str, then: Any, now: Any) -> str:
    """Describes how a part differs: new, gone, other subjects, or other content."""
    if then is None or now is None:
        return f"{name}: {'new' if then is None else 'gone'}"
    if isinstance(now, Mapping) and "subjects" in now:
        ours, theirs = set(now["subjects"]), set(then["subjects"])
        if ours != theirs:
            return f"{name}: its subjects, {len(ours - theirs)} new, {len(theirs - ours)} gone"
        return f"{name}: the same subjects, other volumes"
    return name


def _parts_of(written: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parts in a data file; version 0.1 nested the cohorts of a brain experiment."""
    if "cohorts" not in written:
        return written
    cohorts = {f"cohort {name!r}": found for name, found in written["cohorts"].items()}
    return {GRID: written["space"], EXCLUDED: written["exclude"]} | cohorts


def _note_data(workdir: Path, data: Mapping[str, Any]) -> None:
    path = workdir / _DATA_FILE
    if not path.exists():
        write_json(path, data)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = prefix + key
        out |= _flat(value, name + ".") if isinstance(value, Mapping) else {name: value}
    return out
