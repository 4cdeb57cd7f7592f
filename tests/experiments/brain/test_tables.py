import math

import numpy as np
import pytest
from scipy import stats as distributions
from sklearn.metrics import roc_auc_score
from support.brain_results import results, run, score

from ocsvm_jax.evaluation.adjusted import holm
from ocsvm_jax.experiments.brain import ranks, recipes, rows, tables
from ocsvm_jax.experiments.brain.measures import KEYS, MEASURES
from ocsvm_jax.experiments.brain.records import from_json
from ocsvm_jax.reports.page import Strong


def _lines(table):
    return {line[0]: line[1:] for block in table.blocks.values() for line in block}


def rank_test(results, measure):
    """The table of the first score."""
    return next(iter(ranks.rank_tests_of(results, measure)), None)


def _results(**change):
    runs = [run("minus_z"), run("ogae", 0, ["-f", "log"]), run("ogae", 1, ["-f", "log"])]
    return results([*runs, run("sae")], **change)


def test_the_trivial_baselines_are_those_of_the_experiment_and_come_last():
    assert recipes.TRIVIAL == ("darkness", "minus_z", "mahalanobis")
    found = rows.rows_of(from_json(_results()))
    ogae, sae = "OgAE + localised OCSVM", "SAE + localised OCSVM"
    assert [row.name for row in found] == [f"{ogae}, -f", f"{ogae}, log", sae, "voxelwise -z"]
    assert [len(row.runs) for row in found] == [2, 2, 1, 1]
    blocks = tables.localisation(from_json(_results()), "raw")[0].blocks
    assert [line[0] for line in blocks["trivial baselines"]] == ["voxelwise -z"]
    assert len(blocks[""]) == 3


def test_a_method_without_a_name_for_people_keeps_its_own():
    assert rows.rows_of(from_json(results([run("new")])))[0].name == "new"


def test_localisation_is_mean_and_spread_over_patients_and_seeds():
    record = _results()
    found = tables.localisation(from_json(record), "raw")
    assert len(found) == 2 and found[0].header == ["method", *MEASURES]
    a, b = (r["scores"]["-f"]["patients"]["near_tumour"] for r in record["runs"][1:3])
    values = np.array([a["raw"]["AUPR"], b["raw"]["AUPR"]])
    seeds = np.std(values.mean(axis=1), ddof=1)
    expected = f"{values.mean():.3f} ± {np.std(values.mean(axis=0), ddof=1):.3f} ({seeds:.3f})"
    cell = _lines(found[1])["OgAE + localised OCSVM, -f"][MEASURES.index("AUPR")]
    assert cell == expected.replace("0.", ".")
    # One seed has no spread over seeds.
    assert "(" not in _lines(found[1])["voxelwise -z"][0]
    share = np.mean(
        record["runs"][1]["scores"]["-f"]["patients"]["near_tumour"]["raw"]["prevalence"]
    )
    assert found[1].caption == (
        f"near arm, tumour lesions, raw: 3 patients, prevalence {share:.4f} (chance of AUPR)"
    )


def test_variants_are_told_apart():
    record = results([run("sae", AUROC=[0.25] * 3 + [0.75])])
    record["runs"][0]["scores"]["score"]["patients"]["near_wmh"]["post-processed"]["AUROC"] = [
        1.0
    ] * 4
    raw, processed = (
        tables.localisation(from_json(record), v)[0] for v in ("raw", "post-processed")
    )
    assert _lines(raw)["SAE + localised OCSVM"][0] == ".375 ± .250"
    assert _lines(processed)["SAE + localised OCSVM"][0].startswith("1.000")
    assert "post-processed" in processed.caption


def test_patients_without_a_value_are_left_out_and_counted():
    nan = math.nan
    same = {name: [0.2, nan, 0.4, 0.6] for name in KEYS}
    table = tables.localisation(from_json(results([run("sae", **same)])), "raw")[0]
    assert _lines(table)["SAE + localised OCSVM"] == [".400 ± .200"] * 6
    assert "3 of 4 patients, prevalence 0.4000" in table.caption
    nobody = {name: [nan] * 4 for name in same}
    table = tables.localisation(from_json(results([run("sae", **nobody)])), "raw")[0]
    assert _lines(table)["SAE + localised OCSVM"] == ["-"] * 6
    assert table.caption.endswith("0 of 4 patients")


def test_a_single_patient_has_no_spread():
    table = tables.localisation(from_json(results([run("sae", AUROC=[0.25])])), "raw")[0]
    assert _lines(table)["SAE + localised OCSVM"][0] == ".250"


def test_the_best_is_bold_and_so_is_what_looks_the_same():
    constant = [("ogae", 0.6), ("sae", 0.60004), ("darkness", 0.5)]
    record = results([run(m, AUROC=[v] * 4, AUPR=[0.3] * 4) for m, v in constant])
    lines = _lines(tables.localisation(from_json(record), "raw")[0])
    assert [isinstance(cells[0], Strong) for cells in lines.values()] == [True, True, False]
    # Where all are alike none is best.
    assert not any(isinstance(cells[2], Strong) for cells in lines.values())


def test_image_level_is_the_aurocs_of_the_arms_side_by_side():
    arms = ("near", "far")
    record = results([run("ogae", s, arms=arms) for s in (0, 1)] + [run("darkness", arms=arms)])
    record["config"]["data"]["arms"] = list(arms)
    found = tables.image_level(from_json(record))
    assert [t.header for t in found] == [["method", "AUROC, near", "p", "AUROC, far", "p"]] * 2
    assert found[0].caption.count("3 controls and 4 patients") == 2
    lines, images = _lines(found[1]), [r["scores"]["score"]["images"] for r in record["runs"]]
    for column, arm in ((0, "near"), (2, "far")):
        labels = [0] * 3 + [1] * 3
        own = [roc_auc_score(labels, i[f"{arm}_controls"] + i[f"{arm}_tumour"]) for i in images]
        sd = np.std(own[:2], ddof=1)
        cells = [lines["OgAE + localised OCSVM"][column], lines["darkness"][column]]
        assert cells == [
            f"{np.mean(own[:2]):.3f} ({sd:.3f})".replace("0.", "."),
            f"{own[2]:.3f}".replace("0.", "."),
        ]
        p = sorted([lines["OgAE + localised OCSVM"][column + 1], lines["darkness"][column + 1]])
        assert p[1] == "best" and (p[0].startswith("<") or 0 <= float(p[0]) <= 1)


def test_image_level_needs_controls_and_one_method_has_no_rival():
    assert tables.image_level(from_json(results([run("sae")], controls=""))) == []
    lines = _lines(tables.image_level(from_json(results([run("sae")])))[0])
    assert lines["SAE + localised OCSVM"][1] == "-"


def test_rank_tests_agree_with_scipy_on_the_patients_all_methods_have():
    generator = np.random.default_rng(0)
    values = {m: generator.uniform(size=20) for m in ("ogae", "sae", "minus_z")}
    values["sae"][3] = math.nan
    record = results([run(m, AUPR=own.tolist()) for m, own in values.items()])
    table = rank_test(from_json(record), "AUPR")
    assert table is not None and "all 3 pairs" in table.caption
    assert table.caption.startswith("AUPR of OgAE + localised OCSVM, minus")
    kept = {m: np.delete(v, 3) for m, v in values.items()}
    p = distributions.friedmanchisquare(*kept.values()).pvalue
    other = distributions.kruskal(*kept.values()).pvalue
    (heading, block), *_ = table.blocks.items()
    assert heading == (
        f"near arm, wmh lesions, 19 of 20 patients: Friedman p {p:.3f}, "
        f"Kruskal-Wallis p {other:.3f}"
    )
    names = [("ogae", "sae"), ("ogae", "minus_z"), ("sae", "minus_z")]
    adjusted = holm([distributions.wilcoxon(kept[a] - kept[b]).pvalue for a, b in names])
    difference = np.median(kept["ogae"] - kept["sae"])
    assert block[0][:3] == ["SAE + localised OCSVM", f"{difference:+.4f}", f"{adjusted[0]:.3f}"]
    assert block[1][0] == "voxelwise -z" and block[1][2] == f"{adjusted[1]:.3f}"


def test_every_score_of_the_first_method_has_its_rank_tests():
    found = ranks.rank_tests_of(from_json(_results()), "AUPR")
    ogae = "OgAE + localised OCSVM"
    names = [f"{ogae}, -f", f"{ogae}, log", "SAE + localised OCSVM", "voxelwise -z"]
    assert [t.caption.split(", minus")[0] for t in found] == [f"AUPR of {n}" for n in names[:2]]
    for i, table in enumerate(found):
        assert len(table.blocks) == 2 and "all 6 pairs" in table.caption
        for block in table.blocks.values():
            assert [line[0] for line in block] == names[:i] + names[i + 1 :]
    between = [next(iter(found[i].blocks.values()))[0] for i in (0, 1)]
    assert between[0][1] == between[1][1].translate(str.maketrans("+-", "-+"))
    assert between[0][2:] == between[1][2:]
    assert len(ranks.rank_tests_of(from_json(results([run("sae"), run("darkness")])), "AUPR")) == 1
    assert ranks.rank_tests_of(from_json(results([run("ogae")])), "AUPR") == []


def test_rank_tests_of_equal_methods_and_of_one_method():
    table = rank_test(from_json(results([run(m, AUPR=[0.5] * 4) for m in ("ogae", "sae")])), "AUPR")
    assert table is not None
    assert all(block[0][1:] == ["+0.0000", "1.000", "1.000"] for block in table.blocks.values())
    assert rank_test(from_json(results([run("ogae")])), "AUPR") is None
    lost = results([run(m, AUPR=[0.5, math.nan, math.nan, math.nan]) for m in ("ogae", "sae")])
    assert rank_test(from_json(lost), "AUPR") is None


def test_small_negative_differences_have_no_sign_of_their_own():
    record = results([run("ogae", AUPR=[0.5] * 4), run("sae", AUPR=[0.500001] * 4)])
    table = rank_test(from_json(record), "AUPR")
    assert table is not None and table.blocks.popitem()[1][0][1] == "+0.0000"


@pytest.mark.parametrize("controls", ["controls", ""])
def test_the_overview_is_short_and_right(controls):
    arms = ("near", "far")
    record = results([run("ogae", arms=arms), run("minus_z", arms=arms)], arms, controls)
    text = tables.overview(from_json(record))
    lines = text.splitlines()
    assert len(lines) == 2 * (2 + 2) + 1 and max(map(len, lines)) <= 100
    assert ("images" in text) == bool(controls)
    patients = record["runs"][1]["scores"]["score"]["patients"]["far_tumour"]["raw"]
    last = lines[-1].split("|")[2].split()
    expected = [f"{np.mean(patients[m]):.3f}" for m in ("AUROC", "AUROC30", "AUPR")]
    assert last[:3] == expected and len(last) == 3 + bool(controls)
    assert lines[-1].startswith("voxelwise -z ")


def test_only_what_the_results_say_is_used():
    """Rows that share a name by chance would hide one another."""
    generator = np.random.default_rng(0)
    record = results([run("ogae")])
    record["runs"][0]["scores"] = {n: score(generator) for n in ("-f", "log")}
    assert len({row.name for row in rows.rows_of(from_json(record))}) == 2
