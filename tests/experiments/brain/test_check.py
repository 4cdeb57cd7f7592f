"""The cards of the brain experiment, and what is said of values that can not work."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
from ml_collections import ConfigDict

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.experiments.brain import experiment as brain
from ocsvm_jax.experiments.brain import recipes
from ocsvm_jax.experiments.brain.check import check
from ocsvm_jax.experiments.brain.plan import plan_of
from ocsvm_jax.experiments.brain.recipes import RECIPES, TRAINED

ROOT = Path(__file__).parents[3]
CARDS = ("brain", "brain_quick")


def card(name="brain", **changes):
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(changes)
    return config


def settings_of(config, name):
    """The plan of a row: its training, its method, and its one-class SVMs."""
    plan = RECIPES[name].settings(plan_of(config))
    return plan, plan.method, plan.final


def built(config, name):
    plan, _, _ = settings_of(config, name)
    return recipes.method_of(RECIPES[name].method, plan)


@pytest.fixture(autouse=True)
def root_on_the_path(monkeypatch):
    """Cards import one another from the root, where train.py lies and Python looks first."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.parametrize("name", CARDS)
def test_cards(name):
    """Every card passes, names its command, survives config.json, and its networks can be built."""
    text = (ROOT / "configs" / f"{name}.py").read_text()
    assert f"python train.py --config=configs/{name}.py" in text
    config = card(name)
    check(config)
    assert experiment.plain(ConfigDict(experiment.plain(config))) == experiment.plain(config)
    check(ConfigDict(experiment.plain(config)))  # lists in place of tuples
    for name in TRAINED:
        built(config, name)


def test_a_card_is_parsed_once():
    plan, config = plan_of(card()), card()
    assert plan.method.nu == config.method.nu and plan.final.gamma == config.final.gamma
    assert plan.design.mapped[0] == config.data.held_out
    assert [arm.name for arm in plan.design.arms] == list(config.data.arms)
    as_json = plan_of(ConfigDict(experiment.plain(config)))  # lists in place of tuples
    assert as_json.methods == plan.methods and as_json.design == plan.design


def test_the_quick_card_is_the_other_in_small():
    quick, whole = card("brain_quick"), card()
    assert experiment.field_names(quick) == experiment.field_names(whole)
    assert {*quick.methods} <= {*whole.methods}
    assert quick.method == whole.method and quick.final == whole.final
    assert quick.data.profile == "ci"


def test_the_papers_rows_have_the_papers_settings_whatever_the_card_says():
    config = card(**{"method.nu": 0.5, "final.gamma": "scale", "method.order": "norm_activation"})
    _, settings, final = settings_of(config, "ogae_paper")
    assert (settings.nu, settings.gamma, settings.standardize) == (0.03, 0.01, False)
    assert (settings.centre_sd, settings.order) == (0, "activation_norm")
    assert (final.nu, final.gamma, final.scores) == (0.03, 0.01, ("-f",))
    _, settings, final = settings_of(config, "ogae")
    assert (settings.nu, settings.order, final.gamma) == (0.5, "norm_activation", "scale")


@pytest.mark.parametrize("rate", [3e-3, 0.5])
def test_the_papers_rows_train_with_the_papers_learning_rate(monkeypatch, rate):
    rates, adam = [], recipes.optax.adam
    monkeypatch.setattr(recipes.optax, "adam", lambda rate: rates.append(rate) or adam(rate))
    config = card(**{"train.learning_rate": rate})
    for name in TRAINED:
        built(config, name)
    expected = {name: 1e-3 if name.endswith("_paper") else rate for name in TRAINED}
    assert dict(zip(TRAINED, rates, strict=True)) == expected


def test_enough_resamples_for_a_p_of_one_percent_against_all_rivals():
    """The least p of the bootstrap, 1 / resamples, counts once for each rival (Bonferroni)."""
    config = card()
    scores = len(config.final.scores)
    rows = sum(
        1 if name in recipes.TRIVIAL or name.endswith("_paper") else scores
        for name in config.methods
    )
    assert (rows - 1) / config.eval.resamples < 0.01


NOTHING = float("nan")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("methods", ("ogae", "ogea"), r"methods names 'ogea'; it knows .* Did you mean 'ogae"),
        ("methods", (), r"methods is \(\); name one or more, each once"),
        ("methods", ("pca", "pca"), r"methods is \('pca', 'pca'\); name one or more, each once"),
        ("seeds", (), r"seeds is \(\); name one or more"),
        ("seeds", (1, 1), "each once"),
        ("seeds", (-1,), r"seeds is \(-1,\); they must be whole numbers in \[0, 2\^31\)"),
        ("seeds", (2**31,), "they must be whole numbers"),
        ("seeds", (0.5,), "they must be whole numbers"),
        ("data.arms", (), r"data\.arms is \(\); name one or more"),
        ("data.patients", ("wmh", "wmh"), r"data\.patients is .*each once"),
        ("data.held_out", "train", r"data\.train is 'train', and so is data\.held_out"),
        ("data.train", "matched_wmh", r"data\.train is 'matched_wmh'.*a cohort of data\.arms"),
        (
            "data.held_out",
            "matched_controls",
            r"data\.held_out is 'matched_controls', .* data\.arms",
        ),
        (
            "data.held_out",
            "no_shift_wmh",
            r"data\.held_out is 'no_shift_wmh', .* threshold is taken from",
        ),
        ("data.intensity", "min-max", r"data\.intensity is 'min-max'.*Did you mean 'minmax"),
        ("data.lesion_outside", "crop", r"data\.lesion_outside is 'crop'; it is one of .*'clip'"),
        ("data.profile", "fulll", r"data\.profile is 'fulll'.*Did you mean 'full"),
        ("data.phantom_seed", -1, r"data\.phantom_seed is -1; it must be at least 0"),
        ("data.present", 0.0, r"data\.present is 0\.0; it must be a share in \(0, 1\]"),
        ("data.present", 1.5, r"data\.present is 1\.5"),
        ("method.order", "norm", r"method\.order is 'norm'; it is one of"),
        ("method.nu", 0.0, r"method\.nu is 0\.0; it must lie in \(0, 1\]"),
        ("final.nu", 1.1, r"final\.nu is 1\.1"),
        ("final.nu", NOTHING, r"final\.nu is nan"),
        ("method.gamma", "skale", r"method\.gamma is 'skale'; it must be a positive number, \"sc"),
        ("final.gamma", 0.0, r"final\.gamma is 0\.0"),
        ("final.gamma", float("inf"), r"final\.gamma is inf"),
        ("method.guidance_weight", -1.0, r"method\.guidance_weight is -1\.0; it must be finite"),
        ("method.similarity_weight", NOTHING, r"method\.similarity_weight is nan"),
        ("method.centre_sd", -0.5, r"method\.centre_sd is -0\.5; it is a number of pixels"),
        ("method.centre_sd", float("inf"), r"method\.centre_sd is inf"),
        ("method.schedule", "twophase", "schedule is 'twophase'"),
        ("method.betas", (1.0, -1.0), "two finite numbers of at least 0"),
        ("final.scores", ("f",), r"final\.scores names 'f'; it knows \('-f', 'log'\)"),
        ("final.scores", (), r"final\.scores is \(\); name one or more"),
        ("train.learning_rate", 0.0, r"train\.learning_rate is 0\.0; it must be positive"),
        ("train.learning_rate", NOTHING, r"train\.learning_rate is nan"),
        ("train.epochs", 0, r"train\.epochs is 0; it must be at least 1"),
        ("train.steps", 0, r"train\.steps is 0"),
        ("train.locations", 0, r"train\.locations is 0"),
        ("train.patience", -1, r"train\.patience is -1; it must be at least 0"),
        ("train.checkpoint_every", 0, r"train\.checkpoint_every is 0"),
        ("maps.block", -1, r"maps\.block is -1"),
        ("maps.nifti", "first", r"maps\.nifti is 'first'.*Did you mean 'first_seed"),
        ("eval.resamples", 0, r"eval\.resamples is 0"),
        ("eval.erosion", -1, r"eval\.erosion is -1; it must be at least 0"),
        ("eval.median", 4, r"eval\.median is 4; it must be odd and at least 1"),
        ("eval.median", -1, r"eval\.median is -1"),
    ],
)
def test_what_can_not_work_is_said_before_anything_is_written(
    monkeypatch, tmp_path, field, value, message
):
    # Outside of this suite nothing checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        brain.main(card(**{field: value}), tmp_path / "w")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.arms": ("matchd",)}, "unknown cohort 'matchd_controls'. Did you mean"),
        ({"data.lesions": "/no/such/masks"}, r"data\.lesions is '/no/such/masks'"),
        ({"data.dir": "/no/such/brains"}, "/no/such/brains is not a folder"),
    ],
)
def test_data_that_is_not_there_is_said_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        brain.main(card(**changes), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_from_another_directory(tmp_path):
    """The quick card finds its sibling wherever the command is given; mistakes end in one line."""
    (tmp_path / "configs").mkdir()  # the user's own, which must not stand in the way
    (tmp_path / "configs" / "brain.py").write_text("raise RuntimeError")
    command = [sys.executable, str(ROOT / "train.py"), f"--config={ROOT}/configs/brain_quick.py"]
    done = subprocess.run(
        [*command, "--config.methods=('minus_y',)", f"--workdir={tmp_path / 'w'}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: methods names 'minus_y'")
    assert "Did you mean 'minus_z" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "w").exists()
