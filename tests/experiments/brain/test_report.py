import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from support.brain_results import COHORTS, FACTS, results, run
from support.html_page import Page

from ocsvm_jax.data.brain import Cohort, Space
from ocsvm_jax.experiments.brain import captions, facts, gallery, maps, pictures, report
from ocsvm_jax.experiments.brain.records import from_json
from ocsvm_jax.experiments.brain.study import Study
from ocsvm_jax.reports import figures

SHAPE = (3, 24, 30)
TESTED = ("valid", "near_controls", "near_wmh", "near_tumour")
# Of each patient, the slice of the lesion and its size; none on slice 1, where no maps are made.
LESIONS = {"near_wmh": [(0, 9), (2, 2), (0, 4), (2, 5)], "near_tumour": [(2, 30), (1, 8), (0, 12)]}


def _cohort(name, generator):
    n = COHORTS[name]
    masks = np.zeros((n, *SHAPE), bool)
    masks[:, :, 3:20, 4:26] = True
    masks[:, :, 3, 4 : 4 + n] = False
    lesions = np.zeros_like(masks)
    for i, (k, size) in enumerate(LESIONS.get(name, ())):
        lesions[i, k, 10, 8 : 8 + min(size, 10)] = True
        lesions[i, k, 11, 8 : 8 + max(size - 10, 0)] = True
    images = np.where(masks, generator.uniform(0.3, 0.8, masks.shape), 0).astype(np.float32)
    subjects = tuple(f"{name}-{i}" for i in range(n))
    return Cohort(name, subjects, images, masks, lesions & masks, name in LESIONS)


def _study():
    generator = np.random.default_rng(0)
    affine = np.diag([1.0, 1.0, 8.0, 1.0])
    affine[2, 3] = -20.0
    cohorts = {name: _cohort(name, generator) for name in COHORTS}
    return Study(Space((24, 30, 9), affine, (4, 5, 6)), cohorts, {}, None)


def _locations():
    where = np.zeros(SHAPE, bool)
    where[[0, 2], 3:20, 4:26] = True
    return where


def _write_maps(workdir, runs, generator):
    """Random scores, and 100 * subject + slice at the voxel (12, 13)."""
    where = _locations()
    count = sum(COHORTS[name] for name in TESTED)
    for one in runs:
        folder = workdir / "runs" / f"{one['method']}-seed{one['seed']}" / "maps"
        folder.mkdir(parents=True)
        for k in (0, 2):
            values = {}
            for score in one["scores"]:
                volume = generator.uniform(size=(*SHAPE[1:], count)).astype(np.float32)
                volume[12, 13] = 100 * np.arange(count) + k
                values[score] = volume[where[k]]
            np.savez(folder / f"slice-{k:03d}.npz", **values)


def _write(workdir, record):
    found = from_json(record)
    drawn = gallery.draw(workdir, found, _study(), _locations())
    made = report.report_of(found, drawn)
    return made.write(workdir, figures=report.FIGURES, markdown="table.md")


def _markdown(record):
    return report.report_of(from_json(record)).markdown()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A working directory with a report over two methods, one of them trained."""
    workdir = tmp_path_factory.mktemp("brain")
    record = results([run("ogae", 0, epochs=3), run("ogae", 1, epochs=3), run("minus_z")])
    _write_maps(workdir, record["runs"], np.random.default_rng(1))
    (workdir / "figures").mkdir()
    for name in ("gallery-old.png", "losses-old.png", "mine.png"):
        (workdir / "figures" / name).write_bytes(b"old")
    path = _write(workdir, record)
    return workdir, record, path


def test_the_order_of_the_columns_is_the_experiments(written):
    assert tuple(from_json(written[1]).design.mapped) == TESTED


def test_the_page_stands_alone_and_escapes(written):
    workdir, record, path = written
    assert path == workdir / "report.html"
    content = path.read_text()
    page = Page(content)
    assert record["command"] in page.text and "<script" not in content
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.attributes("img"))
    assert "http" not in re.sub(r"base64,[^\"]*", "", content)
    assert not page.attributes("a") and not page.attributes("link")
    for said in ("abc-dirty", "two cores", "numpy 2", "5eed" * 16, '"resamples": 50', "c0ffee"):
        assert said in page.text
    assert len(content) < 10_000_000


def test_markdown_has_the_tables_of_the_page(written):
    workdir, _, path = written
    markdown = (workdir / "table.md").read_text()
    rows = [line for line in Page(path.read_text()).rows if len(line) > 1]
    lines = [
        re.sub(r"\\(.)", r"\1", line.strip("| ")).split(" | ")
        for line in markdown.splitlines()
        if line.startswith("|") and "--" not in line and not line.startswith("| *")
    ]
    assert [[c.replace("&lt;", "<") for c in line] for line in lines] == rows
    # A caption above every table.
    parts = markdown.split("\n\n")
    captions_of = [parts[i - 1] for i, part in enumerate(parts) if part.startswith("|")]
    assert len(captions_of) == 11 and all(c.startswith("### ") for c in captions_of)


def test_synthetic_brains_are_said_to_be_synthetic_and_real_ones_are_not(written):
    workdir, record, path = written
    said = captions.SYNTHETIC
    assert "not results on patients" in said
    shown = Page(path.read_text()).text
    assert shown.index(said) < shown.index("Localisation")
    markdown = (workdir / "table.md").read_text()
    assert markdown.index(said) < markdown.index("##")
    assert said in report.text(from_json(record))
    real = results(record["runs"], synthetic=False)
    for text in (report.text(from_json(real)), _markdown(real)):
        assert "synthetic" not in text.lower() and "SHA-256" not in text


def test_files_are_those_of_the_page_and_old_figures_are_gone(written):
    workdir, _, path = written
    names = {p.name for p in (workdir / "figures").iterdir()}
    assert names == {
        "mine.png",
        "losses-ogae.png",
        *(
            f"gallery-near-{kind}-{method}-score.png"
            for kind in ("wmh", "tumour")
            for method in ("ogae", "minus_z")
        ),
    }
    sources = [a["src"].split(",")[1] for a in Page(path.read_text()).attributes("img")]
    files = [(workdir / "figures" / name).read_bytes() for name in names - {"mine.png"}]
    assert sorted(map(base64.b64decode, sources)) == sorted(files)
    assert {p.name for p in workdir.iterdir()} == {"figures", "report.html", "runs", "table.md"}


def test_training_and_costs_are_listed_run_by_run(written):
    page = Page(written[2].read_text())
    trained = [line for line in page.rows if line[:1] == ["OgAE + localised OCSVM"]]
    assert ["OgAE + localised OCSVM", "1", "3", "0.3333", "1.5", "0.5 (epoch 2)"] in trained
    assert ["voxelwise -z", "0", "61.2", "2.0", "3.0", "500"] in page.rows
    assert facts.training(from_json(results([run("minus_z")]))) is None
    assert "Training" not in _markdown(results([run("minus_z")]))


def test_nothing_is_said_of_early_stopping_where_nothing_stops():
    record = results([run("ogae", epochs=3), run("ogae", 1, ["-f", "log"])])
    record["config"]["train"]["patience"] = 0
    assert "early stopping" not in _markdown(record)
    (lines,) = facts.cohorts(from_json(record)).blocks.values()
    assert lines[1][:2] == ["valid", "held-out loss, threshold"]
    trained = facts.training(from_json(record))
    assert trained is not None and trained.header[-2:] == ["held-out loss, last", "its lowest"]
    record["config"]["train"]["patience"] = 5
    (lines,) = facts.cohorts(from_json(record)).blocks.values()
    assert lines[1][:2] == ["valid", "early stopping, threshold"]


def test_where_the_runs_come_from_is_said_of_the_runs():
    """And not of the last start, which may have trained nothing."""
    runs = [run("ogae"), run("ogae", 1), run("minus_z")]
    alike = facts.origin(from_json(results(runs)))
    assert {name: alike[name] for name in FACTS} == FACTS and "note" not in alike
    runs[1]["facts"] = FACTS | {"commit": "def", "machine": "a large one"}
    del runs[2]["facts"]
    found = facts.origin(from_json(results(runs)))
    each = "(1 of 3 runs)"
    assert found["commit"] == f"abc-dirty {each}; def {each}; not recorded {each}"
    assert found["machine"] == f"two cores {each}; a large one {each}; not recorded {each}"
    assert "not known to be all of one commit" in found["note"]
    old = facts.origin(from_json(results(runs[2:])))
    assert old["commit"] == "not recorded; abc-dirty (this report)" and "note" not in old
    assert found["note"] in _markdown(results(runs))


def test_an_experiment_of_cohorts_the_population_does_not_know():
    record = results([run("minus_z")])
    record["data"]["subjects"]["mine"] = 3
    (lines,) = facts.cohorts(from_json(record)).blocks.values()
    assert ["mine", "-", "3", "-", "-", "-"] in lines
    assert ["near_wmh", "test, wmh lesions", "4", "A, B", "0.2500", "c0ffeec0ffee…"] in lines


def test_patients_are_chosen_by_the_lesion_where_maps_are_made():
    study, where = _study(), _locations()
    chosen = gallery.choose(study.cohorts["near_wmh"], where, study)
    assert [one.label.split("\n") for one in chosen] == [
        ["smallest: 2 voxels", "near_wmh-1", "z = +28 mm"],
        ["median: 4 voxels", "near_wmh-2", "z = +12 mm"],
        ["largest: 9 voxels", "near_wmh-0", "z = +12 mm"],
    ]
    assert [(one.number, one.k) for one in chosen] == [(1, 2), (2, 0), (0, 0)]
    # Of tumours, the second lies on the slice without maps.
    chosen = gallery.choose(study.cohorts["near_tumour"], where, study)
    assert [(one.number, one.k) for one in chosen] == [(2, 0), (0, 2)]
    assert gallery.choose(study.cohorts["near_controls"], where, study) == []


def _drawn(monkeypatch, workdir, record):
    """The arguments of every figure, without drawing any."""
    calls = []
    image = io.BytesIO()
    Image.new("RGB", (8, 8), "orange").save(image, format="png")

    def png(draw, *arrays, **options):
        assert draw is pictures.overlay
        calls.append((list(map(np.asarray, arrays)), options))
        return image.getvalue()

    monkeypatch.setattr(gallery.figures, "png", png)
    return gallery.draw(workdir, from_json(record), _study(), _locations()), calls


def test_the_maps_are_the_patients_own(written, monkeypatch):
    workdir, record, _ = written
    shown, calls = _drawn(monkeypatch, workdir, record)
    names = {kind: list(own) for kind, own in shown.items()}
    each = ["OgAE + localised OCSVM", "voxelwise -z"]
    assert names == {"wmh": each, "tumour": each}
    study = _study()
    for (arrays, options), cohort, chosen in zip(
        calls,
        ("near_wmh", "near_tumour") * 2,
        ([(1, 2), (2, 0), (0, 0)], [(2, 0), (0, 2)]) * 2,
        strict=True,
    ):
        images, scores, masks, lesions = arrays
        start = sum(COHORTS[name] for name in TESTED[: TESTED.index(cohort)])
        assert scores[:, 12, 13].tolist() == [100 * (start + i) + k for i, k in chosen]
        assert options["threshold"] == 0.6
        for row, (i, k) in enumerate(chosen):
            np.testing.assert_array_equal(images[row], study.cohorts[cohort].images[i, k])
            np.testing.assert_array_equal(lesions[row], study.cohorts[cohort].lesions[i, k])
            np.testing.assert_array_equal(masks[row], study.cohorts[cohort].masks[i, k])
        assert np.isnan(scores[:, 0, 0]).all() and np.isfinite(scores[masks]).all()


@pytest.mark.parametrize(("pooled", "tolerance"), [(10**9, 1e-5), (2000, 0.05)])
def test_one_scale_of_colours_for_the_arm(written, monkeypatch, pooled, tolerance):
    workdir, record, _ = written
    monkeypatch.setattr(gallery, "_POOLED", pooled)
    _, calls = _drawn(monkeypatch, workdir, record)
    ends = [(options["vmin"], options["vmax"]) for _, options in calls]
    assert ends[0] == ends[1] and ends[2] == ends[3]
    # By hand: all voxels inside the masks of the controls and patients, not of "valid".
    values, study, where = [], _study(), _locations()
    inside = np.concatenate([study.cohorts[name].masks for name in TESTED])
    for k in (0, 2):
        with np.load(workdir / "runs" / "minus_z-seed0" / "maps" / f"slice-{k:03d}.npz") as file:
            scores = file["score"].T
        values.append(scores[2:][inside[2:, k][:, where[k]]])
    expected = np.percentile(np.concatenate(values), (50, 99.5))
    np.testing.assert_allclose(ends[2], expected, atol=tolerance)


def test_what_has_no_maps_is_named_and_maps_of_other_data_are_refused(tmp_path):
    record = results([run("sae"), run("minus_z")])
    path = _write(tmp_path, record)
    named = "Not drawn, no maps or lesions: SAE + localised OCSVM, voxelwise -z."
    assert named in Page(path.read_text()).text
    assert list((tmp_path / "figures").iterdir()) == []
    folder = tmp_path / "runs" / "sae-seed0" / "maps"
    folder.mkdir(parents=True)
    np.savez(folder / "slice-000.npz", score=np.zeros((374, 11), np.float32))
    with pytest.raises(ValueError, match=r"shape \(374, 11\) for slice 0.*\(374, 12\).*other data"):
        _write(tmp_path, record)


def test_slices_are_read_in_order_one_score_at_a_time(written):
    folder = written[0] / "runs" / "ogae-seed0" / "maps"
    found = dict(maps.stored(folder, "score"))
    assert list(found) == [0, 2]
    with np.load(folder / "slice-002.npz") as file:
        np.testing.assert_array_equal(found[2], file["score"])


def test_small_figures_look_like_the_large_ones():
    generator = np.random.default_rng(0)
    noise = np.clip(generator.normal(0.6, 0.1, (1, 60, 70)), 0, 1)
    scores = np.linspace(0, 1, noise.size).reshape(noise.shape)
    options = {"labels": ["a"], "threshold": 0.9, "vmin": 0.0, "vmax": 1.0}
    image = figures.png(pictures.overlay, noise, scores, np.ones(noise.shape, bool), **options)
    small = gallery._small(image)
    before, after = (
        np.asarray(Image.open(io.BytesIO(i)).convert("RGB"), int) for i in (image, small)
    )
    assert before.shape == after.shape and len(small) < 0.6 * len(image)
    difference = np.abs(before - after).max(axis=-1)
    assert difference.mean() < 5 and np.percentile(difference, 99) < 20
    grey = io.BytesIO()
    Image.new("RGB", (20, 20), (90, 90, 90)).save(grey, format="png")
    pixel = Image.open(io.BytesIO(gallery._small(grey.getvalue()))).convert("RGB").getpixel((3, 3))
    assert np.ptp(pixel) == 0 and abs(pixel[0] - 90) <= 5


def test_the_terminal_gets_a_screenful(written):
    lines = report.text(from_json(written[1])).splitlines()
    assert len(lines) < 12 and any("voxelwise -z" in line for line in lines)
