"""The one way into a working directory: sole user, same configuration, same data."""

import json
import runpy
from pathlib import Path

import pytest

from ocsvm_jax.experiments import config as cards
from ocsvm_jax.experiments.config import plain, resolved
from ocsvm_jax.experiments.workdir import TRAINING, check, entered, read_config, same_data

ROOT = Path(__file__).parents[2]
DATA = {"training": "a", "paper, test": "b"}


@pytest.fixture
def config():
    """As a run uses it: with the fields of its method, all set."""
    return resolved(runpy.run_path(str(ROOT / "configs" / "digits.py"))["get_config"]())


def contents(directory):
    return {
        str(p.relative_to(directory)): p.read_bytes() if p.is_file() else None
        for p in directory.rglob("*")
    }


def enter(workdir, config, data=DATA, free=()):
    with entered(workdir, config, data, free):
        pass


def test_entering_makes_it_its_own(config, tmp_path):
    workdir = tmp_path / "a" / "b"
    check(workdir, config)
    assert not workdir.exists()
    enter(workdir, config)
    assert sorted(contents(workdir)) == ["config.json", "data.json"]
    read = read_config(workdir)
    assert plain(read) == plain(config)
    assert read.method.gamma == config.method.gamma
    before = contents(workdir)
    enter(workdir, config)
    assert contents(workdir) == before


def test_workdir_of_another_configuration(config, tmp_path):
    enter(tmp_path, config)
    (tmp_path / "scores.npz").write_text("figures")
    before = contents(tmp_path)
    config.method.nu, config.data.normal = 0.5, (3, 4)
    with pytest.raises(ValueError, match="another configuration") as caught:
        enter(tmp_path, config)
    assert "  method.nu: 0.03 there, 0.5 now\n" in str(caught.value)
    assert "  data.normal: [3] there, [3, 4] now\n" in str(caught.value)
    assert str(caught.value).count(" there, ") == 2
    assert contents(tmp_path) == before


def test_a_config_of_before(config, tmp_path):
    """Once a config.json held the fields of all methods: those of others are not looked at."""
    enter(tmp_path, config)
    old = plain(config) | {"training_version": TRAINING}
    old["method"] |= {"kl_weight": 0.1, "similarity": "cosine", "pretrain": 0.5}
    (tmp_path / "config.json").write_text(json.dumps(old))
    before = contents(tmp_path)
    read = read_config(tmp_path)
    assert plain(read) == plain(config)
    cards.check(read)
    enter(tmp_path, config)
    assert contents(tmp_path) == before
    config.method.nu = 0.5
    with pytest.raises(ValueError, match=r"method\.nu: 0\.03 there, 0\.5 now"):
        enter(tmp_path, config)


@pytest.mark.parametrize("version", [None, TRAINING - 1, TRAINING + 1])
def test_runs_of_another_version_of_the_training_do_not_go_on(config, tmp_path, version):
    """The same card would train another model; config.json of before has no version."""
    enter(tmp_path, config)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop("training_version") == TRAINING
    assert written == plain(config)
    other = {} if version is None else {"training_version": version}
    (tmp_path / "config.json").write_text(json.dumps(written | other))
    before = contents(tmp_path)
    message = rf"training version {version or 1}, and this one trains .* version {TRAINING}"
    for function in (enter, check):
        with pytest.raises(ValueError, match=message):
            function(tmp_path, config)
    assert contents(tmp_path) == before
    # It can be read: what was trained can still be evaluated.
    assert plain(read_config(tmp_path)) == plain(config)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_damaged_config(config, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    before = contents(tmp_path)
    for function in (enter, lambda workdir, _: read_config(workdir)):
        with pytest.raises(ValueError, match=r"config\.json is damaged"):
            function(tmp_path, config)
    assert contents(tmp_path) == before


def test_foreign_directories(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"is not empty and holds no config\.json"):
        enter(tmp_path, config)
    with pytest.raises(ValueError, match=r"thesis\.tex is a file"):
        enter(tmp_path / "thesis.tex", config)
    with pytest.raises(ValueError, match=r"holds no config\.json, so no run of train\.py"):
        read_config(tmp_path)
    assert contents(tmp_path) == before


def test_free_fields_keep_their_newest_values(config, tmp_path):
    enter(tmp_path, config)
    config.eval.resamples, config.seed = 7, 3
    enter(tmp_path, config, free=("eval.", "seed"))
    assert read_config(tmp_path).eval.resamples == 7
    with pytest.raises(ValueError, match=r"seed: 3 there, 4 now"):
        config.seed = 4
        check(tmp_path, config, ("eval.",))


def test_the_same_data_elsewhere_are_the_same_data(config, tmp_path):
    """Another spelling of a path, or a folder that has moved, is no other configuration."""
    enter(tmp_path, config)
    config.data.dir = "/elsewhere"
    enter(tmp_path, config)
    assert read_config(tmp_path).data.dir == "/elsewhere"
    before = contents(tmp_path)
    config.data.dir = "/again"
    with pytest.raises(ValueError, match="other data; different now:\n  paper, test\nPass"):
        enter(tmp_path, config, DATA | {"paper, test": "c"})
    assert contents(tmp_path) == before


def test_without_a_record_of_the_data_their_place_must_be_the_same(config, tmp_path):
    enter(tmp_path, config)
    (tmp_path / "data.json").unlink()
    config.data.dir = "/elsewhere"
    with pytest.raises(ValueError, match=r"data\.dir: '' there, '/elsewhere' now"):
        check(tmp_path, config)


def test_what_an_earlier_version_noted_of_images_counts(config, tmp_path):
    enter(tmp_path, config)
    (tmp_path / "data.json").rename(tmp_path / "images.json")
    enter(tmp_path, config)
    (tmp_path / "data.json").unlink()
    with pytest.raises(ValueError, match="training: gone\n  leak_free, test: new\n"):
        enter(tmp_path, config, {"paper, test": "b", "leak_free, test": "d"})


def test_data_that_are_made_inside(config, tmp_path):
    with entered(tmp_path, config, None):
        same_data(tmp_path, DATA)
    assert json.loads((tmp_path / "data.json").read_text()) == DATA
    with (
        entered(tmp_path, config, None),
        pytest.raises(ValueError, match="different now:\n  training"),
    ):
        same_data(tmp_path, DATA | {"training": "z"})
