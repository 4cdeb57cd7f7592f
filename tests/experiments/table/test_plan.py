"""What a card asks for."""

import runpy
from pathlib import Path

import pytest

from ocsvm_jax.experiments.table.plan import plan_of
from ocsvm_jax.experiments.table.rows import ROWS

CARD = Path(__file__).parents[3] / "configs" / "mnistc_table1.py"


@pytest.fixture
def card(monkeypatch):
    monkeypatch.syspath_prepend(str(CARD.parents[1]))
    config = runpy.run_path(str(CARD))["get_config"]()

    def changed(**fields):
        with config.unlocked(), config.ignore_type():
            config.update_from_flattened_dict(fields)
        return plan_of(config)

    return changed


def test_the_card_as_it_is(card):
    plan = card()
    assert plan.title == "mnist_c, 3 against 8"
    assert plan.rows == list(ROWS)
    assert plan.guide == "leak_free"
    assert len(plan.finals) == 6
    assert plan.train.epochs == 20
    assert plan.train.learning_rate == plan.config["train"]["learning_rate"]
    assert plan.crossed("ogae") == ("guidance_weight", "gamma")
    assert list(plan.crossed("dspsvdd")) == ["reconstruction_weight"]
    assert plan.grid("ae") == {}


def test_some_methods_without_ablations(card):
    plan = card(**{"table.methods": ("turned_ogae", "ae"), "table.ablations": False})
    assert plan.methods == ["ae", "turned_ogae"]
    assert [row.name for row in plan.rows_of("turned_ogae")] == [
        "Turned OgAE",
        "Turned OgAE, -f alone",
    ]


def test_defaults_search_no_grid_and_the_first_stage_is_no_longer_than_a_training(card):
    plan = card(**{"table.search": "defaults", "train.epochs": 3, "table.protocols": ("paper",)})
    assert plan.grids == {}
    assert plan.coarse_epochs == 3
    assert plan.guide == "paper"
