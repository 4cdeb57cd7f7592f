"""Cohorts of NIfTI files: what is read and written, and every way in which a file can be wrong."""

import gzip
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocsvm_jax.data import brain, nifti

nib: Any = pytest.importorskip("nibabel", reason="the extra [mri] is not installed")

DATA = Path(os.environ.get("OCSVM_JAX_DATA") or Path(__file__).parents[3] / "shared" / "data")
REAL = DATA / "mslub"
REAL_PATTERNS: dict[str, Any] = {
    "image": "{subject}_T1_MNI.nii.gz",
    "lesion": "{subject}_lesions_MNI.nii.gz",
}

SHAPE = (7, 6, 5)  # x, y, z: all different, so that a mistaken axis shows
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, -4], [0, 0, 8, 12], [0, 0, 0, 1]])
SUBJECTS = ("s01", "s02", "s10")


def write(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE, axes: str = "RAS") -> Path:
    """Writes a volume given in canonical orientation, with the axes of the file as named."""
    image = nib.Nifti1Image(volume, affine)
    there = nib.orientations.axcodes2ornt(tuple(axes))
    image = image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), there)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def make(seed: int) -> dict[str, np.ndarray]:
    """The three volumes of a subject: an image that is 0 outside the brain, brain and lesion."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, 1:-1] = 1
    image = rng.uniform(5, 9, SHAPE).astype(np.float32) * mask
    return {"T1": image, "mask": mask, "lesion": mask * (rng.random(SHAPE) < 0.2)}


ARRAYS = {subject: make(seed) for seed, subject in enumerate(SUBJECTS)}


def write_cohort(folder: Path, kinds=("T1", "mask", "lesion"), **options) -> Path:
    for subject, arrays in ARRAYS.items():
        for kind in kinds:
            write(folder / f"{subject}_{kind}.nii.gz", arrays[kind], **options)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the cohort "wmh" of three patients."""
    write_cohort(tmp_path / "wmh")
    return tmp_path


def zxy(volume: np.ndarray) -> np.ndarray:
    return np.stack([volume[:, :, k] for k in range(volume.shape[2])])


def test_what_was_written_is_read(root):
    cohort, space = brain.read_cohort(root, "wmh", intensity="none", progress=False)
    assert (cohort.name, cohort.subjects, cohort.has_lesions) == ("wmh", SUBJECTS, True)
    assert space.shape == SHAPE and space.slices == (0, 1, 2, 3, 4)
    np.testing.assert_array_equal(space.affine, AFFINE)
    assert [a.dtype for a in cohort[2:5]] == [np.float32, bool, bool]
    for i, arrays in enumerate(ARRAYS.values()):
        np.testing.assert_array_equal(cohort.images[i], zxy(arrays["T1"]))
        np.testing.assert_array_equal(cohort.masks[i], zxy(arrays["mask"]))
        np.testing.assert_array_equal(cohort.lesions[i], zxy(arrays["lesion"]))


def test_a_link_keeps_its_name(root):
    (root / "alias").symlink_to(root / "wmh")
    assert brain.read_cohort(root, "alias")[0].name == "alias"
    assert brain.read_cohort(root / "alias", "")[0].name == "wmh"


def test_slices_are_chosen_by_millimetres_and_lie_from_inferior_to_superior(root):
    whole, _ = brain.read_cohort(root, "wmh")
    some, space = brain.read_cohort(root, "wmh", slices_mm=(36, 20.0))
    assert space.slices == (1, 3)
    for of_whole, of_some in zip(whole[2:5], some[2:5], strict=True):
        np.testing.assert_array_equal(of_some, of_whole[:, [1, 3]])
    # The same values, although the largest of a volume may lie in another slice.
    assert (some.images.max((1, 2, 3)) < 1).any()
    again, _ = brain.read_cohort(root, "wmh", space=space)
    np.testing.assert_array_equal(again.images, some.images)


@pytest.mark.parametrize("axes", ["LAS", "LPI", "PIR", "SLA"])
def test_the_order_of_the_axes_in_a_file_does_not_matter(root, axes):
    write_cohort(root / "turned", axes=axes)
    expected, space = brain.read_cohort(root, "wmh")
    cohort, turned = brain.read_cohort(root, "turned", slices_mm=())
    np.testing.assert_allclose(turned.affine, space.affine, atol=1e-12)
    assert turned.shape == space.shape
    for mine, other in zip(cohort[2:5], expected[2:5], strict=True):
        np.testing.assert_array_equal(mine, other)
    header = nifti.read_header(root / "turned" / "s01_T1.nii.gz")
    assert nib.aff2axcodes(header.file_affine) == tuple(axes)


def subject(folder: Path, image: np.ndarray, mask: np.ndarray | None = None) -> Path:
    write(folder / "a_T1.nii.gz", image)
    if mask is not None:
        write(folder / "a_mask.nii.gz", mask)
    return folder


def test_intensities(tmp_path):
    image = np.full(SHAPE, 50.0, np.float32)  # a skull, brighter than what it holds
    mask = np.zeros(SHAPE, np.uint8)
    image[2, 1:5, 3] = [-2, 0, 6, 8]
    mask[2, 1:5, 3] = 255
    subject(tmp_path, image, mask)
    for intensity, inside in {
        "minmax": [0, 0.2, 0.8, 1],
        # Linear interpolation between the two largest: 6 + 2 * (3 * .995 - 2) = 7.97
        "percentile": [0, 0, 6 / 7.97, 1],
        "none": [-2, 0, 6, 8],
    }.items():
        cohort, _ = brain.read_cohort(tmp_path, "", intensity=intensity)
        expected = np.zeros((1, 5, 7, 6))
        expected[0, 3, 2, 1:5] = inside
        np.testing.assert_allclose(cohort.images, expected, atol=1e-6, err_msg=intensity)
        assert cohort.masks.sum() == 4 and cohort.masks[0, 3, 2, 1:5].all()


def test_without_mask_files_the_brain_is_where_the_image_is_not_zero(tmp_path):
    write_cohort(tmp_path / "bare", kinds=("T1",))
    cohort, _ = brain.read_cohort(tmp_path, "bare")
    assert not cohort.has_lesions and not cohort.lesions.any()
    np.testing.assert_array_equal(cohort.masks[1], zxy(ARRAYS["s02"]["mask"]))


def test_a_lesion_file_may_be_empty(root):
    write(root / "wmh" / "s02_lesion.nii.gz", np.zeros(SHAPE, np.uint8))
    cohort, _ = brain.read_cohort(root, "wmh")
    assert cohort.has_lesions
    assert [lesion.any() for lesion in cohort.lesions] == [True, False, True]


def test_integers_with_a_slope_are_read_as_what_they_stand_for(tmp_path):
    image = nib.Nifti1Image(ARRAYS["s01"]["T1"], AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a_T1.nii.gz")
    cohort, _ = brain.read_cohort(tmp_path, ".", intensity="none")
    step = 9 / 2**16
    np.testing.assert_allclose(cohort.images[0], zxy(ARRAYS["s01"]["T1"]), atol=step)


def test_lesions_outside_the_brain_can_be_cut_off(root):
    lesion = ARRAYS["s02"]["lesion"].copy()
    lesion[0, :3, 0] = 1
    path = write(root / "wmh" / "s02_lesion.nii.gz", lesion)
    message = (
        f"{path} has 3 of {np.count_nonzero(lesion)} voxels outside the brain.*s02_mask.*'clip'"
    )
    with pytest.raises(ValueError, match=message):
        brain.read_cohort(root, "wmh")
    cohort, _ = brain.read_cohort(root, "wmh", lesion_outside="clip")
    np.testing.assert_array_equal(cohort.lesions[1], zxy(ARRAYS["s02"]["lesion"]))


def test_patterns(tmp_path):
    names = {
        "{subject}/anat/{subject}_T1w.nii.gz": ("x1/anat/x1_T1w.nii.gz", "x1/anat/x2_T1w.nii.gz"),
        "T1[{subject}].nii.gz": ("T1[x1].nii.gz", "T11.nii.gz"),
        "{subject}_T1.nii.gz": ("x1_T1.nii.gz", "._x1_T1.nii.gz"),
        "{subject}.nii.gz": ("x1.nii.gz", "x1_mask.nii.gz"),
    }
    for i, (image, (is_one, is_none)) in enumerate(names.items()):
        for name in (is_one, is_none):
            path = tmp_path / str(i) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (found,) = brain.find(tmp_path, str(i), image=image)
        assert found[:2] == ("x1", tmp_path / str(i) / is_one)
        assert found.mask == (tmp_path / "3" / "x1_mask.nii.gz" if i == 3 else None)
        assert found.lesion is None


def test_subjects_are_sorted_and_companions_can_be_left_out(root):
    files = brain.find(root, "wmh", mask="")
    assert [f.subject for f in files] == list(SUBJECTS)
    assert all(f.mask is None and f.lesion is not None for f in files)
    assert brain.find(root / "wmh", "") == brain.find(root / "wmh", ".") == brain.find(root, "wmh")


MASK = ARRAYS["s02"]["mask"]
T1 = ARRAYS["s02"]["T1"]


def replaced(volume: np.ndarray, **options):
    return lambda path: write(path, volume, **options)


def changed(volume: np.ndarray, value: float):
    volume = volume.astype(np.float32)
    volume[3, 3, 3] = value
    return replaced(volume)


def moved(*offset: float):
    affine = AFFINE.copy()
    affine[:3, 3] += offset
    return lambda path: write(path, T1, affine)


def rotated(degrees: float):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return lambda path: write(path, T1, turn @ AFFINE)


def cut(count: int):
    return lambda path: os.truncate(path, path.stat().st_size - count)


def without_orientation(path: Path):
    image = nib.Nifti1Image(T1, None)
    image.header.set_sform(None, code=0)
    nib.save(image, path)


def flat(path: Path):
    image = nib.Nifti1Image(T1, None)
    image.header["sform_code"] = 2
    image.header["srow_x"], image.header["srow_y"] = AFFINE[:2]
    nib.save(nib.Nifti1Image(T1, None, image.header), path)


def wrong_checksum(path: Path):
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # gzip ends in four bytes of CRC and four of length
    path.write_bytes(bytes(content))


def unzipped_short(path: Path):
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-1]))


COLOURS = np.zeros(SHAPE, [(c, np.uint8) for c in "RGB"])


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("T1", replaced(T1[1:]), r"has the shape \(6, 6, 5\).*\(7, 6, 5\) is expected.*Resample"),
        ("lesion", replaced(MASK[:, 1:]), r"has the shape \(7, 5, 5\)"),
        ("T1", moved(0, 2e-3, 0), "has the affine.*is expected.*Resample"),
        ("mask", replaced(MASK, affine=AFFINE * [1, 1, -1, 1]), "has the affine.*is expected"),
        ("T1", rotated(1), "lies obliquely.*Resample"),
        ("T1", rotated(45), "lies obliquely.*Resample"),
        ("T1", flat, "does not define a voxel grid"),
        ("T1", without_orientation, "sform and qform codes are 0"),
        ("T1", replaced(np.stack([T1, T1], -1)), r"is 4-D, of shape \(7, 6, 5, 2\).*index_img"),
        ("T1", replaced(T1.astype(np.complex64)), "complex64; it must hold real numbers"),
        ("T1", replaced(COLOURS), "it must hold real numbers"),
        ("T1", changed(T1, np.nan), "NaN or infinity in 1 of 210 voxels.*nan_to_num"),
        ("T1", changed(T1, np.inf), "NaN or infinity in 1 of 210 voxels"),
        ("T1", replaced(T1 * 0 + 7), "cannot be scaled by intensity='minmax'.*from 7 to 7"),
        ("mask", replaced(MASK * 0), "is empty: it has no voxel in the whole volume"),
        ("mask", changed(MASK, 0.5), r"is not binary: it holds 3 different values \(0, 0.5, 1\)"),
        ("mask", changed(MASK, np.nan), "is not binary.*nan"),
        ("lesion", changed(MASK, 4), r"is not binary.*\(0, 1, 4\).*Choose the labels"),
        ("lesion", replaced(T1 * MASK), r"is not binary.*, \.\.\.\)"),
        ("T1", cut(40), "cannot be read.*Copy or download it again"),
        ("T1", cut(8), "cannot be read.*Copy or download it again"),
        ("lesion", cut(10), "cannot be read"),
        ("T1", wrong_checksum, "cannot be read.*CRC"),
        ("T1", unzipped_short, "cannot be read.*could the file be damaged"),
        ("T1", lambda p: os.truncate(p, 60), r"\(60 bytes\) cannot be read"),
        ("mask", lambda p: p.write_bytes(b""), r"\(0 bytes\) cannot be read"),
        ("T1", lambda p: p.write_bytes(b"<html>not found</html>" * 99), "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(root, kind, damage, message):
    path = root / "wmh" / f"s02_{kind}.nii.gz"
    damage(path)
    with pytest.raises(ValueError, match=f"(?s){path.name}.*({message})"):
        brain.read_cohort(root, "wmh")


@pytest.mark.parametrize("module", ["load", "read_bytes"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(root, monkeypatch, module):
    """A copy or another download would not help."""

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(*((nib, "load") if module == "load" else (Path, "read_bytes")), forbidden)
    with pytest.raises(PermissionError, match=r"Permission denied.*\.nii\.gz"):
        brain.read_cohort(root, "wmh")


def test_a_file_of_another_format_is_named(tmp_path):
    nib.save(nib.MGHImage(T1, AFFINE), tmp_path / "a.mgz")
    with pytest.raises(ValueError, match=r"a.mgz is a MGHImage; convert it to .nii.gz"):
        brain.read_cohort(tmp_path, "", image="{subject}.mgz")


def test_an_affine_may_differ_by_rounding(root):
    before, _ = brain.read_cohort(root, "wmh")
    moved(0, 5e-4, 0)(root / "wmh" / "s02_T1.nii.gz")
    after, _ = brain.read_cohort(root, "wmh")
    assert after.subjects == before.subjects
    np.testing.assert_array_equal(after.images, before.images)


def test_a_mask_may_be_empty_in_slices_that_are_not_read(root):
    mask = MASK.copy()
    mask[:, :, 2] = 0
    path = write(root / "wmh" / "s02_mask.nii.gz", mask)
    write(root / "wmh" / "s02_lesion.nii.gz", mask)
    brain.read_cohort(root, "wmh", slices_mm=(20,))
    with pytest.raises(ValueError, match=f"{path} is empty.*in the slices that are read"):
        brain.read_cohort(root, "wmh", slices_mm=(28,))


def test_an_image_of_zeros_is_an_empty_mask(tmp_path):
    path = write(tmp_path / "a_T1.nii.gz", T1 * 0)
    with pytest.raises(ValueError, match=rf"the mask of {path} \(voxels that are not 0\) is empty"):
        brain.read_cohort(tmp_path, "")


def test_headers_alone_are_checked_first(root):
    files = brain.find(root, "wmh")
    cut(20)(files[0].image)  # its header is whole
    brain.check(files, brain.read_space(files))
    moved(1, 0, 0)(files[2].image)
    with pytest.raises(ValueError, match=r"s10_T1.nii.gz has the affine"):
        brain.read_cohort(root, "wmh")


@pytest.mark.parametrize("kind", ["mask", "lesion"])
def test_files_of_some_subjects_only_are_refused(root, kind):
    (root / "wmh" / f"s02_{kind}.nii.gz").unlink()
    with pytest.raises(ValueError, match=rf"wmh: 1 of 3 subjects have no {kind} file \(s02\)"):
        brain.read_cohort(root, "wmh")


def test_slices_that_are_not_there(root):
    path = root / "wmh" / "s01_T1.nii.gz"
    with pytest.raises(ValueError, match=f"{path} has no slice at z = 13 mm.*12, 20, 28, 36, 44"):
        brain.read_space(path, (12, 13))
    with pytest.raises(ValueError, match=r"slices_mm=\(12, 12.0\) contains a slice twice"):
        brain.read_space(path, (12, 12.0))
    path = write(root / "tall.nii.gz", np.zeros((2, 2, 30), np.float32))
    with pytest.raises(ValueError, match="There are 30, from 12 to 244 mm, every 8 mm"):
        brain.read_space(path, (13,))
    space = brain.read_space(root / "wmh" / "s01_T1.nii.gz")
    with pytest.raises(ValueError, match="and space both choose slices"):
        brain.read_cohort(root, "wmh", space=space, slices_mm=(12,))


def test_cohorts_and_files_that_are_not_there(root, tmp_path):
    write_cohort(root / "controls", kinds=("T1",))
    (root / ".hidden").mkdir()
    message = (
        r"unknown cohort in .*: 'control'. Did you mean 'controls'\? Available: controls, wmh\."
    )
    with pytest.raises(ValueError, match=message):
        brain.find(root, "control")
    with pytest.raises(ValueError, match=r"Available: '\.' \(the folder itself\)"):
        brain.find(root / "wmh", "wmh")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        brain.find(root / "nowhere", "wmh")
    message = (
        r"no file \{subject\}_T2.nii.gz in .*wmh, which holds s01_T1.*, s01_lesion.* and 4 more"
    )
    with pytest.raises(FileNotFoundError, match=message):
        brain.find(root, "wmh", image="{subject}_T2.nii.gz")
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="which holds nothing"):
        brain.find(root, "empty")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intensity": "min-max"}, "unknown intensity 'min-max'. Did you mean 'minmax'"),
        ({"lesion_outside": "ignore"}, "unknown lesion_outside 'ignore'.*error, clip"),
        ({"image": "T1.nii.gz"}, r"image='T1.nii.gz' lacks \{subject\}"),
        ({"image": ""}, r"image='' lacks \{subject\}"),
        ({"lesion": "{name}.nii.gz"}, r"lesion='\{name\}.nii.gz' lacks \{subject\}"),
    ],
)
def test_options_that_do_not_exist(root, options, message):
    with pytest.raises(ValueError, match=message):
        brain.read_cohort(root, "wmh", **options)


def test_memory_does_not_grow_with_the_volumes(tmp_path):
    shape, voxels = (64, 64, 32), 64 * 64 * 32
    for i in range(8):
        write(tmp_path / f"s{i}_T1.nii.gz", np.arange(voxels, dtype=np.float32).reshape(shape))

    def peak(image: str) -> int:
        tracemalloc.start()
        brain.read_cohort(tmp_path, "", slices_mm=(28,), image=image)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak("{subject}_T1.nii.gz")  # with what is imported on the way
    more = peak("{subject}_T1.nii.gz") - peak("{subject}0_T1.nii.gz")
    assert more < 4 * voxels  # 8 subjects instead of 1 take less than one more volume in float32


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    assert image.header["qform_code"] and np.allclose(image.get_qform(), image.affine, atol=1e-5)
    return np.asarray(image.dataobj), image.affine


def test_a_map_is_written_into_the_whole_grid(root, tmp_path):
    space = brain.read_space(root / "wmh" / "s01_T1.nii.gz", (20, 36))
    scores = np.random.default_rng(0).normal(size=(2, 7, 6))
    path = tmp_path / "maps" / "s01.nii.gz"
    brain.write_map(path, scores, space)
    volume, affine = load(path)
    assert volume.dtype == np.float32 and volume.shape == SHAPE
    np.testing.assert_array_equal(affine, AFFINE)
    np.testing.assert_array_equal(volume[:, :, 1], scores[0].astype(np.float32))
    np.testing.assert_array_equal(volume[:, :, 3], scores[1].astype(np.float32))
    assert not volume[:, :, [0, 2, 4]].any()
    first = path.read_bytes()
    brain.write_map(path, scores, space)
    assert path.read_bytes() == first


@pytest.mark.parametrize("axes", ["LAS", "PIR"])
def test_a_map_takes_the_affine_and_axes_of_the_input(root, tmp_path, axes):
    source = write(root / "a_T1.nii.gz", T1, axes=axes)
    cohort, space = brain.read_cohort(root, "", intensity="none")
    path = tmp_path / "map.nii.gz"
    brain.write_map(path, cohort.images[0], space, like=nifti.read_header(source).file_affine)
    volume, affine = load(path)
    np.testing.assert_array_equal(volume, np.asarray(nib.load(source).dataobj))
    np.testing.assert_array_equal(affine, nib.load(source).affine)
    near = affine + np.eye(4, k=3) * 2**-12  # another subject's, equal up to rounding
    brain.write_map(path, cohort.images[0], space, like=near)
    np.testing.assert_array_equal(load(path)[1], near)
    other = AFFINE.copy()
    other[0, 3] += 1
    with pytest.raises(ValueError, match=r"(?s)map.nii.gz cannot be written like.*on this grid"):
        brain.write_map(path, cohort.images[0], space, like=other)


def test_maps_that_cannot_be_written(root, tmp_path, monkeypatch):
    space = brain.read_space(root / "wmh" / "s01_T1.nii.gz", (20, 36))
    scores = np.ones((2, 7, 6), np.float32)
    path = tmp_path / "maps" / "map.nii.gz"
    with pytest.raises(ValueError, match=r"\(2, 6, 7\); this space has \(2, 7, 6\) \(z, x, y\)"):
        brain.write_map(path, scores.swapaxes(1, 2), space)
    with pytest.raises(ValueError, match=r"map.nii must end in .nii.gz"):
        brain.write_map(path.with_suffix(""), scores, space)
    brain.write_map(path, scores, space)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(gzip, "compress", fail)
    with pytest.raises(OSError, match="disk full"):
        brain.write_map(path, 2 * scores, space)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


WITHOUT_NIBABEL = """
import sys
sys.modules["nibabel"] = None
from ocsvm_jax.data import brain
try:
    brain.read_cohort(sys.argv[1], "wmh")
except ModuleNotFoundError as error:
    print(error)
"""


def test_a_missing_nibabel_is_named(root):
    output = subprocess.check_output([sys.executable, "-c", WITHOUT_NIBABEL, root], text=True)
    assert output == (
        "reading and writing NIfTI files needs nibabel, which is not installed: "
        "pip install 'ocsvm_jax[mri]'\n"
    )


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real brain at {REAL}; set OCSVM_JAX_DATA")
def test_a_real_brain_goes_in_and_its_map_comes_out(tmp_path):
    files = brain.find(REAL, "", **REAL_PATTERNS)
    assert [f.subject for f in files] == ["patient07"]  # of the other patients only masks are there
    t1, lesion = (nib.load(path) for path in (files[0].image, files[0].lesion))
    assert nib.aff2axcodes(t1.affine) == ("L", "A", "S")
    values = t1.get_fdata()[::-1]  # left to right
    inside = values[values != 0]

    whole, _ = brain.read_cohort(REAL, "", **REAL_PATTERNS)
    assert whole.name == REAL.resolve().name and whole.has_lesions
    assert whole.masks.sum() == len(inside)
    assert whole.lesions.sum() == np.count_nonzero(np.asarray(lesion.dataobj)) > 1000
    assert whole.images.min() == 0 and whole.images.max() == 1

    cohort, space = brain.read_cohort(REAL, ".", slices_mm=(12, 20, 28, 36), **REAL_PATTERNS)
    assert space.slices == (84, 92, 100, 108)  # z = index - 72
    scaled = (values - inside.min()) / (inside.max() - inside.min())
    expected = np.where(values != 0, scaled, 0)[:, :, space.slices]
    np.testing.assert_allclose(cohort.images[0], np.moveaxis(expected, 2, 0), atol=1e-6)
    np.testing.assert_array_equal(cohort.lesions, whole.lesions[:, space.slices])

    path = tmp_path / "map.nii.gz"
    affine = nifti.read_header(files[0].image).file_affine
    brain.write_map(path, cohort.images[0], space, like=affine)
    volume, written = load(path)
    np.testing.assert_array_equal(written, t1.affine)
    np.testing.assert_allclose(volume[::-1][:, :, space.slices], expected, atol=1e-6)
