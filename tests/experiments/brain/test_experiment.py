"""The whole brain experiment on folders of tiny volumes: files to maps, tables and pictures."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from support.tiny_brains import cohort, write_nifti

nib = pytest.importorskip("nibabel", reason="the extra [mri] is not installed")

from ocsvm_jax.experiments.brain import experiment  # noqa: E402
from ocsvm_jax.experiments.brain import training as patch_training  # noqa: E402
from ocsvm_jax.files import sole_user  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("standard_promotion")]

ROOT = Path(__file__).parents[3]
SHAPE = (2, 24, 24)
AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, -4], [0, 0, 8, 12], [0, 0, 0, 1]])
COHORTS = ("train", "valid", "controls", "wmh")
SMALL = {
    "seeds": (0,),
    "methods": ("ogae", "minus_z"),
    "data.arms": ("",),
    "data.patients": ("wmh",),
    "data.exclude": "",
    "train.epochs": 1,
    "train.steps": 3,
    "train.locations": 4,
    "eval.resamples": 20,
    "eval.erosion": 1,
}


def made(name):
    return cohort(name, 5, shape=SHAPE, patients=name == "wmh")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of NIfTI files whose first axis runs from right to left, as in many files."""
    folder = tmp_path_factory.mktemp("brains")
    for name in COHORTS:
        write_nifti(folder / name, made(name), AFFINE, axes="LAS")
    return folder


def card(root, **changes):
    config = runpy.run_path(str(ROOT / "configs" / "brain.py"))["get_config"]()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(SMALL | {"data.dir": str(root)} | changes)
    return config


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory, standard_promotion):
    workdir = tmp_path_factory.mktemp("run") / "new"
    results = experiment.main(card(root), workdir, "the command")
    return SimpleNamespace(workdir=workdir, results=results)


def contents(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


def run_of(results, method):
    (run,) = [run for run in results["runs"] if run["method"] == method]
    return run


@pytest.mark.slow
def test_what_is_written(finished):
    workdir, results = finished.workdir, finished.results
    assert json.loads((workdir / "results.json").read_text()) == results
    assert results["command"] == "the command"
    assert results["data"] == {
        "subjects": dict.fromkeys(COHORTS, 5),
        "locations": int((made("train").masks.mean(axis=0) >= 0.5).sum()),
        "slices": 2,
        "synthetic": None,
    }
    assert [run["method"] for run in results["runs"]] == ["ogae", "minus_z"]
    assert list(run_of(results, "ogae")["scores"]) == ["-f", "log"]
    assert len(run_of(results, "ogae")["history"]) == 1
    assert run_of(results, "minus_z")["history"] == []
    assert [run["facts"] for run in results["runs"]] == 2 * [results["facts"]]
    for method in ("ogae", "minus_z"):
        stored = json.loads((workdir / "runs" / f"{method}-seed0" / "result.json").read_text())
        assert stored == run_of(results, method)
    report = (workdir / "report.html").read_text()
    assert report.startswith("<!DOCTYPE html>") and "the command" in report
    assert "OgAE" in report and "synthetic" not in report.split("Configuration in full")[0].lower()
    assert "## Localisation" in (workdir / "table.md").read_text()


def minus_z():
    """Score volumes (n, z, x, y) of the patients, by NumPy."""
    train, patients = made("train"), made("wmh")
    images, test = (
        np.stack([scaled(i, m) for i, m in zip(c.images, c.masks, strict=True)])
        for c in (train, patients)
    )
    values = np.where(train.masks, images.astype(np.float64), np.nan)
    mean, sd = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    return (mean - test) / np.maximum(sd, 0.01)


def scaled(image, mask):
    return np.where(mask, np.clip(image / np.percentile(image[mask], 99.5), 0, 1), 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(Mean of empty slice|Degrees of freedom)")
def test_maps_lie_on_their_images_and_are_what_they_say(finished, root):
    expected, patients = minus_z(), made("wmh")
    locations = made("train").masks.mean(axis=0) >= 0.5
    for i, subject in enumerate(patients.subjects):
        path = finished.workdir / "runs/minus_z-seed0/nifti/wmh" / f"{subject}_score.nii.gz"
        written = nib.load(path)
        source = nib.load(root / "wmh" / f"{subject}_T1.nii.gz")
        assert nib.aff2axcodes(written.affine) == ("L", "A", "S")
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape
        volume = np.moveaxis(nib.as_closest_canonical(written).get_fdata(), 2, 0)
        inside = patients.masks[i] & locations
        np.testing.assert_allclose(volume[inside], expected[i][inside], rtol=1e-3, atol=1e-3)
        assert not volume[~inside].any()
    folder = finished.workdir / "runs/ogae-seed0/nifti"
    assert sorted(path.name for path in folder.iterdir()) == ["controls", "valid", "wmh"]
    names = {path.name for path in (folder / "wmh").iterdir()}
    assert names == {f"wmh-{i}_{score}.nii.gz" for i in range(5) for score in ("minus-f", "log")}


@pytest.mark.slow
def test_measures_are_those_of_the_maps_on_disk(finished):
    patients = made("wmh")
    locations = made("train").masks.mean(axis=0) >= 0.5
    for method, score, label in (("minus_z", "score", "score"), ("ogae", "-f", "minus-f")):
        found = run_of(finished.results, method)["scores"][score]
        raw = found["patients"]["wmh"]["raw"]
        for i, subject in enumerate(patients.subjects):
            folder = finished.workdir / "runs" / f"{method}-seed0" / "nifti" / "wmh"
            image = nib.as_closest_canonical(nib.load(folder / f"{subject}_{label}.nii.gz"))
            inside = patients.masks[i] & locations
            values = np.moveaxis(np.asarray(image.dataobj), 2, 0)[inside]
            labels = patients.lesions[i][inside]
            assert raw["AUROC"][i] == pytest.approx(roc_auc_score(labels, values))
            assert raw["AUPR"][i] == pytest.approx(average_precision_score(labels, values))
            assert raw["prevalence"][i] == pytest.approx(labels.mean())
            predicted = values > found["thresholds"]["raw"]
            dice = 2 * (predicted & labels).sum() / (predicted.sum() + labels.sum())
            assert raw["Dice at 1%"][i] == pytest.approx(dice)
            assert found["images"]["wmh"][i] == pytest.approx(np.percentile(values, 98))
        assert list(found["images"]) == ["controls", "wmh"]


@pytest.mark.slow
def test_a_second_call_repeats_nothing(finished, root, monkeypatch):
    before = contents(finished.workdir / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(patch_training, "train", lambda *_, **__: pytest.fail("trained again"))
        patch.setattr(experiment.maps, "make_maps", lambda *_, **__: pytest.fail("mapped again"))
        again = experiment.main(card(root), finished.workdir, "the command")
    assert again["runs"] == finished.results["runs"]
    assert contents(finished.workdir / "runs") == before


@pytest.mark.slow
def test_a_report_never_loses_runs(finished, root):
    before = contents(finished.workdir)
    with pytest.raises(ValueError, match=r"this call leaves out.*: ogae, seed 0.*Ask for them too"):
        experiment.main(card(root, methods=("minus_z",)), finished.workdir)
    assert contents(finished.workdir) == before


@pytest.mark.slow
def test_one_process_at_a_time(finished, root):
    before = contents(finished.workdir)
    with sole_user(finished.workdir), pytest.raises(ValueError, match="another process is at work"):
        experiment.main(card(root), finished.workdir)
    assert contents(finished.workdir) == before


@pytest.mark.slow
def test_it_may_grow_but_not_change(finished, root, monkeypatch):
    before = contents(finished.workdir)
    with pytest.raises(ValueError, match=r"(?s)train\.steps: 3 there, 4 now.*Nothing was changed"):
        experiment.main(card(root, **{"train.steps": 4}), finished.workdir)
    assert contents(finished.workdir) == before
    monkeypatch.setattr(patch_training, "train", lambda *_, **__: pytest.fail("trained again"))
    methods = ("ogae", "minus_z", "darkness")
    grown = experiment.main(card(root, methods=methods, **{"maps.nifti": "none"}), finished.workdir)
    assert [run["method"] for run in grown["runs"]] == list(methods)
    assert grown["runs"][:2] == finished.results["runs"]
    assert not (finished.workdir / "runs" / "darkness-seed0" / "nifti").exists()
    after = contents(finished.workdir / "runs")
    kept = {path: content for path, content in before.items() if path in after}
    assert {path: after[path] for path in kept} == kept
    assert len(after) > len(kept) > 0


@pytest.mark.slow
def test_nifti_maps_can_be_asked_for_afterwards(finished, root, tmp_path, monkeypatch, capsys):
    """They come from the slices of the finished run, and are those of a run that wrote them."""
    config = card(root, methods=("minus_z",), **{"maps.nifti": "none"})
    experiment.main(config, tmp_path / "w")
    folder = tmp_path / "w" / "runs" / "minus_z-seed0"
    assert not (folder / "nifti").exists()
    monkeypatch.setattr(experiment.maps, "make_maps", lambda *_, **__: pytest.fail("mapped again"))
    config.maps.nifti = "all"
    (folder / "maps").rename(tmp_path / "elsewhere")
    experiment.main(config, tmp_path / "w")
    assert "no NIfTI maps are added" in capsys.readouterr().out
    assert not (folder / "nifti").exists()
    (tmp_path / "elsewhere").rename(folder / "maps")
    experiment.main(config, tmp_path / "w")
    expected = finished.workdir / "runs" / "minus_z-seed0"
    ours, theirs = (
        {path.relative_to(f): path.read_bytes() for path in (f / "nifti").rglob("*.nii.gz")}
        for f in (folder, expected)
    )
    assert len(ours) == 15 and ours == theirs
    lost = next((folder / "nifti" / "wmh").iterdir())
    lost.unlink()
    experiment.main(config, tmp_path / "w")
    assert lost.read_bytes() == ours[lost.relative_to(folder)]


@pytest.mark.slow
def test_data_that_changed_between_two_calls_are_refused(root, tmp_path, monkeypatch):
    """Before any work; an older working directory, without a record of its data, gets one."""
    brains, workdir = tmp_path / "brains", tmp_path / "w"
    shutil.copytree(root, brains)
    config = card(brains, methods=("minus_z",))
    experiment.main(config, workdir)
    monkeypatch.setattr(experiment.maps, "make_maps", lambda *_, **__: pytest.fail("mapped again"))
    before = contents(workdir)
    path = brains / "controls" / "controls-1_T1.nii.gz"
    image = nib.load(path)
    kept, voxels = path.read_bytes(), image.get_fdata()
    voxels[11, 11, 1] += 0.1
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), image.affine), path)
    with pytest.raises(
        ValueError, match=r"other data; .*\n  cohort 'controls': [^\n]*\nPass another"
    ):
        experiment.main(config, workdir)
    assert contents(workdir) == before
    path.write_bytes(kept)
    (workdir / "data.json").unlink()
    older = json.loads((workdir / "config.json").read_text())
    del older["data"]["lesion_outside"]  # a field that is newer than the record of the data
    (workdir / "config.json").write_text(json.dumps(older))
    experiment.main(config, workdir)
    assert (workdir / "data.json").read_bytes() == before[workdir / "data.json"][1]


@pytest.mark.slow
def test_cohorts_behind_links_and_in_folders_of_folders(finished, root, tmp_path):
    """They go by the names of the card, from the first file to the report."""
    names = dict(zip(COHORTS, ("train", "site/valid", "controls", "patients"), strict=True))
    (tmp_path / "brains" / "site").mkdir(parents=True)
    for name, link in names.items():
        (tmp_path / "brains" / link).symlink_to(root / name)
    changes = {"data.held_out": "site/valid", "data.patients": ("patients",)}
    config = card(tmp_path / "brains", methods=("minus_z",), **changes)
    found = run_of(experiment.main(config, tmp_path / "w"), "minus_z")["scores"]["score"]
    expected = run_of(finished.results, "minus_z")["scores"]["score"]
    assert found["thresholds"] == expected["thresholds"]
    assert found["patients"] == {"patients": expected["patients"]["wmh"]}
    assert found["images"]["patients"] == expected["images"]["wmh"]
    written = (tmp_path / "w" / "runs" / "minus_z-seed0" / "nifti").rglob("*_score.nii.gz")
    folders = [path.parent.relative_to(tmp_path / "w/runs/minus_z-seed0/nifti") for path in written]
    assert {str(folder) for folder in folders} == {"site/valid", "controls", "patients"}


@pytest.mark.slow
def test_a_run_killed_among_its_maps_ends_the_same(finished, root, tmp_path, monkeypatch):
    """Trained once, the first slice made once."""
    original, calls = experiment.maps.in_blocks, []

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(experiment.maps, "in_blocks", killed)
    config = card(root, methods=("ogae",))
    with pytest.raises(KeyboardInterrupt):
        experiment.main(config, tmp_path / "w")
    experiment.main(config, tmp_path / "w")
    assert len(calls) == 3
    ours, theirs = (
        json.loads((workdir / "runs" / "ogae-seed0" / "result.json").read_text())
        for workdir in (tmp_path / "w", finished.workdir)
    )
    assert ours["scores"] == theirs["scores"]
    for run in (ours, theirs):
        for epoch in run["history"]:
            del epoch["seconds"], epoch["patches_per_s"]
    assert ours["history"] == theirs["history"]


@pytest.mark.slow
def test_the_command_on_a_folder_without_controls_from_another_directory(root, tmp_path):
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        f"--config={ROOT / 'configs' / 'brain_quick.py'}",
        f"--config.data.dir={root}",
        "--config.data.arms=('',)",
        "--config.data.controls=",
        "--config.data.patients=('wmh',)",
        "--config.data.exclude=",
        "--config.data.slices=(20,)",
        "--config.methods=('minus_z', 'darkness')",
        "--config.maps.nifti=none",
        "--config.eval.erosion=1",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 0, done.stderr
    workdir = tmp_path / "runs" / "brain_quick"
    assert f"report: {workdir.relative_to(tmp_path) / 'report.html'}" in done.stdout
    results = json.loads((workdir / "results.json").read_text())
    assert results["data"]["subjects"] == {"train": 5, "valid": 5, "wmh": 5}
    assert results["data"]["slices"] == 1
    scores = run_of(results, "minus_z")["scores"]["score"]
    assert list(scores["images"]) == ["wmh"]
    # Of the patients, every other one has its lesion on the other slice.
    aurocs = np.array(scores["patients"]["wmh"]["raw"]["AUROC"], float)
    assert np.isnan(aurocs).tolist() == [True, False, True, False, True]
    assert (aurocs[1::2] > 0.9).all()
    assert "brain_quick.py" in (workdir / "report.html").read_text()  # the command
