"""Anomaly maps of whole cohorts, slice by slice: encode, fit, score, write.

The models of a whole volume are never in memory together: those of a 1 mm cerebrum would take
5.6 GB. The host holds the latents of one slice, 4 * 16 bytes per voxel and subject (twice that
while they are concatenated), and the devices hold two blocks of locations. A slice is finished when
its file exists; a killed run continues after it.

Memory that grows with the volumes, in bytes:

    host     6 * subjects * voxels of the slices read    images (4), masks and lesions (1 + 1)
             4 * scores * tested subjects * locations    result of `make_maps` for one run
    device   4 * (training + held-out subjects) * slices * (x + 14) * (y + 14)    `PatchFeed`

Both cohorts of the feed stay on the first device, whatever is mapped.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.mappers import Mapper
from ocsvm_jax.files import whole_file

# Slices encoded at a time; their widest layer takes some 50 MB.
_SLICES_AT_ONCE = 16

Scores = dict[str, Float[np.ndarray, "v n"]]  # at the locations of one slice


def locations_of(train: Cohort, share: float) -> Bool[np.ndarray, "z x y"]:
    """Voxels where maps are made: inside the masks of at least this share of training subjects."""
    return train.masks.mean(axis=0) >= max(share, 1 / len(train.subjects))


def make_maps(
    mapper: Mapper,
    train: Cohort,
    cohorts: Sequence[Cohort],
    locations: Bool[np.ndarray, "z x y"],
    directory: Path,
    *,
    block: int | None = None,
    devices: Sequence[Any] | None = None,
    label: str = "",
) -> dict[str, list[Float[np.ndarray, "n v"]]]:
    """Scores of every subject of every cohort at every location.

    Args:
      mapper: computes the scores.
      train: the normal subjects.
      cohorts: the cohorts to judge.
      locations: voxels to score, see `locations_of`.
      directory: for one file per slice; slices whose files exist are not computed again.
      block: number of locations on a device at a time, see `in_blocks`.
      devices: default: all local devices.
      label: title of the progress bar.

    Returns:
      For each score of the mapper, one array per cohort; its columns are the locations in C order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    features, score = jax.jit(mapper.features), jax.jit(mapper.score)
    longest = int(locations.sum(axis=(1, 2)).max())
    bar = tqdm(total=int(locations.sum()), unit="voxel", desc=label, disable=None)

    def made(k: int) -> Scores:
        where, path = np.argwhere(locations[k]), _file(directory, k)
        if path.exists():
            bar.update(len(where))
            return _load(path)
        arrays = _slice_arrays(features, train, cohorts, k, where)
        scores = in_blocks(
            score, arrays, block=block, most=longest, devices=devices, progress=bar.update
        )
        with whole_file(path) as file:
            np.savez(file, **scores)  # pyright: ignore[reportArgumentType]
        return scores

    with bar:
        return _by_cohort(((k, made(k)) for k in _slices(locations)), locations, cohorts)


def stored_maps(
    cohorts: Sequence[Cohort], locations: Bool[np.ndarray, "z x y"], directory: Path
) -> dict[str, list[Float[np.ndarray, "n v"]]] | None:
    """Reads the result of `make_maps` back from its files; None if a file is missing.

    Args:
      cohorts: same as for `make_maps`.
      locations: same as for `make_maps`.
      directory: same as for `make_maps`.
    """
    paths = {k: _file(directory, k) for k in _slices(locations)}
    if not all(path.exists() for path in paths.values()):
        return None
    return _by_cohort(((k, _load(path)) for k, path in paths.items()), locations, cohorts)


def _by_cohort(
    slices: Iterable[tuple[int, Scores]],
    locations: Bool[np.ndarray, "z x y"],
    cohorts: Sequence[Cohort],
) -> dict[str, list[Float[np.ndarray, "n v"]]]:
    """Collects the scores of successive slices into one array per score and cohort.

    The arrays are preallocated: concatenating lists at the end would need twice the memory.
    """
    ends = np.cumsum(locations.sum(axis=(1, 2))).tolist()
    sizes = [len(cohort.subjects) for cohort in cohorts]
    arrays: dict[str, np.ndarray] = {}
    for k, scores in slices:
        for name, values in scores.items():
            if name not in arrays:
                arrays[name] = np.empty((ends[-1], sum(sizes)), values.dtype)
            arrays[name][ends[k] - len(values) : ends[k]] = values
    starts = np.cumsum(sizes)[:-1]
    return {name: np.split(array.T, starts, axis=0) for name, array in arrays.items()}


def _slices(locations: Bool[np.ndarray, "z x y"]) -> list[int]:
    """Indices of the slices that contain a location."""
    return np.flatnonzero(locations.any(axis=(1, 2))).tolist()


def _load(path: Path) -> Scores:
    with np.load(path) as file:
        return dict(file)


def _file(directory: Path, k: int) -> Path:
    return directory / f"slice-{k:03d}.npz"


def _slice_arrays(
    features, train: Cohort, cohorts: Sequence[Cohort], k: int, where: Int[np.ndarray, "v 2"]
) -> list[np.ndarray]:
    """Training features, the mask of training subjects with brain there, and test features."""
    columns = where[:, 0], where[:, 1]
    present = np.ascontiguousarray(train.masks[:, k][:, *columns].T)
    test = [_features_at(features, cohort, k, columns) for cohort in cohorts]
    return [_features_at(features, train, k, columns), present, np.concatenate(test, axis=1)]


def _features_at(features, cohort: Cohort, k: int, columns) -> Float[np.ndarray, "v n d"]:
    """Features of one slice for all subjects of a cohort, at the given voxels."""
    out = None
    n = len(cohort.subjects)
    for start in range(0, n, _SLICES_AT_ONCE):
        slices = cohort.images[start : start + _SLICES_AT_ONCE, k]
        count = len(slices)
        if count < _SLICES_AT_ONCE:  # one shape, one compilation
            empty = np.zeros((_SLICES_AT_ONCE - count, *slices.shape[1:]), slices.dtype)
            slices = np.concatenate([slices, empty])
        dense = np.asarray(features(slices))[:count]
        if out is None:
            out = np.empty((len(columns[0]), n, dense.shape[-1]), dense.dtype)
        out[:, start : start + count] = dense[:, *columns].transpose(1, 0, 2)
    assert out is not None
    return out


def stored(directory: Path, score: str) -> Iterator[tuple[int, Float[np.ndarray, "v n"]]]:
    """Reads one score from the files of `make_maps`: yields each slice's index and scores.

    Columns are the subjects of all cohorts, in the order passed to `make_maps`.
    """
    for path in sorted(directory.glob("slice-*.npz")):
        with np.load(path) as file:
            values = file[score]
        yield int(path.stem.removeprefix("slice-")), values


def as_volume(
    scores: Float[np.ndarray, " v"], locations: Bool[np.ndarray, "z x y"]
) -> Float[np.ndarray, "z x y"]:
    """Volume with the scores of one subject at `locations` and NaN elsewhere."""
    volume = np.full(locations.shape, np.nan, np.float32)
    volume[locations] = scores
    return volume
