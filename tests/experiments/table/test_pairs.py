"""Several pairs of classes: the table of each, and one report of them all."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from ocsvm_jax.experiments.table import baselines, pairs, pairs_report
from ocsvm_jax.experiments.table.pairs_report import Value
from ocsvm_jax.experiments.table.record import table_from_json
from ocsvm_jax.training import population

ROOT = Path(__file__).parents[3]
SMALL = {
    "data.name": "digits",
    "data.test_corruptions": ("stripe", "brightness"),
    "train.epochs": 1,
    "train.batch_size": 20,
    "method.latent_dim": 3,
    "eval.resamples": 20,
    "table.methods": ("pca",),
    "table.seeds": (0, 1),
    "table.max_images": 240,
}
AUROC = Value("AUROC", by_domain=False)


@pytest.fixture(autouse=True)
def configs_import_one_another(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def card(**changes):
    config = runpy.run_path(str(ROOT / "configs" / "mnistc_pairs.py"))["get_config"]()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(SMALL | changes)
        config.table.finals.update({"nu": (0.1,), "gamma": (0.1,), "standardize": (True,)})
    return config


def stat(values):
    return {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "values": values}


def record(values):
    """A table whose rows have these values of every metric on three seeds; None for no result."""
    rows = []
    for name, own in values.items():
        metrics = own and dict.fromkeys(("AUROC", "AUPR", "AUROC30"), stat(own))
        result = {"settings": {}, "valid": metrics, "test": metrics, "by_corruption": {}}
        result |= {"collapsed": [], "diverged": [] if own else [0, 1, 2]}
        row = {"name": name, "score": "-f", "group": "paper", "paper": None}
        rows.append(row | {"protocols": {"paper": result}})
    known = {"title": "t", "command": "c", "facts": {"machine": "two cores"}, "seeds": [0, 1, 2]}
    known |= {"config": {"data": {"name": "digits"}}, "resamples": 10, "alpha": 0.01}
    known |= {"comparisons": {}, "visited": [], "counts": {}, "wall_seconds": None}
    return table_from_json(known | {"rows": rows})


TABLES = {
    "3-8": record({"A": [0.5, 0.6, 0.7], "B": [0.7, 0.7, 0.7], "C": [0.9, 0.9, 0.9]}),
    "5-6": record({"A": [0.6, 0.6, 0.6], "B": [0.8, 0.8, 0.8], "C": [0.7, 0.7, 0.7]}),
    "7-1": record({"A": [0.6, 0.6, 0.6], "B": [0.8, 0.8, 0.8], "C": None}),
}


def test_means_and_ranks_by_hand():
    two = {name: TABLES[name] for name in ("3-8", "5-6")}
    found = pairs_report.table(two, "paper", AUROC)
    assert found.header == ["method", "3 / 8", "5 / 6", "mean", "mean rank"]
    lines = {line[0]: line[1:] for line in found.blocks[""]}
    assert lines["A"] == [".60 ± .10", ".600 ± .000", ".600", "3.00"]
    assert lines["B"] == [".700 ± .000", ".800 ± .000", ".750", "1.50"]
    assert lines["C"] == [".900 ± .000", ".700 ± .000", ".800", "1.50"]
    # Best rank first, in the order of the rows where ranks are equal.
    assert [line[0] for line in found.blocks[""]] == ["B", "C", "A"]
    words = pairs_report.in_words(two, "paper", AUROC)
    # Ranks (3, 2, 1) and (3, 1, 2): 12 / (2 * 3 * 4) * (36 + 9 + 9) - 3 * 2 * 4 = 3.
    assert "Friedman over 2 pairs and 3 rows: chi-squared 3.0, p 0.223." in words
    assert "the rows as a whole do not differ significantly" in words


def test_a_row_without_a_result_on_some_pair_has_no_rank():
    found = pairs_report.table(TABLES, "paper", AUROC)
    lines = {line[0]: line[1:] for line in found.blocks[""]}
    assert lines["C"] == [".900 ± .000", ".700 ± .000", "-", "-", "-"]
    assert [lines[name][-1] for name in "AB"] == ["2.00", "1.00"]


def test_one_pair_has_no_ranks():
    words = pairs_report.in_words({"3-8": TABLES["3-8"]}, "paper", AUROC)
    assert words.startswith("Ranks take two rows or more")
    assert pairs_report.table(TABLES, "leak_free", AUROC) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "pairs is"),
        ((3, 8), r"pairs is \(3, 8\); name one or more pairs"),
        (((3, 8), (3, 8)), "each once"),
        (((3, 8, 1),), "pairs is"),
        (((3, 3),), r"pairs has \(3, 3\): the classes must differ"),
    ],
)
def test_bad_pairs(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        pairs.main(card(pairs=given), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_mistake_in_the_card_is_told_before_the_first_pair(tmp_path):
    with pytest.raises(ValueError, match=r"table\.search is 'all'"):
        pairs.main(card(**{"table.search": "all"}), tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.e2e
@pytest.mark.usefixtures("standard_promotion")
def test_pairs_of_the_digits(tmp_path, monkeypatch):
    """Interrupted between two pairs; the second call names only the one that is not there."""
    workdir, config = tmp_path / "p", card(pairs=((3, 8), (5, 6)))
    fit, fitted = baselines.fit, []

    def interrupted(settings, images):
        if len(fitted) == 3:
            fitted.append(None)
            raise KeyboardInterrupt
        fitted.append(len(images))
        return fit(settings, images)

    monkeypatch.setattr(baselines, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pairs.main(config, workdir, "the command")
    assert (workdir / "3-8" / "results.json").exists()
    assert not (workdir / "table.md").exists()
    monkeypatch.setattr(population, "train", lambda *_: pytest.fail("trained"))
    found = pairs.main(card(pairs=((5, 6),)), workdir, "the command")
    # Two seeds of each pair, and the interruption.
    assert len(fitted) == 5
    assert list(found) == ["5-6", "3-8"]
    for name, normal, anomalous in (("3-8", 3, 8), ("5-6", 5, 6)):
        written = json.loads((workdir / name / "results.json").read_text())
        assert written["config"]["data"]["normal"] == [normal]
        assert written["config"]["data"]["anomalies"] == [anomalous]
        assert table_from_json(written) == found[name]

    # The ranks again, from the numbers of both tables.
    for protocol in ("paper", "leak_free"):
        names = [row.name for row in found["3-8"].rows]
        values = np.array(
            [[row.test(protocol)["AUROC"].mean for row in table.rows] for table in found.values()]
        )
        expected = dict(zip(names, rankdata(-values, axis=1).mean(0), strict=True))
        assert pairs_report.ranked(found, protocol, AUROC).mean == pytest.approx(expected)
    text = (workdir / "table.md").read_text()
    assert "Friedman over 2 pairs and 6 rows" in text
    assert "Test AUROC, by domain, the leak-free protocol" in text
    assert "the command" in text
