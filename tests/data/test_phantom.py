"""The synthetic population: a pure function of its seed, paired, and where it says it is."""

import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import interpolate, ndimage, stats

nib = pytest.importorskip("nibabel", reason="nibabel reads the files independently of the package")
pytest.importorskip("nilearn", reason="nilearn carries the template")

from ocsvm_jax.data.phantom import (  # noqa: E402
    PROFILES,
    draw,
    generate,
    plan,
    prepare,
    read_shapes,
    scanner,
    subject,
    warp,
)
from ocsvm_jax.data.phantom.__main__ import main  # noqa: E402
from ocsvm_jax.data.phantom.cohorts import Person, person, streams  # noqa: E402

CI = PROFILES["ci"]
FULL = PROFILES["full"]


@pytest.fixture(scope="module")
def template():
    return prepare(CI)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """A population on disk, and what was returned when it was written."""
    out = tmp_path_factory.mktemp("population")
    return SimpleNamespace(out=out, description=generate(out, profile="ci", progress=False))


@pytest.fixture
def one_person(monkeypatch):
    """Makes everybody equally old, and seen by the same scanner."""

    def fix(age=70.0, scanner_name="B"):
        monkeypatch.setattr(subject, "person", lambda *_: Person(age, scanner_name))

    return fix


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Drawing a subject


def test_a_subject_is_a_pure_function_of_its_arguments(template):
    one = draw(template, "ci", "matched_tumour", 1, 5)
    draw(template, "ci", "matched_wmh", 0, 5)
    assert equal(one, draw(template, "ci", "matched_tumour", 1, 5))
    for other in (("matched_tumour", 1, 6), ("matched_tumour", 2, 5), ("matched_wmh", 1, 5)):
        assert not np.array_equal(one.image, draw(template, "ci", *other).image)


def test_no_stream_of_random_numbers_is_used_twice():
    first, people = [], []
    groups = {cohort.group: cohort for cohort in plan(FULL).values()}
    for seed in (0, 1):
        for cohort in groups.values():
            ageless = cohort._replace(ages=(50.0, 1.0))  # far from the ages that are cut
            for index in range(cohort.size):
                first += [rng.integers(2**62) for rng in streams(cohort, index, seed)]
                people.append(person(ageless, index, seed).age)
    assert len(set(first)) == len(first) == 2 * 285 * 4
    # Groups of one role share their ages at equal indices.
    assert len(set(people)) == 2 * (60 + 15 + 15 + 60)


def test_streams_are_independent(template, monkeypatch):
    """Whatever a lesion draws, the subject and the noise stay as they are, and so on."""
    before = draw(template, "ci", "matched_wmh", 0, 0)
    original = subject.streams

    def with_another(which):
        def replaced(*arguments):
            generators = original(*arguments)
            generators[which] = np.random.default_rng(99)
            return generators

        monkeypatch.setattr(subject, "streams", replaced)
        return draw(template, "ci", "matched_wmh", 0, 0)

    anatomy, settings, lesion, noise = (with_another(which) for which in range(4))
    assert np.array_equal(lesion.without_lesion, before.without_lesion)
    assert not np.array_equal(lesion.lesion, before.lesion)
    for same_anatomy in (settings, noise):
        assert np.array_equal(same_anatomy.mask, before.mask)
        assert np.array_equal(same_anatomy.lesion, before.lesion)
        assert not np.array_equal(same_anatomy.image, before.image)
    assert not np.array_equal(anatomy.mask, before.mask)
    assert not np.array_equal(anatomy.lesion, before.lesion)


@pytest.mark.parametrize("index", range(3))
def test_a_lesion_changes_nothing_outside_of_it(template, index):
    drawn = draw(template, "ci", "matched_wmh", index, 0)
    assert drawn.lesion.any()
    assert np.array_equal(drawn.image[~drawn.lesion], drawn.without_lesion[~drawn.lesion])
    assert not (drawn.lesion & ~drawn.mask).any()
    darker = (drawn.without_lesion - drawn.image)[drawn.lesion]
    assert (darker >= 0).mean() > 0.99  # the magnitude of noise in air could do the opposite
    assert 0.02 < darker.mean() < 0.35
    # Darker than the white matter it lies in, and not darker than fluid.
    healthy = drawn.without_lesion[drawn.lesion].mean()
    assert 0.45 < drawn.image[drawn.lesion].mean() < healthy - 0.02


@pytest.mark.parametrize("index", range(3))
def test_a_tumour_changes_nothing_beyond_what_it_moves(index):
    drawn = draw(prepare(FULL), "full", "matched_tumour", index, 0)
    differs = drawn.image != drawn.without_lesion
    assert not (differs & ~drawn.changed).any()
    assert differs[drawn.lesion].mean() > 0.95
    assert (differs & ~drawn.lesion).any()  # the mass effect
    assert not (drawn.lesion & ~(drawn.mask & drawn.changed)).any()
    assert (drawn.mask & ~drawn.changed).sum() > 0.2 * drawn.mask.sum()


def test_controls_have_no_lesion(template):
    drawn = draw(template, "ci", "matched_controls", 0, 0)
    assert not drawn.lesion.any() and not drawn.changed.any()
    assert np.array_equal(drawn.image, drawn.without_lesion)
    assert drawn.image.dtype == np.float32
    assert not drawn.image[~drawn.mask].any()
    assert np.percentile(drawn.image[drawn.mask], 99.5) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("group", ["controls", "wmh", "tumour"])
def test_arms_show_the_same_people(template, one_person, group):
    """With age and scanner out of the way, arms do not differ at all."""
    one_person()
    cohorts = [f"{arm}_{group}" for arm in ("matched", "confounded", "no_shift")]
    matched, *others = (draw(template, "ci", name, 1, 3) for name in cohorts)
    assert all(equal(matched, other) for other in others)
    tuned = draw(template, "ci", "tune_controls", 1, 3)
    assert not np.array_equal(tuned.without_lesion, matched.without_lesion)


@pytest.mark.parametrize("kind", ["wmh", "tumour"])
def test_lesions_stay_in_their_place_across_arms(template, kind):
    arms = [draw(template, "ci", f"{arm}_{kind}", 2, 0).lesion for arm in ("matched", "no_shift")]
    both = 2 * (arms[0] & arms[1]).sum() / (arms[0].sum() + arms[1].sum())
    assert both > 0.5


def test_prevalence(template):
    """A lognormal(1.1, 1) volume in ml at 8 mm^3 per voxel has mean e^1.6 = 4.95 ml."""
    drawn = [draw(template, "ci", "matched_wmh", i, seed) for seed in range(20) for i in range(4)]
    shares = [d.lesion.sum() / d.mask.sum() for d in drawn]
    brain_ml = prepare(FULL).axes_mm[0].size * 18_733 * 8e-3
    expected = np.exp(1.1 + 0.5) / brain_ml
    # Small pieces are dropped; the standard error of the mean of 80 lognormals is 15%.
    assert 0.5 * expected < np.mean(shares) < 1.4 * expected
    assert min(d.lesion.sum() for d in drawn) >= 4


def test_white_matter_lesions_lie_near_the_ventricles(template):
    far = ndimage.distance_transform_edt(~template.ventricles[0])
    lesions, white = [], []
    for seed in range(10):
        drawn = draw(template, "ci", "no_shift_wmh", 0, seed)
        lesions.append(far[drawn.lesion[0]].mean())
        white.append(far[drawn.without_lesion[0] > 0.85].mean())
    assert np.mean(lesions) < 0.7 * np.mean(white)


def test_ageing_widens_ventricles_and_sulci(template, one_person):
    dark = {}
    near = ndimage.binary_dilation(template.ventricles, iterations=12)
    for age in (30.0, 80.0):
        one_person(age)
        drawn = [draw(template, "ci", "train", index, 0) for index in range(3)]
        fluid = np.array([(d.image < 0.5) & d.mask for d in drawn])
        dark[age] = fluid[:, near].sum(), fluid[:, ~near].sum()
    assert dark[80.0][0] > 2 * dark[30.0][0]
    assert dark[80.0][1] > 1.2 * dark[30.0][1]


def test_ventricles_have_the_size_of_ventricles():
    ventricles = prepare(FULL).ventricles
    # Both sides, and none above the roof.
    assert ventricles[..., :98].any() and ventricles[1, :95].any() and ventricles[1, 103:].any()
    assert not ventricles[3].any()
    assert 8 < 8e-3 * ventricles.sum() < 25  # ml


def test_bad_arguments(template):
    with pytest.raises(ValueError, match="Did you mean 'matched_wmh'"):
        draw(template, "ci", "matched_wmm", 0, 0)
    with pytest.raises(ValueError, match="Available: full, ci"):
        draw(template, "half", "train", 0, 0)
    with pytest.raises(ValueError, match="prepared for 'ci', not 'full'"):
        draw(template, "full", "train", 0, 0)
    for index in (-1, 8):
        with pytest.raises(ValueError, match="subjects 0 to 7"):
            draw(template, "ci", "train", index, 0)


# Who is who


def test_sizes_of_the_full_population():
    sizes = {name: cohort.size for name, cohort in plan(FULL).items()}
    arms = {f"{arm}_{group}" for arm in ("matched", "confounded", "no_shift")
            for group in ("controls", "wmh", "tumour")}  # fmt: skip
    assert sizes == {"train": 60, "valid": 15, "tune_controls": 15, "tune_wmh": 15} | dict.fromkeys(
        arms, 60
    )


def test_the_matched_arm_is_matched_and_the_confounded_one_is_not():
    cohorts = plan(FULL)

    def people(name):
        return [person(cohorts[name], index, 0) for index in range(cohorts[name].size)]

    assert people("matched_controls") == people("matched_wmh") == people("matched_tumour")
    assert {p.scanner for p in people("matched_wmh")} == {"B", "C"}
    assert {p.scanner for p in people("confounded_controls")} == {"B"}
    assert {p.scanner for p in people("confounded_tumour")} == {"C"}
    assert {p.scanner for p in people("no_shift_wmh") + people("train")} == {"A"}
    for name, mean, deviation in (("matched_wmh", 70.1, 9.3), ("no_shift_wmh", 38.0, 11.5)):
        ages = [p.age for p in people(name)]
        assert stats.kstest(ages, stats.norm(mean, deviation).cdf).pvalue > 0.01
    assert people("train") != people("no_shift_controls")


# Fields and scanners


def test_basis_is_that_of_cubic_b_splines():
    positions = np.linspace(-31.3, 52.7, 40)
    ours = warp.basis(positions, 14.0)
    knots = 14.0 * np.arange(int(np.floor(-31.3 / 14)) - 3, int(np.floor(52.7 / 14)) + 5)
    theirs = interpolate.BSpline.design_matrix(positions, knots, 3).toarray()
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_fields_have_the_deviation_that_is_asked_for():
    axes = (np.arange(0, 300, 10.0), np.arange(-100, 200, 10.0), np.arange(-90, 210, 10.0))
    rng = np.random.default_rng(0)
    values = warp.field(rng, axes, spacing=14.0, deviation=2.5, components=2)
    assert values.shape == (2, 30, 30, 30)
    assert values.std() == pytest.approx(2.5, rel=0.05)
    assert np.corrcoef(values[0].ravel(), values[1].ravel())[0, 1] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("name", ["A", "C"])
def test_noise_is_rician(template, name):
    rng = np.random.default_rng(0)
    settings = scanner.draw_settings(rng, scanner.SCANNERS[name], template)
    shape = (2, 200, 200)
    settings = settings._replace(bias=np.ones(shape))
    noise = scanner.draw_noise(rng, settings, shape)
    for level in (0.0, 0.05, 0.3):
        seen = scanner.detected(np.full(shape, level), settings, noise)
        expected = stats.rice(level / settings.noise, scale=settings.noise)
        assert seen.mean() == pytest.approx(expected.mean(), rel=0.02)
        assert seen.std() == pytest.approx(expected.std(), rel=0.03)
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert (abs(neighbours) < 0.01) if name == "A" else (neighbours > 0.3)


# Files


def test_what_is_written_is_what_is_drawn(population, template):
    for cohort in plan(CI).values():
        for index in range(cohort.size):
            stem = f"{population.out}/{cohort.name}/{cohort.subject(index)}"
            kinds = ["T1", "mask"] + ["lesion"] * (cohort.kind != "control")
            images = [nib.load(f"{stem}_{kind}.nii.gz") for kind in kinds]
            assert all(image.shape == (96, 96, 1) for image in images)
    drawn = draw(template, "ci", cohort.name, index, 0)
    written = [np.moveaxis(np.asarray(image.dataobj), 2, 0) for image in images]
    assert written[0].dtype == np.float32 and written[1].dtype == written[2].dtype == np.uint8
    assert equal(written, (drawn.image, drawn.mask, drawn.lesion))
    assert not list(population.out.rglob("*.tmp"))
    assert len(list(population.out.rglob("*.nii.gz"))) == 1 + 53 * 2 + 27


def test_files_lie_where_their_affine_says(population):
    """Training images resemble the template at their MNI coordinates, and not mirrored."""
    from nilearn import datasets

    mni = datasets.load_mni152_template(resolution=1)
    files = [nib.load(path) for path in sorted((population.out / "train").glob("*_T1.nii.gz"))]
    affine = files[0].affine
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    voxels = np.stack(np.meshgrid(*map(np.arange, files[0].shape), indexing="ij"), -1)
    there = nib.affines.apply_affine(np.linalg.inv(mni.affine) @ affine, voxels).astype(int)
    expected = mni.get_fdata()[tuple(np.moveaxis(there, -1, 0))]
    mean = np.mean([file.get_fdata() for file in files], axis=0)
    inside = np.mean([file.get_fdata() > 0 for file in files], axis=0) == 1

    def likeness(image):
        return np.corrcoef(image[inside], expected[inside])[0, 1]

    assert likeness(mean) > 0.75
    for axis, steps in ((0, 3), (0, -3), (1, 3), (1, -3)):
        assert likeness(mean) > likeness(np.roll(mean, steps, axis)) + 0.05
    assert likeness(mean) > likeness(mean[:, ::-1]) + 0.3
    assert set(voxels[0, 0, :, 2]) == {0} and affine[2, 3] == 28


def test_description(population):
    text = json.loads((population.out / "phantom.json").read_text())
    assert text == population.description
    assert text["profile"] == "ci" and text["seed"] == 0 and text["subjects"] == 53
    assert list(text["cohorts"]) == list(plan(CI))
    codes = [part["sha256"] for part in text["cohorts"].values()] + [text["sha256"]]
    assert len(set(codes)) == len(codes)
    lines = (population.out / "participants.tsv").read_text().splitlines()
    rows = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    assert len(rows) == 53
    row = next(r for r in rows if r["cohort"] == "confounded_tumour" and float(r["lesion_ml"]) > 0)
    assert row["scanner"] == "C" and row["group"] == "tumour"
    folder = population.out / row["cohort"]
    lesion, mask = (
        nib.load(folder / f"{row['subject']}_{kind}.nii.gz").get_fdata().sum()
        for kind in ("lesion", "mask")
    )
    assert float(row["lesion_ml"]) == pytest.approx(lesion * 8e-3, abs=1e-3)
    assert float(row["prevalence"]) == pytest.approx(lesion / mask, abs=1e-5)
    assert text["prevalence"]["tumour"] > 3 * text["prevalence"]["wmh"] > 0


def test_a_stopped_run_goes_on(population):
    """Missing and damaged files come back, the others are left alone; two processes agree."""
    out = population.out
    before = {path: path.read_bytes() for path in sorted(out.rglob("*.*"))}
    (out / "train/train-003_T1.nii.gz").unlink()
    (out / "no_shift_tumour/tumour-001_lesion.nii.gz").unlink()
    broken = out / "matched_wmh/wmh-002_T1.nii.gz"
    broken.write_bytes(before[broken][:500])
    for name, content in (("000", b"\xff" * 40), ("001", b"")):
        other = out / f"tune_wmh/tune-wmh-{name}_T1.nii.gz"
        middle = len(before[other]) // 2
        other.write_bytes(before[other][:middle] + content + before[other][middle + 40 :])
    (out / "tune_controls/tune-controls-000_mask.nii.gz").write_bytes(gzip.compress(b"no image"))
    kept = out / "valid/valid-000_T1.nii.gz"
    time = kept.stat().st_mtime_ns
    again = generate(out, profile="ci", workers=2, progress=False)
    assert again == population.description
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.*"))} == before
    assert kept.stat().st_mtime_ns == time


def test_changed_files_are_noticed(population):
    path = population.out / "valid/valid-001_mask.nii.gz"
    original = path.read_bytes()
    content = bytearray(gzip.decompress(original))
    content[352 + 96 * 48 + 48] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    try:
        with pytest.raises(ValueError, match=r"have changed since .*, in valid\. Remove"):
            generate(population.out, profile="ci", progress=False)
    finally:
        path.write_bytes(original)


def test_another_population_is_refused(population, tmp_path):
    with pytest.raises(ValueError, match="profile 'ci', not 'full'"):
        generate(population.out, profile="full", progress=False)
    with pytest.raises(ValueError, match="seed 0, not 1"):
        generate(population.out, profile="ci", seed=1, progress=False)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        generate(tmp_path, profile="ci", progress=False)
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        generate(tmp_path, profile="ci", progress=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_requests_write_nothing(tmp_path):
    for wrong in ({"profile": "cii"}, {"seed": -1}, {"workers": 0}):
        with pytest.raises(ValueError, match=r"Did you mean 'ci'|negative|at least 1"):
            generate(tmp_path / "out", **({"profile": "ci", "progress": False} | wrong))
    assert not (tmp_path / "out").exists()


def test_command_line(population, tmp_path, capsys):
    arguments = ["--profile", "ci", "--seed", "3", "--out"]
    assert main([*arguments, str(tmp_path / "other")]) == 0
    printed = capsys.readouterr().out
    assert "53 subjects" in printed
    assert json.loads((tmp_path / "other/phantom.json").read_text())["sha256"] in printed
    assert population.description["sha256"] not in printed  # another seed
    assert main([*arguments, str(population.out)]) == 2
    assert "another population" in capsys.readouterr().err


# Shapes of real lesions


def write_ball(path, centre_mm, radius_mm):
    """A ball on a 2 mm grid of its own, stored from right to left and from front to back."""
    affine = np.array([[-2.0, 0, 0, 90], [0, -2, 0, 90], [0, 0, 2, -40], [0, 0, 0, 1]])
    voxels = np.stack(np.meshgrid(*map(np.arange, (91, 109, 70)), indexing="ij"), -1)
    away = nib.affines.apply_affine(affine, voxels) - centre_mm
    ball = (np.linalg.norm(away, axis=-1) < radius_mm).astype(np.uint8)
    nib.save(nib.Nifti1Image(ball, affine), path)


def test_real_shapes_are_planted_where_they_were(template, tmp_path):
    write_ball(tmp_path / "a.nii.gz", (-26.0, -14.0, 28.0), 9.0)
    (tmp_path / "notes.txt").write_text("not a mask")
    shapes = read_shapes(tmp_path)
    assert len(shapes) == 1
    centres = []
    for index in range(4):
        drawn = draw(template, "ci", "matched_wmh", index, 0, lesion_shapes=shapes)
        assert 60 < drawn.lesion.sum() < 350  # a disc of 254 voxels, where there is white matter
        assert drawn.without_lesion[drawn.lesion].mean() > 0.8
        voxel = np.argwhere(drawn.lesion).mean(axis=0)[[1, 2, 0]]
        centres.append(nib.affines.apply_affine(template.affine, voxel)[:2])
        other = draw(template, "ci", "matched_wmh", index, 0)
        assert np.array_equal(drawn.without_lesion, other.without_lesion)
    np.testing.assert_allclose(np.mean(centres, axis=0), (-26, -14), atol=4)
    assert np.std(centres, axis=0).min() > 0.3  # warped with each subject


def test_images_beside_the_masks_are_passed_over(tmp_path):
    """By their names: a folder of patients may hold their T1 images too."""
    write_ball(tmp_path / "patient01_lesions_MNI.nii.gz", (-26.0, -14.0, 28.0), 9.0)
    image = nib.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4))
    for name in ("patient01_T1_MNI.nii.gz", "patient02_t1.nii", "T1.nii.gz", "sub-3_T1w.nii.gz"):
        nib.save(image, tmp_path / name)
    (shape,) = read_shapes(tmp_path)
    assert shape.path.name == "patient01_lesions_MNI.nii.gz"
    # What only contains the letters is a mask like any other, and so is a lesion mask of a T1.
    write_ball(tmp_path / "port12.nii.gz", (-26.0, -14.0, 28.0), 8.0)
    write_ball(tmp_path / "patient04_T1_lesion.nii.gz", (-26.0, -14.0, 28.0), 7.0)
    assert [shape.path.name for shape in read_shapes(tmp_path)] == [
        "patient01_lesions_MNI.nii.gz",
        "patient04_T1_lesion.nii.gz",
        "port12.nii.gz",
    ]
    (tmp_path / "patient04_T1_lesion.nii.gz").unlink()
    (tmp_path / "port12.nii.gz").unlink()
    (tmp_path / "patient01_lesions_MNI.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"holds no mask.*images named T1 are ignored"):
        read_shapes(tmp_path)


def test_real_shapes_are_part_of_the_population(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    write_ball(masks / "a.nii.gz", (-26.0, -14.0, 28.0), 9.0)
    out = tmp_path / "out"
    first = generate(out, profile="ci", lesion_masks=masks, progress=False)
    assert first["lesion_masks"] is not None
    with pytest.raises(ValueError, match="lesion_masks"):
        generate(out, profile="ci", progress=False)
    write_ball(masks / "a.nii.gz", (-26.0, -14.0, 28.0), 8.0)
    with pytest.raises(ValueError, match="lesion_masks"):
        generate(out, profile="ci", lesion_masks=masks, progress=False)


def test_unusable_shapes(template, tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        read_shapes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no file that ends in \.nii"):
        read_shapes(tmp_path)
    path = tmp_path / "a.nii.gz"
    for values, complaint in (
        (np.zeros((4, 4, 4), np.uint8), "empty"),
        (np.full((4, 4, 4), 2, np.uint8), "other values than 0 and 1"),
        (np.full((4, 4, 4), np.nan, np.float32), "other values than 0 and 1"),
        (np.ones((4, 4, 4, 2), np.uint8), "must be 3-D"),
    ):
        nib.save(nib.Nifti1Image(values, np.eye(4)), path)
        with pytest.raises(ValueError, match=rf"a\.nii\.gz .*{complaint}"):
            read_shapes(tmp_path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a\.nii\.gz cannot be read"):
        read_shapes(tmp_path)
    write_ball(path, (0.0, 0.0, -30.0), 5.0)
    with pytest.raises(ValueError, match="None of the 1 masks"):
        draw(template, "ci", "matched_wmh", 0, 0, lesion_shapes=read_shapes(tmp_path))
