"""Runs on disk: what is trained, what is judged, and what earlier versions wrote."""

import json

import jax
import numpy as np
import pytest

from ocsvm_jax.experiments.table.record import RunRecord
from ocsvm_jax.experiments.table.store import RunStore, Spec

SPEC = Spec("ogae", {"nu": 0.1, "betas": [1.0, 0.0]}, 3, 20, "coarse")
TRAINED = RunRecord(
    *SPEC,
    status="done",
    seconds=1.5,
    epochs_done=2,
    best_epoch=1,
    valid={},
    collapsed=[],
    commit="0123456789ab",
    devices="1 x cpu",
)
JUDGED = TRAINED._replace(
    valid={"paper": {"last_m": {"AUROC": 0.6, "AUPR": 0.7, "AUROC30": 0.5}}},
    collapsed=["distance"],
    unconverged=[],
    dimensions=3.5,
    judged_by=["ocsvm"],
)
STATE = {"weights": np.arange(6.0).reshape(2, 3)}
HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]


@pytest.fixture
def kept(tmp_path):
    RunStore(tmp_path).keep(SPEC, TRAINED, STATE, HISTORY)
    return tmp_path


def files(workdir):
    return {p: p.stat().st_mtime_ns for p in workdir.rglob("*") if p.is_file()}


def test_nothing_is_there_and_asking_writes_nothing(tmp_path):
    store = RunStore(tmp_path / "new")
    assert store.trained(SPEC) is None
    assert store.judged(SPEC) is None
    assert store.every_judged() == {}
    assert not (tmp_path / "new").exists()


def test_a_trained_run_is_not_judged(kept):
    before, store = files(kept), RunStore(kept)
    assert store.trained(SPEC) == TRAINED
    assert store.judged(SPEC) is None
    assert store.every_judged() == {}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), STATE)
    np.testing.assert_array_equal(store.state(SPEC, shapes)["weights"], STATE["weights"])
    assert files(kept) == before
    (history,) = kept.rglob("history.jsonl")
    assert [json.loads(line) for line in history.read_text().splitlines()] == HISTORY


def test_a_judged_run(kept):
    RunStore(kept).keep_judged(SPEC, JUDGED)
    store = RunStore(kept)
    assert store.judged(SPEC) == store.trained(SPEC) == JUDGED
    assert store.judged(SPEC._replace(stage="seeds")) == JUDGED
    assert store.every_judged() == {SPEC.name: JUDGED}
    assert store.judged(SPEC._replace(seed=4)) is None


def test_a_judged_record_is_read_once(kept):
    RunStore(kept).keep_judged(SPEC, JUDGED)
    store = RunStore(kept)
    first = store.judged(SPEC)
    (kept / "runs" / SPEC.name / "run.json").unlink()
    assert store.judged(SPEC) is store.trained(SPEC) is first


def test_files_of_earlier_versions(tmp_path):
    """They hold no commit, no devices and no `judged_by`, and stand without trained.json."""
    directory = tmp_path / "runs" / SPEC.name
    directory.mkdir(parents=True)
    names = "method settings seed epochs stage status seconds epochs_done best_epoch valid"
    content = {"settings" if k == "point" else k: v for k, v in SPEC._asdict().items()}
    content |= {k: getattr(JUDGED, k) for k in names.split() if k not in content}
    (directory / "run.json").write_text(json.dumps(content | {"collapsed": []}))
    found = RunStore(tmp_path).trained(SPEC)
    assert found == JUDGED._replace(
        collapsed=[], commit=None, devices=None, unconverged=None, dimensions=None, judged_by=None
    )


def test_a_record_that_lacks_something(tmp_path):
    directory = tmp_path / "runs" / SPEC.name
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps({"method": "ae"}))
    with pytest.raises(ValueError, match=r"run\.json.* no settings, .* a RunRecord needs method"):
        RunStore(tmp_path).judged(SPEC)
