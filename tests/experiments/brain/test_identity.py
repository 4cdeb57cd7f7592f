"""What identifies the data of a working directory, and what is said when they are others."""

import json

import numpy as np
import pytest
from support.tiny_brains import SHAPE, cohort

from ocsvm_jax.data.brain import Space
from ocsvm_jax.experiments.brain import identity
from ocsvm_jax.experiments.brain.study import Study

AFFINE = np.diag([1.0, 1.0, 8.0, 1.0])
EXCLUDE = np.zeros(SHAPE, bool)


def study(exclude=EXCLUDE, affine=AFFINE, **changes):
    """Two cohorts; `changes` replaces fields of the patients."""
    made = {"train": cohort("train", 3), "wmh": cohort("wmh", 2, patients=True)}
    made["wmh"] = made["wmh"]._replace(**changes)
    return Study(Space((20, 20, 2), affine, (0, 1)), made, {}, exclude)


@pytest.fixture
def workdir(tmp_path):
    identity.write(tmp_path, identity.of(study()))
    return tmp_path


def flipped(field):
    array = getattr(cohort("wmh", 2, patients=True), field).copy()
    array[1, 0, 10, 10] = ~array[1, 0, 10, 10] if array.dtype == bool else 0.125
    return array


def test_the_same_data_pass_and_are_written_once(workdir):
    before = (workdir / identity.FILE).read_bytes()
    assert json.loads(before) == identity.of(study())
    identity.check(workdir, identity.of(study()))
    identity.write(workdir, identity.of(study(exclude=None)))
    assert (workdir / identity.FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": flipped("images")}, "cohort 'wmh': the same subjects, other volumes"),
        ({"masks": flipped("masks")}, "cohort 'wmh': the same subjects, other volumes"),
        ({"lesions": flipped("lesions")}, "cohort 'wmh': the same subjects, other volumes"),
        ({"has_lesions": False}, "cohort 'wmh': the same subjects, other volumes"),
        ({"subjects": ("wmh-0", "wmh-2")}, "cohort 'wmh': its subjects, 1 new, 1 gone"),
        ({"exclude": ~EXCLUDE}, r"the voxels of data\.exclude"),
        ({"exclude": None}, r"the voxels of data\.exclude"),
        ({"affine": np.diag([1.0, 1.0, 7.0, 1.0])}, "the voxel grid"),
    ],
)
def test_every_change_is_named_and_only_that(workdir, changes, message):
    with pytest.raises(ValueError, match=rf"other data; different now:\n  {message}.*\nPass"):
        identity.check(workdir, identity.of(study(**changes)))


def test_cohorts_that_come_or_go(workdir):
    ours = identity.of(study())
    ours["cohorts"]["tumour"] = ours["cohorts"].pop("wmh")
    with pytest.raises(ValueError, match=r"(?s)cohort 'wmh': gone\n.*cohort 'tumour': new\n"):
        identity.check(workdir, ours)


def test_a_directory_without_the_file_is_of_any_data_and_a_damaged_file_is_named(tmp_path):
    identity.check(tmp_path, identity.of(study()))
    assert not any(tmp_path.iterdir())
    for content in ("{", "[]", "{}"):
        (tmp_path / identity.FILE).write_text(content)
        with pytest.raises(ValueError, match=r"data\.json is damaged.*Nothing was changed"):
            identity.check(tmp_path, identity.of(study()))
