"""The search, on runs whose figures are made up: what is trained, and what is chosen."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ocsvm_jax.experiments.table import grid, search
from ocsvm_jax.experiments.table.plan import plan_of
from ocsvm_jax.experiments.table.record import RunRecord
from ocsvm_jax.experiments.table.rows import ROWS, Row
from ocsvm_jax.experiments.table.store import Spec

CARD = Path(__file__).parents[3] / "configs" / "mnistc_table1.py"
OCSVM = Row("M + OCSVM", "ogae", "ocsvm", "-f")
LAST = Row("M", "ogae", "last_m", "-f")
FINALS = ("ocsvm gamma=0.1", "ocsvm gamma=0.01")


def plan(**changes):
    config = runpy.run_path(str(CARD))["get_config"]()
    with config.unlocked():
        config.update_from_flattened_dict(
            {
                "table.seeds": (0, 1, 2),
                "table.finalists": 2,
                "table.coarse_epochs": 4,
                "train.epochs": 20,
            }
            | {"table.card_competes": ()}
            | changes
        )
    return plan_of(config)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(CARD.parents[1]))


class Invented:
    """Runs that are never trained: their figures are a function of the spec."""

    def __init__(self, figure, status=lambda spec: "done", collapsed=lambda spec: []):
        self.figure, self.status, self.collapsed = figure, status, collapsed
        self.asked: list[Spec] = []

    def ensure(self, specs):
        self.asked += [spec for spec in specs if spec not in self.asked]
        return [self.record(spec) for spec in specs]

    def record(self, spec):
        status = self.status(spec)
        valid = {
            protocol: {
                name: dict.fromkeys(("AUROC", "AUPR", "AUROC30"), self.figure(spec, name, i))
                for name in (*FINALS, "last_m", "reconstruction")
            }
            for i, protocol in enumerate(("paper", "leak_free"))
        }
        return RunRecord(
            *spec,
            status=status,
            seconds=1.0,
            epochs_done=spec.epochs,
            best_epoch=spec.epochs,
            valid=valid if status == "done" else {},
            collapsed=self.collapsed(spec),
        )


def by_lambda(spec, name, protocol):
    """Best at lambda 0.01 and gamma 0.001; at nu 0.3 among those; with the second final."""
    value = 0.5 - abs(np.log10(spec.point["guidance_weight"]) + 2) / 10
    value -= abs(np.log10(spec.point["gamma"]) + 3) / 100
    value += 0.05 * (spec.point.get("nu") == 0.3)
    return float(value + 0.001 * (name == FINALS[1]) + 0.0001 * spec.seed)


def test_two_stages():
    table, runs = plan(), Invented(by_lambda)
    specs = search.search(table, runs.ensure, "ogae", [OCSVM])
    coarse = [spec for spec in specs if spec.stage == "coarse"]
    assert len(coarse) == 7 * 3
    assert {spec.seed for spec in coarse} == {0}
    assert {spec.epochs for spec in coarse} == {4}
    sweep = [spec for spec in specs if spec.stage == "sweep"]
    # The axes not crossed: standardisation, schedules, nu; around the best point alone, and
    # without the values that the card has, which the best point has already.
    assert len(sweep) == 1 + 4 + 4
    assert all(spec.point["guidance_weight"] == 0.01 for spec in sweep)
    assert all(spec.point["gamma"] == 0.001 for spec in sweep)
    assert sum("nu" in spec.point for spec in sweep) == 4
    seeds = [spec for spec in specs if spec.stage == "seeds"]
    assert len(seeds) == 2 * 3
    assert {spec.epochs for spec in seeds} == {20}
    assert seeds[0].point == {"guidance_weight": 0.01, "gamma": 0.001, "nu": 0.3}

    choice = search.choose(table, runs.ensure, specs, OCSVM, "paper")
    assert choice.point == seeds[0].point
    assert choice.final == "gamma=0.01"
    assert [spec.seed for spec in choice.specs] == [0, 1, 2]
    assert not choice.collapsed
    assert not choice.diverged


def test_both_rows_of_a_method_have_their_finalists():
    def figure(spec, name, protocol):
        return spec.point["guidance_weight"] * (1 if name == "last_m" else -1)

    table, runs = plan(**{"table.finalists": 1}), Invented(figure)
    specs = search.search(table, runs.ensure, "ogae", [OCSVM, LAST])
    seeds = {spec.point["guidance_weight"] for spec in specs if spec.stage == "seeds"}
    assert seeds == {1.0, 1e-6}
    for row, weight in ((OCSVM, 1e-6), (LAST, 1.0)):
        choice = search.choose(table, runs.ensure, specs, row, "paper")
        assert choice.point["guidance_weight"] == weight
        assert (choice.final is None) == (row is LAST)


def test_the_first_stage_never_sees_test_images_of_the_leak_free_protocol():
    def figure(spec, name, protocol):
        # The paper's validation images prefer a large lambda, the leak-free ones a small one.
        return spec.point["guidance_weight"] * (1 if protocol == 0 else -1)

    for protocols, weight in ((("paper", "leak_free"), 1e-6), (("paper",), 1.0)):
        table, runs = (
            plan(**{"table.protocols": protocols, "table.finalists": 1}),
            Invented(figure),
        )
        specs = search.search(table, runs.ensure, "ogae", [OCSVM])
        seeds = {spec.point["guidance_weight"] for spec in specs if spec.stage == "seeds"}
        assert seeds == {weight}


def test_the_card_itself_may_compete():
    table, runs = plan(**{"table.card_competes": ("ogae",)}), Invented(by_lambda)
    specs = search.search(table, runs.ensure, "ogae", [OCSVM])
    seeds = [spec.point for spec in specs if spec.stage == "seeds" and spec.seed == 0]
    # Not among the best, and under the name that the first stage gave it.
    assert seeds[2:] == [{"guidance_weight": 0.001, "gamma": 0.1}]
    assert len(seeds) == 3


def test_full_search_is_the_whole_grid_on_all_seeds():
    table = plan(**{"table.search": "full"})
    specs = search.first_runs(table, "ogae")
    # The paper's grid of 600 points, and its three smaller lambdas, 450 more.
    assert len(specs) == 1050 * 3
    assert len({spec.name for spec in specs}) == 1050 * 3
    assert {spec.epochs for spec in specs} == {20}


def test_defaults_are_the_card_itself():
    table, runs = plan(**{"table.search": "defaults"}), Invented(lambda *_: 0.5)
    specs = search.search(table, runs.ensure, "ogae", [OCSVM])
    assert [spec.point for spec in specs] == [{}] * 3


def test_an_upper_bound_of_the_runs():
    for changes in ({}, {"table.search": "full"}, {"table.search": "defaults"}):
        table = plan(**changes)
        for method, rows in {"ogae": [OCSVM, LAST], "ae": [ROWS[0]], "sae": [ROWS[4]]}.items():
            runs = Invented(lambda spec, name, protocol: hash((spec.name, name)) % 997 / 997)
            search.search(table, runs.ensure, method, rows)
            counts = search.runs_at_most(table, method, rows)
            assert len(runs.asked) <= sum(number for number, _ in counts)
            epochs = sum(spec.epochs for spec in runs.asked)
            assert epochs <= sum(number * each for number, each in counts)


def test_an_ablation_of_one_method_is_a_point_like_any_other_of_another():
    """lambda 0 is an ablation row of Turned OgAE; in a grid of OgAE it competes."""
    runs = Invented(lambda spec, name, protocol: 0.9 - spec.point["guidance_weight"])
    specs = [Spec("ogae", {"guidance_weight": w}, 0, 20, "seeds") for w in (0.0, 0.1)]
    found = search.choose(plan(), runs.ensure, specs, OCSVM, "paper")
    assert found.point == {"guidance_weight": 0.0}


def test_collapsed_and_diverged_runs_do_not_count():
    def figure(spec, name, protocol):
        # The collapsed run has the best figure of all.
        return 0.99 if spec.seed == 1 else 0.6

    table = plan(**{"table.search": "defaults"})
    runs = Invented(
        figure,
        status=lambda spec: "diverged" if spec.seed == 2 else "done",
        collapsed=lambda spec: ["last_m"] if spec.seed == 1 else [],
    )
    specs = search.search(table, runs.ensure, "ogae", [LAST])
    choice = search.choose(table, runs.ensure, specs, LAST, "paper")
    assert [spec.seed for spec in choice.specs] == [0]
    assert [v["AUROC"] for v in choice.valid] == [0.6]
    assert choice.collapsed == [1]
    assert choice.diverged == [2]


def test_a_point_that_fails_on_fewer_seeds_comes_first():
    def figure(spec, name, protocol):
        return 0.9 if spec.point["kl_weight"] == 1.0 else 0.6

    table = plan(**{"table.finalists": 3})
    row = Row("V", "vae", "last_m", "")
    runs = Invented(
        figure,
        collapsed=lambda spec: ["last_m"] if spec.point["kl_weight"] == 1 and spec.seed else [],
    )
    specs = search.search(table, runs.ensure, "vae", [row])
    choice = search.choose(table, runs.ensure, specs, row, "paper")
    assert choice.point["kl_weight"] != 1.0
    assert len(choice.specs) == 3


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_a_row_without_any_result(status):
    table = plan(**{"table.search": "defaults"})
    runs = Invented(
        lambda *_: 0.5,
        status=lambda spec: "diverged" if status == "diverged" else "done",
        collapsed=lambda spec: ["last_m"],
    )
    specs = search.search(table, runs.ensure, "ogae", [LAST])
    choice = search.choose(table, runs.ensure, specs, LAST, "paper")
    assert choice.specs == []
    assert choice.valid == []
    assert {"collapsed": choice.collapsed, "diverged": choice.diverged}[status] == [0, 1, 2]


def test_a_run_is_named_by_what_it_is():
    spec = Spec("ogae", {"nu": 0.1}, 3, 20, "coarse")
    assert spec._replace(stage="seeds").name == spec.name
    others = [
        spec._replace(method="ae"),
        spec._replace(point={"nu": 0.3}),
        spec._replace(seed=4),
        spec._replace(epochs=10),
    ]
    assert len({spec.name, *(other.name for other in others)}) == 5


def test_points_of_the_card_are_distinct():
    table = plan()
    for method in table.grids:
        points = grid.product(table.grid(method))
        assert len(list(grid.distinct(points))) == len(points)
