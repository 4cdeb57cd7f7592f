"""train.py and eval.py from end to end, on few epochs of the digits."""

import base64
import contextlib
import csv
import io
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from support.training import without_times

from ocsvm_jax.evaluation import domains, metrics
from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.images import run as image_runs
from ocsvm_jax.experiments.workdir import TRAINING, read_config
from ocsvm_jax.files import sole_user
from ocsvm_jax.model import OCSVM
from ocsvm_jax.training import loop as training

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("standard_promotion")]

ROOT = Path(__file__).parent.parent
train = runpy.run_path(str(ROOT / "train.py"), run_name="train")["main"]
evaluate = runpy.run_path(str(ROOT / "eval.py"), run_name="eval")
OVERRIDES = {
    "train.epochs": 3,
    "train.batch_size": 20,  # a one-class SVM of 10 points compiles fast
    "train.checkpoint_every": 2,
    "method.latent_dim": 4,
    "method.last_m": 3,
    "eval.resamples": 20,
}
SCORES = (
    *("contrast", "contrast+error", "error-contrast", "gaussian", "knn", "last_m", "ocsvm"),
    *("ocsvm-log", "reconstruction"),
)


def small_config(**changes):
    config = runpy.run_path(str(ROOT / "configs" / "digits.py"))["get_config"]()
    config.update_from_flattened_dict(OVERRIDES | changes)
    return config


def contents(directory):
    return {
        str(p.relative_to(directory)): p.read_bytes() if p.is_file() else None
        for p in sorted(directory.rglob("*"))
    }


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def history(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return without_times(map(json.loads, lines))


class Run(NamedTuple):
    workdir: Path
    rows: list[metrics.Row]
    printed: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory, standard_promotion):
    workdir = tmp_path_factory.mktemp("runs") / "new" / "run"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        rows = train(small_config(), workdir, "the command")
    return Run(workdir, rows, out.getvalue())


def test_files(finished):
    names = {p.name for p in finished.workdir.iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "contrast.json",
        "density.npz",
        "domains.npz",
        "data.json",
        "figures",
        "metrics.jsonl",
        "ocsvm.npz",
        "report.html",
        "scores.npz",
    }
    figures = {p.name for p in (finished.workdir / "figures").iterdir()}
    assert figures == {"roc.png", "histograms.png", "losses.png", "latent.png"}
    written = json.loads((finished.workdir / "config.json").read_text())
    assert written.pop("training_version") == TRAINING
    assert written == experiment.plain(experiment.resolved(small_config()))
    assert [entry["epoch"] for entry in history(finished.workdir)] == [1, 2, 3]
    assert [entry["beta2"] for entry in history(finished.workdir)] == [0, 0, 1]


def test_scores_file(finished):
    scores = arrays(finished.workdir / "scores.npz")
    names = ("labels", "corruption", *SCORES)
    assert set(scores) == {f"{split}_{name}" for split in ("val", "test") for name in names}
    for split, n in (("val", 318), ("test", 753)):
        assert all(scores[f"{split}_{name}"].shape == (n,) for name in names)
        assert set(scores[f"{split}_labels"]) == {0, 1}
        assert set(scores[f"{split}_corruption"]) == {"stripe", "canny_edges", "brightness"}
        for name in SCORES:
            values = scores[f"{split}_{name}"]
            assert np.all(np.isfinite(values))
            row = next(r for r in finished.rows if (r.split, r.score) == (split, name))
            assert row.metrics["AUROC"].value == metrics.auroc(scores[f"{split}_labels"], values)
            assert row.n == n


def test_table_and_report(finished):
    assert metrics.format_table(finished.rows) in finished.printed
    assert f"report: {finished.workdir / 'report.html'}" in finished.printed
    page = (finished.workdir / "report.html").read_text()
    assert not re.search(r"https?:|<script|<link|url\(|@import", page)
    images = re.findall(r'src="([^"]*)"', page)
    assert len(images) == 4
    for image in images:
        prefix = "data:image/png;base64,"
        assert image.startswith(prefix)
        assert base64.b64decode(image.removeprefix(prefix)).startswith(b"\x89PNG")
    for fact in ("the command", "348 trained on, 39 held out", "support vectors of 348 latents"):
        assert fact in page


def test_eval_repeats_the_table_exactly(finished, capsys):
    before = contents(finished.workdir)
    rows = evaluate["main"](finished.workdir)
    assert rows == finished.rows
    assert metrics.format_table(finished.rows) in capsys.readouterr().out
    assert contents(finished.workdir) == before


def test_eval_by_another_protocol(finished, capsys):
    rows = evaluate["main"](finished.workdir, protocol="leak_free")
    assert {row.n for row in rows} == {159}
    with pytest.raises(ValueError, match="unknown protocol 'leakfree'"):
        evaluate["main"](finished.workdir, protocol="leakfree")
    with pytest.raises(ValueError, match="reads no directory"):
        evaluate["main"](finished.workdir, data_dir="elsewhere")


@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_eval_of_own_images(finished, tmp_path, capsys, kind):
    """The test images of a run, given as a file, get the scores they got in the run."""
    dataset, _, _ = image_runs.load_data(small_config())
    own = dataset.test.images[5:9]
    np.save(tmp_path / "x.npy", own if kind == "uint8" else own[..., 0] / 255)
    evaluate["score_file"](finished.workdir, tmp_path / "x.npy", tmp_path / "x.csv")
    with open(tmp_path / "x.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    scores = arrays(finished.workdir / "scores.npz")
    assert [line["index"] for line in lines] == ["0", "1", "2", "3"]
    for name in SCORES:
        written = np.array([line[name] for line in lines], np.float32)
        # Up to the last bits: where an image lies in its block may decide how XLA adds up.
        expected = scores[f"test_{name}"][5:9]
        np.testing.assert_allclose(written, expected, rtol=1e-5, atol=1e-6)
    assert f"4 images, scores {', '.join(SCORES)} (" in capsys.readouterr().out


def test_eval_by_domain(finished, tmp_path, capsys):
    """Of the splits and of own images: centred and scaled in groups of the validation images."""
    rows = evaluate["main"](finished.workdir, by_domain=True)
    names = {f"{name}_by_domain" for name in SCORES}
    assert {row.score for row in rows} == {*SCORES, *names}
    dataset, _, _ = image_runs.load_data(small_config())
    scores = arrays(finished.workdir / "scores.npz")
    kept = domains.Domains.load(finished.workdir / "domains.npz")
    own = scores["val_ocsvm"]
    group = domains.group_of(kept.groups, dataset.valid.images)
    expected = np.empty(len(own))
    for i in np.unique(group):
        low, middle, high = np.quantile(own[group == i], (0.25, 0.5, 0.75))
        expected[group == i] = (own[group == i] - middle) / (high - low)
    (row,) = [r for r in rows if r.split == "val" and r.score == "ocsvm_by_domain"]
    area = roc_auc_score(dataset.valid.anomalous, expected)
    assert row.metrics["AUROC"].value == pytest.approx(area, abs=1e-6)

    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    np.save(tmp_path / "x.npy", np.concatenate([noise, dataset.valid.images[:2, ..., 0]]))
    output = tmp_path / "x.csv"
    evaluate["score_file"](finished.workdir, tmp_path / "x.npy", output, by_domain=True)
    with open(output, newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["far"] for line in lines] == ["1", "1", "1", "0", "0"]
    written = [float(line["ocsvm_by_domain"]) for line in lines[3:]]
    np.testing.assert_allclose(written, expected[:2], rtol=1e-3, atol=1e-4)
    assert "3 of 5 images are far from every group" in capsys.readouterr().out


def test_a_run_of_before_there_were_domains(finished, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(finished.workdir, older)
    (older / "domains.npz").unlink()
    (older / "density.npz").unlink()
    scores = {row.score for row in evaluate["main"](older)}
    assert scores == set(SCORES) - {"gaussian", "knn"}
    with pytest.raises(ValueError, match=r"holds no domains\.npz.*Run the same train\.py command"):
        evaluate["main"](older, by_domain=True)


def test_eval_of_own_images_keeps_an_existing_file(finished, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 28, 28), np.uint8))
    (tmp_path / "x.csv").write_text("older scores")
    with pytest.raises(ValueError, match=r"x\.csv exists; pass another --output"):
        evaluate["score_file"](finished.workdir, tmp_path / "x.npy", tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text() == "older scores"


def test_a_finished_run_is_not_trained_again(finished, monkeypatch, capsys):
    workdir = finished.workdir
    kept = ("config.json", "metrics.jsonl", "checkpoints")
    before = {k: v for k, v in contents(workdir).items() if k.startswith(kept)}
    scores = arrays(workdir / "scores.npz")
    with monkeypatch.context() as patch:
        patch.setattr(training, "epoch_function", lambda *_: pytest.fail)
        assert train(small_config(), workdir) == finished.rows
    assert {k: v for k, v in contents(workdir).items() if k.startswith(kept)} == before
    for name, values in arrays(workdir / "scores.npz").items():
        np.testing.assert_array_equal(values, scores[name])


def test_another_configuration_changes_nothing(finished):
    before = contents(finished.workdir)
    with pytest.raises(ValueError, match=r"method\.nu: 0\.03 there, 0\.1 now"):
        train(small_config(**{"method.nu": 0.1}), finished.workdir)
    assert contents(finished.workdir) == before


def test_the_directory_of_a_whole_table_is_not_one_run(tmp_path):
    (tmp_path / "config.json").write_text('{"table": {"seeds": [0]}}')
    with pytest.raises(ValueError, match="holds a whole table, not one run"):
        evaluate["main"](tmp_path)


def test_other_images_in_the_same_place_are_refused(finished, monkeypatch):
    before = contents(finished.workdir)
    load = image_runs.load_data

    def changed(config):
        dataset, train, held_out = load(config)
        images = dataset.test.images.copy()
        images[0, 0, 0, 0] ^= 1
        return dataset._replace(test=dataset.test._replace(images=images)), train, held_out

    monkeypatch.setattr(image_runs, "load_data", changed)
    with pytest.raises(ValueError, match="other data; different now:\n  paper, test\nPass"):
        train(small_config(), finished.workdir)
    assert contents(finished.workdir) == before


def test_two_processes_in_one_directory(finished):
    with sole_user(finished.workdir), pytest.raises(ValueError, match="another process is at work"):
        train(small_config(), finished.workdir)


def test_an_unfinished_run_has_no_table(finished, tmp_path):
    (tmp_path / "config.json").write_bytes((finished.workdir / "config.json").read_bytes())
    with pytest.raises(ValueError, match="holds no checkpoint"):
        evaluate["main"](tmp_path)
    (tmp_path / "checkpoints").symlink_to(finished.workdir / "checkpoints")
    with pytest.raises(ValueError, match=r"holds no ocsvm\.npz: its training was not finished"):
        evaluate["main"](tmp_path)


TRAIN = ["train.py", "--config=configs/digits.py"]
MISTAKES = {
    "no config": (["train.py"], "no --config; start with"),
    "no such config": (["train.py", "--config=configs/digit.py"], "configs/digit.py"),
    "unknown flag": ([*TRAIN, "--wrokdir=x"], "Unknown command line flag 'wrokdir'"),
    "stray argument": ([*TRAIN, "epochs=3"], "unexpected arguments ['epochs=3']"),
    "typo in a field": (
        [*TRAIN, "--config.train.epoch=3"],
        "--config.train.epoch is no field of this configuration. Did you mean 'config.train.epochs",
    ),
    "typo in a section": ([*TRAIN, "--config.tarin.epochs=3"], "Did you mean 'config.train.epochs"),
    "typo, config apart": (
        ["train.py", "--config", "configs/digits.py", "--config.method.mu=1"],
        "Did you mean 'config.method.nu",
    ),
    "field without config": (
        ["train.py", "--config.method.nu=1"],
        "Its fields need --config=configs/NAME.py",
    ),
    "word for a number": ([*TRAIN, "--config.train.epochs=three"], "three"),
    "unknown method": ([*TRAIN, "--config.method.name=ogea"], "Did you mean 'ogae'?"),
    "unknown data": ([*TRAIN, "--config.data.name=digit"], "Did you mean 'digits'?"),
    "unknown corruption": (
        [*TRAIN, "--config.data.test_corruptions=('strip',)"],
        "Did you mean 'stripe'?",
    ),
    "odd batch": ([*TRAIN, "--config.train.batch_size=51"], "train.batch_size is 51"),
    "nu of 0": ([*TRAIN, "--config.method.nu=0.0"], "method.nu is 0.0; it must lie in (0, 1]"),
    "nu of 2": ([*TRAIN, "--config.final.nu=2.0"], "final.nu is 2.0; it must lie in (0, 1]"),
    "gamma": ([*TRAIN, "--config.method.gamma=skale"], "method.gamma is 'skale'"),
    "betas": ([*TRAIN, "--config.method.betas=(1.0, 0.5, 2.0)"], "two finite numbers"),
    "no resamples": ([*TRAIN, "--config.eval.resamples=0"], "eval.resamples is 0"),
    "no such data": (
        ["train.py", "--config=configs/mnistc.py", "--config.data.dir=/no/such/data"],
        "/no/such/data",
    ),
    "eval of nothing": (["eval.py"], "no --workdir"),
    "eval of no run": (["eval.py"], "holds no config.json, so no run of train.py"),
    "output without images": (["eval.py", "--output=x.csv"], "there are no --images"),
    "images and protocol": (["eval.py", "--images=x.npy", "--protocol=paper"], "leave out"),
    "no such images": (["eval.py", "--images=/no/such.npy"], "there is no file /no/such.npy"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Exit code, standard error and working directory of each mistake."""
    directory = tmp_path_factory.mktemp("mistakes")
    workdirs = {name: directory / name.replace(" ", "_") for name in MISTAKES}
    commands = [
        [str(ROOT / script), *(a.replace("configs/", f"{ROOT}/configs/") for a in rest)]
        + [f"--workdir={workdirs[name]}"] * (name != "eval of nothing")
        for name, ((script, *rest), _) in MISTAKES.items()
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "commands.py")],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        timeout=300,
    )
    results = zip(MISTAKES, json.loads(done.stdout), strict=True)
    return {name: (code, stderr, workdirs[name]) for name, (code, stderr) in results}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_in_one_message(answers, name):
    code, stderr, workdir = answers[name]
    assert "Traceback" not in stderr
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("error:") == 1
    assert MISTAKES[name][1] in stderr
    assert not workdir.exists()
    assert not (workdir.parent / "runs").exists()


EPOCHS = 25
COMMAND = [
    sys.executable,
    str(ROOT / "train.py"),
    f"--config={ROOT / 'configs' / 'digits.py'}",
    *(f"--config.{name}={value}" for name, value in OVERRIDES.items()),
    f"--config.train.epochs={EPOCHS}",
]


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(tmp_path):
    """SIGKILL in the middle of the training, then the same command: as if nothing had happened."""
    # What each process compiles, it runs for long.
    changes = {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "false"}
    options = {"cwd": tmp_path, "env": os.environ | changes}

    def finish(workdir):
        command = [*COMMAND, f"--workdir={workdir}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [*COMMAND, f"--workdir={killed}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
    try:
        deadline = time.monotonic() + 240
        while not list((killed / "checkpoints").glob("[1-9]*[02468]")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len((killed / "metrics.jsonl").read_text().splitlines()) < EPOCHS
    assert not (killed / "scores.npz").exists()

    table = finish(killed).split("\n\n")[0].splitlines()[:7]
    assert finish(whole).splitlines()[:7] == table
    assert table[0].split() == ["split", "score", *metrics.METRICS, "n", "anomalous"]

    assert [entry["epoch"] for entry in history(killed)] == list(range(1, EPOCHS + 1))
    assert history(killed) == history(whole)
    for name in ("scores.npz", "ocsvm.npz"):
        first, second = arrays(killed / name), arrays(whole / name)
        assert first.keys() == second.keys()
        for key, values in first.items():
            np.testing.assert_array_equal(values, second[key], err_msg=f"{name}: {key}")
    method = experiment.build_method(read_config(killed))
    runs = [
        training.load(method, (OVERRIDES["train.batch_size"], 28, 28, 1), w)
        for w in (killed, whole)
    ]
    jax.tree.map(np.testing.assert_array_equal, *runs)
    assert OCSVM.load(killed / "ocsvm.npz").rho == OCSVM.load(whole / "ocsvm.npz").rho
