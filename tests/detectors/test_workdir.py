"""Working directories, warm starts and progress."""

import json

import jax
import numpy as np
import pytest
from support.training import KilledError, without_times

from ocsvm_jax.detectors import AE, OgAE, training
from ocsvm_jax.files import sole_user

# Twenty epochs have a checkpoint after every second.
GIVEN = {"epochs": 20, "batch_size": 20, "n_models": 2}


def killed_after(monkeypatch, epochs):
    """Makes the training end before the checkpoint of the epoch after so many."""
    progress = training._Clock.progress

    def kill(self, number, loss):
        progress(self, number, loss)
        if self._done > epochs:
            raise KilledError

    monkeypatch.setattr(training._Clock, "progress", kill)


@pytest.mark.parametrize("cls", [AE, OgAE])
@pytest.mark.parametrize("after", [7, 27], ids=["first model", "second model"])
def test_an_interrupted_fit_goes_on_to_the_same_bits(cls, after, vectors, tmp_path, monkeypatch):
    x, q = vectors
    expected = cls(**GIVEN).fit(x)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        killed_after(patch, after)
        cls(**GIVEN, workdir=tmp_path / "w").fit(x)
    again = cls(**GIVEN, workdir=tmp_path / "w").fit(x)
    np.testing.assert_array_equal(again.score_samples(q), expected.score_samples(q))
    for found, wanted in zip(again.history_, expected.history_, strict=True):
        assert without_times(found) == without_times(wanted)


def test_a_finished_fit_is_read(vectors, tmp_path, monkeypatch):
    x, q = vectors
    first = AE(**GIVEN, workdir=tmp_path).fit(x)
    lines = (tmp_path / "models-0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 21))
    killed_after(monkeypatch, 40)  # nothing is left to train
    # What does not decide on the training may change.
    again = AE(**GIVEN, workdir=tmp_path, false_alarm=0.2, verbose=True).fit(x)
    np.testing.assert_array_equal(again.score_samples(q), first.score_samples(q))
    assert again.history_ == first.history_


def test_another_fit_is_refused(vectors, tmp_path):
    x, _ = vectors
    AE(**GIVEN, workdir=tmp_path).fit(x)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="holds another fit:\n  seed: 0 there, 3 now\nPass anoth"):
        AE(**GIVEN, workdir=tmp_path, seed=3).fit(x)
    with pytest.raises(ValueError, match="holds another fit:\n  data: other rows\n"):
        AE(**GIVEN, workdir=tmp_path).fit(x[::-1])
    with pytest.raises(ValueError, match="method: 'ae' there, 'ogae' now"):
        OgAE(**GIVEN, workdir=tmp_path).fit(x)
    assert before == {path: path.read_bytes() for path in before}


def test_folders_that_can_not_be_used(vectors, tmp_path):
    x, _ = vectors
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"which is not empty and holds no detector.json"):
        AE(**GIVEN, workdir=tmp_path).fit(x)
    with pytest.raises(ValueError, match="which is a file; pass a new or empty folder"):
        AE(**GIVEN, workdir=tmp_path / "file").fit(x)
    with (
        sole_user(tmp_path / "w"),
        pytest.raises(ValueError, match="another process is at work"),
    ):
        AE(**GIVEN, workdir=tmp_path / "w").fit(x)


def test_a_warm_start_goes_on_from_the_weights(vectors):
    x, _ = vectors
    detector = AE(epochs=30, batch_size=20, warm_start=True, n_models=2).fit(x)
    first, weights = detector.history_, [one.state for one in detector._fitted.ones]
    second = detector.fit(x).history_
    for before, after in zip(first, second, strict=True):
        assert after[0]["loss"] < 0.5 * before[0]["loss"]
        assert [entry["epoch"] for entry in after] == list(range(1, 31))
    # The second fit is the training of another detector from these weights, and nothing else.
    other = AE(epochs=30, batch_size=20, warm_start=True, n_models=2)
    other.fit(x)
    jax.tree.map(np.testing.assert_array_equal, [one.state for one in other._fitted.ones], weights)
    assert without_times(other.fit(x).history_[1]) == without_times(second[1])


def test_a_warm_start_of_another_network(vectors):
    x, _ = vectors
    detector = AE(epochs=1, batch_size=20, warm_start=True).fit(x)
    for changed in ({"latent_dim": 3}, {"n_models": 2}):
        [name] = changed
        with pytest.raises(ValueError, match=f"the last fit had another {name}; set warm_start"):
            detector.set_params(**{"latent_dim": None, "n_models": 1} | changed).fit(x)
    with pytest.raises(ValueError, match="the last fit had another shape"):
        detector.set_params(n_models=1).fit(x[:, :3])


def test_progress(vectors, capsys):
    AE(**GIVEN, verbose=True).fit(vectors[0])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "[AE] compiling, which takes some seconds"
    assert 10 <= len(lines) <= 30
    assert lines[-1].startswith("[AE] epoch 40 of 40, loss 0.")
    AE(**GIVEN).fit(vectors[0])
    assert not capsys.readouterr().out
