"""Which cohorts a card means, and what is said when their files are not what they should be."""

import numpy as np
import pytest
from support.tiny_brains import SHAPE, cohort, write_nifti

from ocsvm_jax.data.brain import Space
from ocsvm_jax.experiments.brain import study

nib = pytest.importorskip("nibabel", reason="the extra [mri] is not installed")

AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, -4], [0, 0, 8, 12], [0, 0, 0, 1]])


def data(**changes):
    return study.DataPlan(
        **{
            "train": "train",
            "held_out": "valid",
            "arms": ("",),
            "controls": "controls",
            "patients": ("wmh",),
            "image": "{subject}_T1.nii.gz",
            "mask": "{subject}_mask.nii.gz",
            "lesion": "{subject}_lesion.nii.gz",
            "lesion_outside": "error",
            "exclude": "ventricles.nii.gz",
            "slices": (),
            "intensity": "none",
            "profile": "ci",
            "lesions": "",
            "dir": "",
            "phantom_seed": 0,
            "present": 0.5,
        }
        | changes
    )


@pytest.fixture
def root(tmp_path):
    for name, n in {"train": 3, "valid": 2, "controls": 2, "wmh": 2}.items():
        write_nifti(tmp_path / name, cohort(name, n, patients=name == "wmh"), AFFINE)
    write_excluded(tmp_path)
    return tmp_path


def excluded():
    voxels = np.zeros((*SHAPE[1:], SHAPE[0]), np.uint8)
    voxels[8:11, 9:12, 1] = 1
    return voxels


def write_excluded(root, voxels=None):
    image = nib.Nifti1Image(excluded() if voxels is None else voxels, AFFINE)
    nib.save(image, root / "ventricles.nii.gz")


def test_arms_with_a_prefix():
    near, far = study.arms_of(data(arms=("near", "far"), patients=("wmh", "tumour")))
    expected = study.Arm("near", "near_controls", {"wmh": "near_wmh", "tumour": "near_tumour"})
    assert near == expected
    assert far.name == "far" and far.controls == "far_controls"
    design = study.design_of(data(arms=("near", "far"), held_out="near_controls"))
    # Each once, held out first.
    assert design.mapped == ["near_controls", "near_wmh", "far_controls", "far_wmh"]


def test_one_arm_without_a_prefix():
    assert study.arms_of(data()) == [study.Arm("", "controls", {"wmh": "wmh"})]
    assert study.design_of(data()).mapped == ["valid", "controls", "wmh"]


@pytest.mark.parametrize("arms", [("",), ("near",)])
def test_without_controls(arms):
    (arm,) = study.arms_of(data(arms=arms, controls=""))
    assert arm.controls == ""
    design = study.design_of(data(arms=arms, controls=""))
    assert "" not in design.mapped and len(design.mapped) == 2


def test_what_is_found_is_read(root):
    space, files = study.check(root, data())
    assert list(files) == ["train", "valid", "controls", "wmh"]
    found = study.read(root, data(), space, files)
    assert [len(c.subjects) for c in found.cohorts.values()] == [3, 2, 2, 2]
    assert [c.has_lesions for c in found.cohorts.values()] == [False, False, False, True]
    for name, made in found.cohorts.items():
        assert made.subjects == tuple(f.subject for f in found.files[name])
        expected = cohort(name, len(made.subjects), patients=name == "wmh")
        np.testing.assert_array_equal(made.images, expected.images)
        np.testing.assert_array_equal(made.lesions, expected.lesions)
    np.testing.assert_array_equal(found.exclude, np.moveaxis(excluded(), 2, 0) > 0)


def test_files_are_found_and_their_headers_checked_once(root, monkeypatch):
    found = study.check(root, data())
    for name in ("find", "check", "check_grid"):
        monkeypatch.setattr(study.brain, name, lambda *_, **__: pytest.fail("found again"))
    assert list(study.read(root, data(), *found).cohorts) == ["train", "valid", "controls", "wmh"]


def test_lesions_outside_the_brain_are_refused_or_cut_off_as_the_card_says(root):
    path = root / "wmh" / "wmh-1_lesion.nii.gz"
    image = nib.load(path)
    lesion = np.asarray(image.dataobj).copy()
    lesion[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(lesion, image.affine), path)
    message = r"wmh-1_lesion.* 1 of \d+ voxels outside.*--config\.data\.lesion_outside=clip"
    with pytest.raises(ValueError, match=message):
        study.read(root, data(), *study.check(root, data()))
    card = data(lesion_outside="clip")
    found = study.read(root, card, *study.check(root, card))
    expected = cohort("wmh", 2, patients=True).lesions
    np.testing.assert_array_equal(found.cohorts["wmh"].lesions, expected)


def test_only_the_slices_asked_for_are_read(root):
    card = data(slices=(20,))
    found = study.read(root, card, *study.check(root, card))
    assert found.space.slices == (1,)
    assert found.exclude is not None and found.exclude.shape == (1, *SHAPE[1:])
    assert found.exclude.sum() == 9
    np.testing.assert_array_equal(
        found.cohorts["wmh"].images, cohort("wmh", 2, patients=True).images[:, 1:]
    )


def test_nothing_excluded(root):
    (root / "ventricles.nii.gz").unlink()
    message = r"there is no .*ventricles\.nii\.gz.*--config\.data\.exclude=\"\" to ignore none"
    with pytest.raises(ValueError, match=message):
        study.check(root, data())
    card = data(exclude="")
    assert study.read(root, card, *study.check(root, card)).exclude is None


def test_excluded_voxels_of_another_grid_are_refused_by_their_header(root):
    write_excluded(root, np.zeros((5, 6, 2), np.uint8))
    message = r"ventricles\.nii\.gz has the shape \(5, 6, 2\).*\(20, 20, 2\) is expected"
    with pytest.raises(ValueError, match=message):
        study.check(root, data())
    moved = nib.Nifti1Image(excluded(), AFFINE + 2 * np.eye(4, k=3))
    nib.save(moved, root / "ventricles.nii.gz")
    with pytest.raises(ValueError, match=r"(?s)ventricles\.nii\.gz has the affine.*is expected"):
        study.check(root, data())


def test_excluded_voxels_may_be_stored_in_another_order(root):
    ras, las = (nib.orientations.axcodes2ornt(tuple(axes)) for axes in ("RAS", "LAS"))
    image = nib.Nifti1Image(excluded(), AFFINE)
    turned = image.as_reoriented(nib.orientations.ornt_transform(ras, las))
    nib.save(turned, root / "ventricles.nii.gz")
    found = study.read(root, data(), *study.check(root, data())).exclude
    np.testing.assert_array_equal(found, np.moveaxis(excluded(), 2, 0) > 0)


def test_patients_without_lesion_files(root):
    for path in (root / "wmh").glob("*_lesion.nii.gz"):
        path.unlink()
    message = r"(?s)wmh is a patient cohort, but no file there matches.*lesion.*data\.patients"
    with pytest.raises(ValueError, match=message):
        study.check(root, data())
    # Whoever is not judged needs none, and so do controls.
    study.check(root, data(patients=()))


@pytest.mark.parametrize("field", ["train", "held_out", "controls"])
def test_a_cohort_that_is_not_there(root, field):
    message = r"unknown cohort in .*: 'vallid'.*Did you mean 'valid'\?.*controls, train, valid, wmh"
    with pytest.raises(ValueError, match=message):
        study.check(root, data(**{field: "vallid"}))


def test_a_folder_and_files_that_are_not_there(root):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        study.check(root / "nowhere", data())
    with pytest.raises(FileNotFoundError, match=r"no file \{subject\}_T2\.nii\.gz in"):
        study.check(root, data(image="{subject}_T2.nii.gz"))
    with pytest.raises(ValueError, match="unknown cohort"):
        study.check(root, data(arms=("near",)))


def test_all_cohorts_lie_in_the_space_of_the_training_cohort(root):
    for path in (root / "wmh").iterdir():
        path.unlink()
    (root / "wmh").rmdir()
    moved = AFFINE + 2 * np.eye(4, k=3)
    write_nifti(root / "wmh", cohort("wmh", 2, patients=True), moved)
    with pytest.raises(ValueError, match=r"(?s)wmh-0_T1\.nii\.gz has the affine.*is expected"):
        study.check(root, data())


def test_what_the_synthetic_population_does_not_have(tmp_path):
    card = {"arms": ("matched",), "patients": ("wmh", "tumour")}
    study.check_synthetic(data(**card))
    message = r"unknown cohort 'matchd_controls'\. Did you mean 'matched_controls'"
    with pytest.raises(ValueError, match=message):
        study.check_synthetic(data(arms=("matchd",)))
    with pytest.raises(ValueError, match=r"unknown cohort 'vallid'\. Did you mean 'valid'"):
        study.check_synthetic(data(held_out="vallid", **card))
    with pytest.raises(ValueError, match=r"data\.lesions is .*masks.*no such folder"):
        study.check_synthetic(data(lesions=str(tmp_path / "masks"), **card))


@pytest.mark.parametrize(
    ("millimetres", "slices", "expected"),
    [
        ((1, 1, 8), (0, 1), True),
        ((1, 1, 1), (0, 1, 2), False),
        ((1, 1, 1), (0, 8, 16), True),
        ((1, 1, 1), (4, 5, 7), True),  # the widest gap decides
        ((1, 1, 1.4), (0, 1), False),
        ((3, 3, 3), (0, 1), False),
        ((1, 1, 1), (5,), False),
        ((1, 1, 8), (5,), True),
    ],
)
def test_slices_far_apart_are_filtered_one_by_one(millimetres, slices, expected):
    affine = np.diag([*map(float, millimetres), 1.0])
    affine[:3, 3] = (-90, -126, -72)
    assert study.spaced(Space((9, 9, 30), affine, slices)) is expected
