"""Anomaly maps of whole cohorts, slice by slice: encode, fit, score, write, forget.

The models of a volume are never all there: those of a 1 mm cerebrum would take 5.6 GB. What is held
at a time is the latents of one slice, 4 * 16 bytes for each voxel and subject (twice that while
they are put together), and on the devices one block of locations. A slice is finished when its file
is there; a killed run goes on behind it.

What grows with the volumes, in bytes:

    host     6 * subjects * voxels of the slices read    images (4), masks and lesions (1 + 1)
             4 * scores * tested subjects * locations    what `make_maps` returns, of one run
    device   4 * (training + held-out subjects) * slices * (x + 14) * (y + 14)    `PatchFeed`

Both cohorts of the feed lie on the first device throughout, whatever is mapped.
"""

from collections.abc import Iterator, Mapping, Sequence
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

# Slices encoded at a time: the widest layer of so many takes some 50 MB.
_SLICES_AT_ONCE = 16


def locations_of(train: Cohort, share: float) -> Bool[np.ndarray, "z x y"]:
    """Where maps are made: in the masks of at least this share of the training subjects."""
    return train.masks.mean(axis=0) >= max(share, 1 / len(train.subjects))


def make_maps(
    mapper: Mapper,
    train: Cohort,
    cohorts: Sequence[Cohort],
    locations: Bool[np.ndarray, "z x y"],
    directory: Path,
    *,
    block: int,
    devices: Sequence[Any] | None = None,
    label: str = "",
) -> dict[str, list[Float[np.ndarray, "n v"]]]:
    """Scores of every subject of every cohort at every location.

    Args:
      mapper: what scores.
      train: the normal subjects.
      cohorts: those to judge.
      locations: where, see `locations_of`.
      directory: for one file a slice; the slices whose files are there are not computed again.
      block: locations on a device at a time.
      devices: all local ones if left out.
      label: what the progress bar is called.

    Returns:
      For each score of the mapper, one array a cohort, its columns the locations in C order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    features, score = jax.jit(mapper.features), jax.jit(mapper.score)
    gathered = _Gathered(locations, cohorts)
    with tqdm(total=int(locations.sum()), unit="voxel", desc=label, disable=None) as bar:
        for k in range(locations.shape[0]):
            where = np.argwhere(locations[k])
            if not len(where):
                continue
            path = _file(directory, k)
            if path.exists():
                with np.load(path) as file:
                    scores = dict(file)
                bar.update(len(where))
            else:
                arrays = _slice_arrays(features, train, cohorts, k, where)
                scores = in_blocks(score, arrays, block=block, devices=devices, progress=bar.update)
                with whole_file(path) as file:
                    np.savez(file, **scores)  # pyright: ignore[reportArgumentType]
            gathered.add(k, scores)
    return gathered.by_cohort()


def stored_maps(
    cohorts: Sequence[Cohort], locations: Bool[np.ndarray, "z x y"], directory: Path
) -> dict[str, list[Float[np.ndarray, "n v"]]] | None:
    """What `make_maps` returned, from the files that it left; None if one is no longer there.

    Args:
      cohorts: those that it was given.
      locations: those that it was given.
      directory: that it was given.
    """
    gathered = _Gathered(locations, cohorts)
    for k in np.flatnonzero(locations.any(axis=(1, 2))).tolist():
        path = _file(directory, k)
        if not path.exists():
            return None
        with np.load(path) as file:
            gathered.add(k, dict(file))
    return gathered.by_cohort()


class _Gathered:
    """The scores of all slices, each score in one array that is filled slice by slice.

    Kept as lists and put together in the end, they would be there twice.
    """

    def __init__(self, locations: Bool[np.ndarray, "z x y"], cohorts: Sequence[Cohort]):
        self._ends = np.cumsum(locations.sum(axis=(1, 2))).tolist()
        self._sizes = [len(cohort.subjects) for cohort in cohorts]
        self._arrays: dict[str, np.ndarray] = {}

    def add(self, k: int, scores: Mapping[str, Float[np.ndarray, "v n"]]) -> None:
        """The scores at the locations of slice `k`."""
        for name, values in scores.items():
            if name not in self._arrays:
                shape = self._ends[-1], sum(self._sizes)
                self._arrays[name] = np.empty(shape, values.dtype)
            self._arrays[name][self._ends[k] - len(values) : self._ends[k]] = values

    def by_cohort(self) -> dict[str, list[Float[np.ndarray, "n v"]]]:
        """For each score, one array a cohort."""
        starts = np.cumsum(self._sizes)[:-1]
        return {name: np.split(all_.T, starts, axis=0) for name, all_ in self._arrays.items()}


def _file(directory: Path, k: int) -> Path:
    return directory / f"slice-{k:03d}.npz"


def _slice_arrays(
    features, train: Cohort, cohorts: Sequence[Cohort], k: int, where: Int[np.ndarray, "v 2"]
) -> list[np.ndarray]:
    """Features of the training subjects, which have brain there, and features of all others."""
    columns = where[:, 0], where[:, 1]
    present = np.ascontiguousarray(train.masks[:, k][:, *columns].T)
    test = [_features_at(features, cohort, k, columns) for cohort in cohorts]
    return [_features_at(features, train, k, columns), present, np.concatenate(test, axis=1)]


def _features_at(features, cohort: Cohort, k: int, columns) -> Float[np.ndarray, "v n d"]:
    """The features of one slice of all subjects, at the voxels asked for."""
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
    """One score as `make_maps` left it in its files: each slice's index, and its voxels' scores.

    The columns are the subjects of all cohorts, in the order in which `make_maps` was given them.
    """
    for path in sorted(directory.glob("slice-*.npz")):
        with np.load(path) as file:
            values = file[score]
        yield int(path.stem.removeprefix("slice-")), values


def as_volume(
    scores: Float[np.ndarray, " v"], locations: Bool[np.ndarray, "z x y"]
) -> Float[np.ndarray, "z x y"]:
    """The scores of one subject where they belong, NaN elsewhere."""
    volume = np.full(locations.shape, np.nan, np.float32)
    volume[locations] = scores
    return volume
