"""What identifies the data of a working directory, and what is said when they are others."""

import json

import numpy as np
import pytest
from support.tiny_brains import SHAPE, cohort

from ocsvm_jax.data.brain import Space
from ocsvm_jax.experiments.brain import identity
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.experiments.workdir import same_data

AFFINE = np.diag([1.0, 1.0, 8.0, 1.0])
EXCLUDE = np.zeros(SHAPE, bool)


def study(exclude=EXCLUDE, affine=AFFINE, **changes):
    """Two cohorts; `changes` replaces fields of the patients."""
    made = {"train": cohort("train", 3), "wmh": cohort("wmh", 2, patients=True)}
    made["wmh"] = made["wmh"]._replace(**changes)
    return Study(Space((20, 20, 2), affine, (0, 1)), made, {}, exclude)


@pytest.fixture
def workdir(tmp_path):
    same_data(tmp_path, identity.of(study()))
    return tmp_path


def flipped(field):
    array = getattr(cohort("wmh", 2, patients=True), field).copy()
    array[1, 0, 10, 10] = ~array[1, 0, 10, 10] if array.dtype == bool else 0.125
    return array


def test_the_same_data_pass_and_are_written_once(workdir):
    before = (workdir / "data.json").read_bytes()
    assert json.loads(before) == identity.of(study())
    same_data(workdir, identity.of(study()))
    assert (workdir / "data.json").read_bytes() == before


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
        same_data(workdir, identity.of(study(**changes)))


def test_cohorts_that_come_or_go(workdir):
    ours = identity.of(study())
    ours["cohort 'tumour'"] = ours.pop("cohort 'wmh'")
    with pytest.raises(ValueError, match=r"(?s)cohort 'wmh': gone\n.*cohort 'tumour': new\n"):
        same_data(workdir, ours)


def test_what_an_earlier_version_wrote_is_understood(tmp_path):
    ours = identity.of(study())
    cohorts = {name[8:-1]: part for name, part in ours.items() if name.startswith("cohort")}
    space, exclude = list(ours.values())[:2]
    written = {"space": space, "exclude": exclude, "cohorts": cohorts}
    (tmp_path / "data.json").write_text(json.dumps(written))
    same_data(tmp_path, ours)
    with pytest.raises(ValueError, match="cohort 'wmh': its subjects, 1 new, 1 gone"):
        same_data(tmp_path, identity.of(study(subjects=("wmh-0", "wmh-2"))))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(ValueError, match=r"data\.json is damaged.*Nothing was changed"):
        same_data(tmp_path, identity.of(study()))
