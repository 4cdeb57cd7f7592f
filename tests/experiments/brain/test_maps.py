"""Maps of whole cohorts: the stream of slices, what is on disk, and going on after a kill."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.processes import environment
from support.tiny_brains import SHAPE, cohort

from ocsvm_jax.data import brain
from ocsvm_jax.experiments.brain import maps, nifti_maps
from ocsvm_jax.experiments.brain.mappers import Mapper, localized_ocsvm, minus_z
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.networks.patch import PatchEncoder

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("OCSVM_JAX_DATA") or Path(__file__).parents[4] / "shared" / "data")
REAL = DATA / "mslub"

TRAIN = cohort("train", 6, shape=(4, *SHAPE[1:]))
# More than are encoded at once, fewer, and just one.
TESTED = [cohort(f"test-{n}", n, shape=(4, *SHAPE[1:])) for n in (18, 3, 1)]


def where():
    locations = maps.locations_of(TRAIN, 0.5)
    locations[2] = False  # a slice without anything to map
    return locations


def around():
    """Scores that depend on all subjects at a voxel and on what surrounds it."""

    def features(slices):
        return slices[..., None] + 0.5 * slices[:, ::-1, :, None]

    def score(train, present, test):
        sums = (train[..., 0] * present.astype(train.dtype)).sum(axis=1, keepdims=True)
        return {"-f": sums - test[..., 0], "twice": 2 * test[..., 0]}

    return Mapper(features, score)


def by_numpy(tested, locations):
    """Both scores of a cohort, all slices at once: (n, v)."""
    mixed = [c.images.astype(np.float64) for c in (TRAIN, tested)]
    train, test = (a + 0.5 * a[:, :, ::-1] for a in mixed)
    sums = (train * TRAIN.masks).sum(axis=0)
    return {"-f": (sums - test)[:, locations], "twice": 2 * test[:, locations]}


def make(directory, **changes):
    arguments = {"block": 50} | changes
    return maps.make_maps(around(), TRAIN, TESTED, where(), directory, **arguments)


def assert_close(found, expected, rtol=0.0):
    assert list(found) == list(expected)
    for name, cohorts in found.items():
        for one, other in zip(cohorts, expected[name], strict=True):
            np.testing.assert_allclose(one, other, rtol=rtol)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("maps") / "new" / "maps"
    return directory, make(directory)


def test_slices_one_by_one_give_what_all_at_once_give(whole):
    _, found = whole
    for i, tested in enumerate(TESTED):
        for name, expected in by_numpy(tested, where()).items():
            assert found[name][i].dtype == np.float32
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-5, atol=1e-5)


def test_neither_blocks_nor_the_files_matter(whole, tmp_path):
    directory, found = whole
    assert_close(make(tmp_path / "a", block=1000), found, rtol=1e-5)  # XLA adds up otherwise
    assert_close(make(directory), found)


def test_one_file_a_slice(whole):
    directory, found = whole
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["slice-000.npz", "slice-001.npz", "slice-003.npz"]
    for name, cohorts in found.items():
        slices = list(maps.stored(directory, name))
        assert [k for k, _ in slices] == [0, 1, 3]
        assert [len(values) for _, values in slices] == [where()[k].sum() for k in (0, 1, 3)]
        columns = np.concatenate([values for _, values in slices])
        np.testing.assert_array_equal(columns.T, np.concatenate(cohorts))


@pytest.mark.parametrize("finished", [(0,), (0, 3), ()])
def test_a_killed_run_goes_on_behind_the_slices_that_are_finished(
    whole, tmp_path, monkeypatch, finished
):
    """Killed while a slice is computed, or some of the files were lost."""
    directory, found = whole
    original, calls = maps.in_blocks, []

    def counted(function, arrays, **options):
        calls.append(len(arrays[0]))
        if finished == (0,) and len(calls) == 2:
            raise KeyboardInterrupt
        return original(function, arrays, **options)

    target = tmp_path / "maps"
    monkeypatch.setattr(maps, "in_blocks", counted)
    if finished == (0,):
        with pytest.raises(KeyboardInterrupt):
            make(target)
        assert [path.name for path in target.iterdir()] == ["slice-000.npz"]
        calls = [0, 0]  # and is not killed again
    else:
        shutil.copytree(directory, target)
        for k in {0, 1, 3} - {*finished}:
            (target / f"slice-{k:03d}.npz").unlink()
    kept = {path: path.stat().st_mtime_ns for path in target.iterdir()}
    before = len(calls)
    assert_close(make(target), found)
    missing = [k for k in (0, 1, 3) if k not in finished]
    assert calls[before:] == [where()[k].sum() for k in missing]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_locations_are_where_enough_of_the_training_subjects_have_brain():
    count = TRAIN.masks.sum(axis=0)
    for share, least in ((0.5, 3), (1.0, 6), (0.51, 4), (1e-9, 1)):
        np.testing.assert_array_equal(maps.locations_of(TRAIN, share), count >= least)


def test_a_volume_holds_the_scores_where_they_belong(whole):
    _, found = whole
    locations = where()
    volume = maps.as_volume(found["-f"][1][2], locations)
    assert volume.shape == locations.shape and volume.dtype == np.float32
    np.testing.assert_array_equal(volume[locations], found["-f"][1][2])
    assert np.isnan(volume[~locations]).all()
    expected = by_numpy(TESTED[1], locations)["-f"]
    whole_image = np.zeros((3, *locations.shape))
    whole_image[:, locations] = expected
    np.testing.assert_allclose(volume[1, 7, 9], whole_image[2, 1, 7, 9], rtol=1e-5)


EIGHT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import jax, numpy as np
from test_maps import SMALL_TESTED, SMALL_TRAIN, encoded
from ocsvm_jax.experiments.brain import maps
assert jax.device_count() == 8
used, mapper = set(), encoded()
original = maps.in_blocks

def spied(function, arrays, **options):
    def one(*arrays):
        used.update(*(a.devices() for a in arrays))
        return function(*arrays)
    return original(one, arrays, **options)

maps.in_blocks = spied
locations = maps.locations_of(SMALL_TRAIN, 0.5)

def make(name, **options):
    arguments = mapper, SMALL_TRAIN, SMALL_TESTED, locations, Path(sys.argv[2]) / name
    return maps.make_maps(*arguments, **options)

eight = make("eight", block=8)
assert used == set(jax.devices())
used.clear()
one = make("one", block=64, devices=jax.devices()[:1])
assert used == set(jax.devices()[:1])
assert list(one) == list(eight) == ["-f", "log"]
for name in one:
    for a, b in zip(one[name], eight[name], strict=True):
        assert a.shape[1] == locations.sum() and a.std() > 0.01
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
"""
SMALL_TRAIN = cohort("train", 6, shape=(2, 12, 14))
SMALL_TESTED = [cohort(f"test-{n}", n, shape=(2, 12, 14)) for n in (3, 1)]


def encoded():
    """The encoder as it is before training, and a one-class SVM a voxel."""
    encoder = PatchEncoder()
    variables = dict(jax.jit(encoder.init)(jax.random.key(0), jnp.zeros((1, 15, 15, 1))))
    params = variables.pop("params")
    settings = SimpleNamespace(nu=0.3, gamma=0.3, standardize=True, scores=("-f", "log"))
    return localized_ocsvm(encoder, params, variables, settings)


@pytest.mark.slow
def test_eight_devices_make_the_maps_that_one_makes(tmp_path):
    """From the encoder to the scores, of other blocks as well."""
    done = subprocess.run(
        [sys.executable, "-c", EIGHT, str(Path(__file__).parent), str(tmp_path)],
        env=environment(devices=8),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real brain at {REAL}; set OCSVM_JAX_DATA")
def test_the_map_of_a_real_brain_lies_on_its_image(tmp_path):
    """Held against itself, moved by a voxel each way: what stands out are its own edges."""
    nib = pytest.importorskip("nibabel", reason="the extra [mri] is not installed")
    image, lesion = "{subject}_T1_MNI.nii.gz", "{subject}_lesions_MNI.nii.gz"
    patient, space = brain.read_cohort(REAL, "", slices_mm=(28,), image=image, lesion=lesion)
    moves = [(0, 1), (0, -1), (1, 0), (-1, 0)]
    images, masks = (
        np.concatenate([np.roll(a, move, axis=(2, 3)) for move in moves])
        for a in (patient.images, patient.masks)
    )
    train = patient._replace(subjects=tuple("abcd"), images=images, masks=masks)
    locations = maps.locations_of(train, 0.5)
    found = maps.make_maps(minus_z(), train, [patient], locations, tmp_path / "maps", block=4096)
    files = brain.find(REAL, "", image=image, lesion=lesion)
    read = Study(space, {}, {patient.name: files}, None)
    nifti_maps.write(tmp_path, found, read, [patient], locations)

    path = tmp_path / "nifti" / patient.name / "patient07_score.nii.gz"
    written, t1 = nib.load(path), nib.load(REAL / "patient07_T1_MNI.nii.gz")
    np.testing.assert_array_equal(written.affine, t1.affine)
    assert written.shape == t1.shape
    (k,) = space.slices
    volume = written.get_fdata()
    assert np.flatnonzero(volume.any(axis=(0, 1))).tolist() == [k]
    # Both files run from right to left, as they are stored.
    whole = t1.get_fdata()
    inside_values = whole[whole != 0]
    scaled = (whole[:, :, k] - inside_values.min()) / np.ptp(inside_values)
    scaled[whole[:, :, k] == 0] = 0
    slices = [np.roll(scaled, move, axis=(0, 1)) for move in moves]
    inside = (np.stack([scaled, *slices]) != 0).all(axis=0)
    expected = (np.mean(slices, axis=0) - scaled) / np.maximum(np.std(slices, axis=0), 0.01)
    assert inside.sum() > 10_000
    np.testing.assert_allclose(volume[:, :, k][inside], expected[inside], atol=2e-3)
