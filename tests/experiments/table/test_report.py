import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.html_page import Page

from ocsvm_jax import files
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.experiments.table import (
    alternatives,
    captions,
    comparisons,
    contents,
    latent_maps,
    pictures,
    report,
)
from ocsvm_jax.experiments.table.record import table_from_json, to_json
from ocsvm_jax.reports import figures, numbers, page

RESULTS_OF_PAPER = Path(__file__).parents[3] / "benchmarks" / "results" / "mnistc_table1.json"
METRICS = ("AUROC", "AUPR", "AUROC30")
AE = {"AUROC": [0.5, 0.54, 0.58], "AUPR": [0.6, 0.6, 0.63], "AUROC30": [0.5, 0.5, 0.5]}
SAME_LATENTS = {"ocsvm": 0.5, "gaussian": 0.6, "knn": 0.7}
OGAE = {"AUROC": [0.6, 0.61, 0.62], "AUPR": [0.7, 0.7, 0.7], "AUROC30": [0.55, 0.6, 0.65]}


def _stat(values):
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "values": list(values)}


def _own(values, **changes):
    stats = {metric: _stat(own) for metric, own in values.items()} if values else None
    return {
        "settings": {"method.nu": 0.1, "method.betas": [[1.0, 0.0], [0.5, 0.5]]},
        "valid": stats,
        "test": stats,
        "by_corruption": {"stripe": _stat(values["AUROC"])} if values else {},
        "collapsed": [],
        "diverged": [],
    } | changes


def _row(name, values, group="paper", paper=(0.56, 0.66, 0.66), leak_free=True, **changes):
    own = _own(values, **changes)
    return {
        "name": name,
        "score": "-f",
        "group": group,
        "paper": paper and dict(zip(METRICS, paper, strict=True)),
        "protocols": {"paper": own} | ({"leak_free": own} if leak_free else {}),
    }


def _rival(significant=True, **changes):
    p = {"p": 0.0, "bonferroni": 0.002, "holm": 0.002}
    known = {"difference": 0.07, "low": 0.05, "high": 0.09, "significant": significant}
    return known | p | changes


WELCH = {"t": 4.56, "df": 3.2, "p": 0.0004, "bonferroni": 0.0008, "holm": 0.0008}


def _over_seeds(rival, welch=WELCH):
    """A rival over seeds, significant as its bootstrap is."""
    return {"bootstrap": rival, "welch": welch, "significant": rival["significant"]}


def _record(**changes):
    rows = [
        _row("AE", AE),
        _row("OgAE", OGAE, paper=(0.59, 0.7, 0.71)),
        _row("h-DSVDD", None, collapsed=[0, 1, 2]),
        _row("OgAE, last-M", AE, group="ours", paper=None),
    ]
    best = {"best": "OgAE", "rivals": {"AE": _rival(), "OgAE, last-M": _rival(False, p=0.4)}}
    best["rivals"]["OgAE, last-M"] |= {"bonferroni": 0.8, "holm": 0.4}
    of_seeds = {"best": "OgAE", "rivals": {n: _over_seeds(r) for n, r in best["rivals"].items()}}
    visit = {"method": "ae", "settings": {"nu": 0.1}, "seed": 0, "stage": "coarse", "epochs": 10}
    visit |= {"valid": {"ocsvm": 0.61, "last_m": 0.5}, "status": "done", "seconds": 31.2}
    return {
        "title": "Table I",
        "command": "python train.py --config=configs/mnistc_table1.py",
        "facts": {"machine": "two cores"},
        "config": {"seeds": 3},
        "seeds": [0, 1, 2],
        "resamples": 1000,
        "alpha": 0.01,
        "rows": rows,
        "comparisons": {name: {"AUROC": best} for name in ("paper", "leak_free")},
        "over_seeds": {name: {"AUROC": of_seeds} for name in ("paper", "leak_free")},
        "visited": [visit, visit | {"seed": 1, "status": "collapsed", "valid": {}}],
        "counts": {"train": 16553},
        "prevalence": {"paper": 0.25, "leak_free": 0.25},
        "wall_seconds": 5400.0,
    } | changes


def _one_protocol(record, protocol):
    for row in record["rows"]:
        row["protocols"] = {protocol: row["protocols"]["paper"]}
    of_paper = {n: {protocol: record[n]["paper"]} for n in ("comparisons", "over_seeds")}
    return record | of_paper


def _data(seeds=3, classes=(3, 8), corruption=("stripe", "brightness")):
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 4 // 3
    roc = [(labels, generator.normal(size=40) + labels) for _ in range(seeds)]
    n = 24
    latent = latent_maps.LatentMap(
        generator.normal(size=(n, 2)),
        np.array(classes)[np.arange(n) % len(classes)],
        np.array(corruption)[np.arange(n) // 2 % len(corruption)],
        np.array(["train", "test"])[np.arange(n) // 4 % 2],
    )
    curves = {"AE": roc, "OgAE": roc}
    return report.PicturesData({"paper": curves, "leak_free": curves}, {"OgAE": latent})


NO_PICTURES = report.PicturesData({}, {})


def _write(workdir, record, data=NO_PICTURES):
    path = report.write(workdir, table_from_json(record), data)
    content = path.read_text(encoding="utf-8")
    markdown = (workdir / "table.md").read_text(encoding="utf-8")
    for text in (content, markdown):
        assert not re.search(r"\b(nan|NaN|inf|None)\b", _without_images(text))
    return Page(content), markdown


def _markdown(record):
    return report.markdown(table_from_json(record))


def _without_images(text):
    return re.sub(r"base64,[^\"]*", "", text)


@pytest.fixture
def blank_figures(monkeypatch):
    blank = io.BytesIO()
    Image.new("RGB", (160, 80)).save(blank, format="png")
    monkeypatch.setattr(captions, "png", lambda *_: blank.getvalue())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("table") / "new"
    return workdir, *_write(workdir, _record(), _data())


def test_files(written):
    workdir, page_, _ = written
    found = sorted(str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file())
    names = ["dots_leak_free", "dots_paper", "latent", "roc_leak_free", "roc_paper"]
    assert found == [*(f"figures/{name}.png" for name in names), "report.html", "table.md"]
    images = page_.attributes("img")
    stored = {(workdir / "figures" / f"{name}.png").read_bytes() for name in names}
    assert {base64.b64decode(image["src"].split(",")[1]) for image in images} == stored
    assert all(len(image["alt"]) > 20 for image in images)


def test_page_is_self_contained(written):
    workdir, page_, _ = written
    content = _without_images((workdir / "report.html").read_text(encoding="utf-8"))
    assert {"script", "link", "iframe", "a"}.isdisjoint(tag for tag, _ in page_.tags)
    assert not re.search(r"https?:|url\(|@import", content)
    assert "prefers-color-scheme: dark" in content


# By hand: the standard deviation of .5, .54, .58 is .04, that of .6, .6, .63 is .03 / sqrt(3).
# Their standard errors .023 and .01 allow two decimals, .0058 (of .6, .61, .62) allows three.
OF_AE = (".54 ± .04", ".61 ± .02", ".500 ± .000")
OF_OGAE = ("**.610 ± .010**", "**.700 ± .000**", "**.60 ± .05**")


def _line(name, own, paper, runs, mark=""):
    """The cells of a row whose validation and test values are the same."""
    marks = (mark, "", "")
    cells = [c for v, m, p in zip(own, marks, paper, strict=True) for c in (v, m + v, p)]
    return [name, "-f", *cells, runs]


RESULTS = [
    _line("AE", OF_AE, (".56", ".66", ".66"), "3 runs"),
    _line("OgAE", OF_OGAE, ("**.59**", "**.70**", "**.71**"), "3 runs"),
    _line("h-DSVDD", "---", (".56", ".66", ".66"), "all 3 runs collapsed: no result"),
    ["Beyond the paper"],
    _line("OgAE, last-M", OF_AE, "---", "3 runs", mark="† "),
]


def test_results_beside_the_paper(written):
    _, page_, markdown = written
    at = page_.rows.index(RESULTS[0])
    assert page_.rows[at : at + 5] == RESULTS
    lines = markdown.splitlines()
    for row in RESULTS[:3] + RESULTS[4:]:
        assert f"| {' | '.join(row)} |" in lines
    assert lines[2] == "## Results, the paper's protocol"
    # The published figures belong to the paper's own protocol.
    leak_free = markdown[markdown.index("## Results, the leak-free") :]
    cells = " | ".join(f"{own} | {own}" for own in OF_AE)
    assert f"| AE | -f | {cells} | 3 runs |" in leak_free


def test_the_papers_rows_among_themselves(tmp_path):
    """A row of our own that beats all of them must not hide which of them is the best."""
    best = {"best": "OgAE", "rivals": {"AE": _rival(False, p=0.3)}}
    best["rivals"]["AE"] |= {"bonferroni": 0.3, "holm": 0.3}
    of_seeds = {"best": "OgAE", "rivals": {n: _over_seeds(r) for n, r in best["rivals"].items()}}
    record = _record(
        comparisons_of_paper={"paper": {"AUROC": best}},
        over_seeds_of_paper={"paper": {"AUROC": of_seeds}},
    )
    page_, markdown = _write(tmp_path, record)
    for text in (page_.text, markdown):
        assert "AUROC, the paper's rows alone: OgAE has the highest mean; no other row" in text
        assert "‡: not significantly different from the best of the paper's own rows." in text
        assert "‡ .54 ± .04" in text
    drawn = ["AE", "+.070", "+.050 to +.090", "0.300", "0.300", "0.300"]
    assert [*drawn, "no"] in page_.rows
    assert [*drawn, "4.6", "< 0.001", "< 0.001", "< 0.001", "no"] in page_.rows


def test_what_is_short_of_a_chosen_row_is_told():
    record = _record()
    record["rows"][1]["protocols"]["paper"]["unconverged"] = [0, 2]
    assert "final one-class SVM not converged on seeds 0, 2" in _markdown(record)


def test_commits_of_the_runs():
    record = _record()
    assert "- commits of the runs: not recorded" in _markdown(record)
    record["visited"][0]["commit"] = "0123456789ab"
    assert "- commits of the runs: 0123456789ab, not recorded" in _markdown(record)


def test_what_the_validation_figures_of_the_search_are_of(tmp_path):
    page_, _ = _write(tmp_path, _record(guide="leak_free", wall_seconds=None))
    assert "Every point visited; validation AUROC under the leak-free protocol" in page_.text
    assert "not measured" in page_.text


def test_both_documents_hold_the_run(written):
    _, page_, markdown = written
    for text in (
        "python train.py --config=configs/mnistc_table1.py",
        "two cores",
        "1 h 30 min",
        "train 16,553",
        "method.betas=((1, 0), (0.5, 0.5))",
        "share of anomalous images (.250)",
        "chosen on the validation images alone",
        "McClish",
        "OgAE has the highest mean, significantly above 1 of 2 others; not significantly "
        "different from it: OgAE, last-M.",
    ):
        assert text in page_.text
        assert text in markdown
    rival = ["AE", "+.070", "+.050 to +.090", "< 1/1000", "< 2/1000", "< 2/1000", "yes"]
    level = ["OgAE, last-M", "+.070", "+.050 to +.090", "0.400", "0.800", "0.400", "no"]
    welch = ["4.6", "< 0.001", "< 0.001", "< 0.001"]
    counted = ["ae", "coarse", "1", "2", "2", "1", "0", "62 s"]
    of_seeds = [[*row[:-1], *welch, row[-1]] for row in (rival, level)]
    for row in (rival, level, *of_seeds, counted):
        assert row in page_.rows
        assert f"| {' | '.join(row)} |" in markdown
    visited = ["ae", "coarse", "0", "10", "nu=0.1", ".610, ocsvm, best of 2", "done", "31.2"]
    assert visited in page_.rows


EVIL = "<script>alert('1')</script> & \"q\" \x1b[31m \udcff $x$ 3 < 8 | *b* _i_ `c` [l](u) ~s~ &lt;"
SHOWN = EVIL.replace("\x1b", "\ufffd").replace("\udcff", "?")


def _evil_record():
    record = _record(title=EVIL, command=EVIL, facts={EVIL: EVIL}, config={EVIL: EVIL})
    record["rows"][0] |= {"name": EVIL, "score": EVIL}
    record["rows"][0]["protocols"]["paper"]["settings"] = {EVIL: EVIL}
    record["rows"][0]["protocols"]["paper"]["by_corruption"] = {EVIL: _stat([0.5])}
    rivals = {EVIL: _rival(False, p=0.4, bonferroni=0.4, holm=0.4)}
    record["comparisons"] = {"paper": {"AUROC": {"best": "OgAE", "rivals": rivals}}}
    rivals = {name: _over_seeds(rival) for name, rival in rivals.items()}
    record["over_seeds"] = {"paper": {"AUROC": {"best": "OgAE", "rivals": rivals}}}
    record["visited"][0] |= {name: EVIL for name in ("method", "stage", "status")}
    record["visited"][0] |= {"settings": {EVIL: EVIL}, "valid": {EVIL: 0.5}}
    record["counts"] = {EVIL: 1}
    return record


def test_text_from_outside_is_only_text_in_html(tmp_path):
    data = _data()
    data.roc["paper"][EVIL] = data.roc["paper"]["AE"]
    data.latent[EVIL] = data.latent["OgAE"]._replace(corruption=np.full(24, EVIL))
    page_, _ = _write(tmp_path, _evil_record(), data)
    assert "script" not in {tag for tag, _ in page_.tags}
    assert page_.text.count(SHOWN) > 20


def test_text_from_outside_is_only_text_in_markdown():
    reader = pytest.importorskip("markdown_it", reason="an independent reader of Markdown")
    record = _evil_record()
    markdown = _markdown(record).encode("utf-8", errors="replace").decode()
    read = reader.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page_ = Page(read.render(markdown))
    assert {"script", "a", "img", "s", "del"}.isdisjoint(tag for tag, _ in page_.tags)
    # Emphasis is the heading of our own rows, code the command.
    assert [tag for tag, _ in page_.tags].count("code") == 1
    heading = [row for row in page_.rows if row[0] == "Beyond the paper"]
    assert [tag for tag, _ in page_.tags].count("em") == len(heading) > 0
    assert page_.text.count(SHOWN) > 10
    # No bar of a name has begun another cell.
    assert {row[0]: len(row) for row in page_.rows}[SHOWN] in {2, 7, 8, 9, 11, 12}
    results = [row for row in page_.rows if len(row) == 12]
    assert [row[0] for row in results] == [
        *("method", SHOWN, "OgAE", "h-DSVDD", "Beyond the paper", "OgAE, last-M")
    ]


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"collapsed": [1, 2]}, "2 of 3 runs collapsed"),
        ({"collapsed": [1], "diverged": [2]}, "1 of 3 runs collapsed, 1 diverged"),
        ({"collapsed": [1, 2], "diverged": [0], "test": None},
         "2 of 3 runs collapsed, 1 diverged: no result"),
        ({"diverged": [0, 1, 2], "test": None}, "3 of 3 runs diverged: no result"),
        ({"test": None}, "no result"),
        ({}, "3 runs"),
    ],
)  # fmt: skip
def test_lost_runs_are_told_in_the_row(tmp_path, change, told):
    record = _record()
    record["rows"][0] = _row("AE", AE, **change)
    page_, markdown = _write(tmp_path, record)
    (row,) = {tuple(row) for row in page_.rows if row[:2] == ["AE", "-f"] and len(row) == 12}
    assert row[-1] == told
    assert f"| {told} |" in markdown


def test_nothing_has_a_result(tmp_path):
    rows = [_row(name, None, collapsed=[0, 1, 2]) for name in ("a", "b")]
    for row in rows:
        row["protocols"]["paper"] |= {"valid": None, "settings": {}}
    record = _record(rows=rows, comparisons={}, over_seeds={}, visited=[], facts={})
    page_, markdown = _write(tmp_path, record)
    assert page_.attributes("img") == []
    assert "Nothing was compared" in markdown
    assert list((tmp_path / "figures").iterdir()) == []


def test_numbers_that_are_not_finite_are_dashes(tmp_path):
    bad = _stat([0.5]) | {"mean": float("nan"), "values": [float("nan")]}
    record = _record()
    own = record["rows"][0]["protocols"]["paper"]
    own["test"] = own["valid"] = dict.fromkeys(METRICS, bad)
    own["by_corruption"] = {"stripe": bad}
    record["comparisons"]["paper"]["AUROC"]["rivals"]["AE"]["low"] = float("nan")
    welch = WELCH | {"t": None, "df": None, "p": 0.0, "bonferroni": 0.0}
    record["over_seeds"]["paper"]["AUROC"]["rivals"]["AE"]["welch"] = welch
    record["visited"][0]["valid"] = {"ocsvm": float("nan")}
    page_, _ = _write(tmp_path, record)
    assert _line("AE", "---", (".56", ".66", ".66"), "1 run") in page_.rows


@pytest.mark.usefixtures("blank_figures")
def test_one_seed(tmp_path):
    rows = [_row(n, {m: [0.5 + 0.1 * i] for m in METRICS}) for i, n in enumerate("ab")]
    rows.append(_row("c", None, collapsed=[7]))
    record = _record(rows=rows, seeds=[7], comparisons={}, over_seeds={})
    page_, markdown = _write(tmp_path, record, _data(1))
    assert "| the run collapsed: no result |" in markdown
    assert "±" not in markdown
    assert "| b | -f | **.600** | **.600** | **.56** |" in markdown
    assert "Seed: 7." in markdown
    assert not any("±" in cell for row in page_.rows for cell in row)


@pytest.mark.usefixtures("blank_figures")
def test_effective_dimensions_where_they_were_measured(tmp_path):
    rows = [_row("AE", AE, dimensions=_stat([3.0, 4.5, 4.5])), _row("OgAE", OGAE)]
    page_, _ = _write(tmp_path, _record(rows=rows, comparisons={}))
    chosen = "method.nu=0.1, method.betas=((1, 0), (0.5, 0.5))"
    assert ["AE", "4.0", chosen] in page_.rows
    assert ["OgAE", "-", chosen] in page_.rows


@pytest.mark.usefixtures("blank_figures")
def test_ensembles_beside_the_mean_of_their_models(tmp_path):
    together = {"AUROC": 0.58, "AUPR": 0.64, "AUROC30": 0.52}
    rows = [_row("AE", AE, ensemble=together), _row("OgAE", OGAE, ensemble=None)]
    page_, markdown = _write(tmp_path, _record(rows=rows, comparisons={}))
    line = ["AE", "3", ".540", ".580", ".610", ".640", ".500", ".520"]
    assert page_.rows.count(line) == 2
    assert f"| {' | '.join(line)} |" in markdown
    assert alternatives.ENSEMBLES in page_.text
    without = _write(tmp_path, _record())
    assert "Ensembles" not in without[0].text + without[1]


@pytest.mark.usefixtures("blank_figures")
def test_other_scores_on_the_same_latents(tmp_path):
    """A row of a record that lacks them has empty cells."""
    scores = {name: {m: _stat([v] * 3) for m in METRICS} for name, v in SAME_LATENTS.items()}
    rows = [_row("AE", AE, latent_scores=scores), _row("OgAE", OGAE)]
    page_, _ = _write(tmp_path, _record(rows=rows, comparisons={}))
    assert ["latents of", "-f", "Gaussian", "neighbours"] in page_.rows
    lines = [row for row in page_.rows if len(row) == 4 and row[0] in ("AE", "OgAE")]
    assert ["OgAE", "-", "-", "-"] in lines
    (own,) = {tuple(row) for row in lines if row[0] == "AE"}
    assert [float(cell.split(" ")[0].strip("*")) for cell in own[1:]] == [0.5, 0.6, 0.7]
    assert "same latents" not in _write(tmp_path, _record())[1]


@pytest.mark.usefixtures("blank_figures")
def test_scores_without_the_domain(tmp_path):
    """Every row as it is and by domain, and the share of anomalies in each group."""
    own = {m: _stat([0.9, 0.9, 0.9]) for m in METRICS}
    images = {"valid": [10, 20], "valid_anomalous": [5, 1], "test": [30, 0]}
    images |= {"test_anomalous": [3, 0]}
    record = _record(
        rows=[_row("AE", AE, by_domain=own), _row("OgAE", OGAE)],
        domains={"paper": {"silhouette": 0.871, "images": images, "far": 4}},
    )
    page_, markdown = _write(tmp_path, record)
    cells = [cell for own in OF_AE for cell in (own, ".900 ± .000")]
    assert ["AE", *cells] in page_.rows
    assert ["OgAE", *(c for own in OF_OGAE for c in (own, "-"))] in page_.rows
    for text in (page_.text, markdown):
        assert "outside the paper's protocol" in text
        assert "silhouette 0.87; 4 test images are far from every group" in text
    assert ["1", "10", "50.0%", "30", "10.0%"] in page_.rows
    assert ["2", "20", "5.0%", "0", "-"] in page_.rows
    assert "by domain" not in _write(tmp_path, _record())[1]


@pytest.mark.usefixtures("blank_figures")
def test_test_images_scored_with_other_settings_before_are_told():
    assert "scored once, with these settings." in _markdown(_record())
    rows = [_row("AE", AE), _row("OgAE", OGAE, scored_before=[{"method.nu": 0.3}])]
    assert "scored once, with these settings, but for OgAE:" in _markdown(_record(rows=rows))


def test_no_published_figure(tmp_path):
    record = _record(rows=[_row("AE", AE, paper=None), _row("OgAE", OGAE, paper=None)])
    page_, _ = _write(tmp_path, record)
    columns = [column for metric in METRICS for column in (f"{metric}, validation", metric)]
    assert ["method", "score", *columns, "runs"] in page_.rows
    assert "beside the value that the paper gives" not in page_.text


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("protocol", ["paper", "leak_free"])
def test_one_protocol(tmp_path, protocol):
    _write(tmp_path, _record(), _data())
    data = _data()._replace(latent={})
    page_, markdown = _write(tmp_path, _one_protocol(_record(), protocol), data)
    found = sorted(p.stem for p in (tmp_path / "figures").iterdir())
    assert found == [f"dots_{protocol}", f"roc_{protocol}"]
    assert markdown.count("## Results") == 1
    for text in ("McClish", "chosen on the validation images alone", "Normal test"):
        assert (text in page_.text) == (text != "Normal test" or protocol == "paper")


@pytest.mark.usefixtures("blank_figures")
def test_a_row_that_one_protocol_lacks(tmp_path):
    record = _record()
    record["rows"][0] = _row("AE", AE, leak_free=False)
    page_, _ = _write(tmp_path, record)
    assert ["AE", "-f", *["-"] * 6, "not run"] in page_.rows


def test_too_few_resamples_mark_nothing():
    # 2 rivals at alpha 0.01 take 200 resamples.
    for resamples, marked in ((199, False), (200, True)):
        record = _record(resamples=resamples)
        for rival in record["comparisons"]["paper"]["AUROC"]["rivals"].values():
            rival |= {"p": 0.5, "bonferroni": 1.0, "holm": 1.0, "significant": False}
        for rival in record["over_seeds"]["paper"]["AUROC"]["rivals"].values():
            rival["significant"] = False
        record = table_from_json(record)
        assert ("†" in str(contents.results(record, "paper"))) == marked
        for text in (comparisons.explained_over_images, comparisons.explained_over_seeds):
            assert ("takes 200 resamples" in text(record)) != marked
        sentence = comparisons.verdict(record, "paper", "AUROC")
        assert ("too few" in sentence) != marked
        assert ("no other row differs" in sentence) == marked


def test_images_alone_call_nothing_significant():
    """A record without a comparison over seeds, as those of earlier versions."""
    record = table_from_json(_record(over_seeds={}))
    assert comparisons.level(record, "paper", "AUROC") == []
    sentence = comparisons.verdict(record, "paper", "AUROC")
    assert sentence == "AUROC: OgAE has the highest mean; it was not compared over seeds."
    assert "signific" not in report.markdown(record)


def test_one_run_of_each_row_says_nothing_of_seeds():
    record = _record()
    for rival in record["over_seeds"]["paper"]["AUROC"]["rivals"].values():
        rival |= {"welch": None, "significant": False}
    sentence = comparisons.verdict(table_from_json(record), "paper", "AUROC")
    assert "cannot be said without two runs of each row" in sentence


@pytest.mark.usefixtures("blank_figures")
def test_a_failed_write_keeps_the_old_files(tmp_path, monkeypatch):
    _write(tmp_path, _record(), _data())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(tmp_path, table_from_json(_record(title="another")), _data())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [_row("a", AE), _row("a", AE)]}, "Rows share the name a"),
        (
            {"rows": [_row("a", AE, group="mine")]},
            "group mine: the report knows paper, baseline, ours",
        ),
        (
            {"rows": [_row("a", AE) | {"protocols": {"x": _own(AE)}}]},
            "protocol x: the report knows",
        ),
    ],
)
def test_bad_record(change, message):
    with pytest.raises(ValueError, match=message):
        table_from_json(_record(**change))


def test_incomplete_record(tmp_path):
    record = _record()
    del record["rows"], record["alpha"]
    with pytest.raises(ValueError, match="has no alpha, rows: a TableRecord needs title"):
        table_from_json(record)


def test_records_come_back_from_json():
    content = to_json(table_from_json(_record()))
    assert to_json(table_from_json(json.loads(json.dumps(content)))) == content


def test_records_of_earlier_versions(tmp_path):
    """They lack the share of anomalous images, the guide and the paper's rows among themselves."""
    record = _record()
    del record["prevalence"]
    page_, markdown = _write(tmp_path, record)
    for text in (page_.text, markdown):
        assert "Chance is .5 for AUROC, the share of anomalous images for AUPR" in text


def _without_later_fields(ours, theirs):
    """Drops the fields that a record of an earlier version lacks, which must be empty."""
    if isinstance(ours, list):
        return [_without_later_fields(*pair) for pair in zip(ours, theirs, strict=True)]
    if not isinstance(ours, dict):
        return ours
    assert not any(value for name, value in ours.items() if name not in theirs)
    return {n: _without_later_fields(v, theirs[n]) for n, v in ours.items() if n in theirs}


def test_the_published_results_make_a_report(tmp_path):
    """From the file in the repository, of which nothing is lost on the way."""
    content = json.loads(RESULTS_OF_PAPER.read_text())
    assert _without_later_fields(to_json(table_from_json(content)), content) == content
    page_, markdown = _write(tmp_path, content)
    for text in (page_.text, markdown):
        assert "mnist_c, 3 against 8" in text
        assert "Turned OgAE without guidance has the highest mean" in text
    names = {row["name"] for row in content["rows"]}
    assert len(names) == 19
    assert names <= {row[0] for row in page_.rows}
    every = [row for row in page_.rows if len(row) == 8 and row[3] in ("4", "20")]
    assert len(every) == len(content["visited"]) == 171


def test_mean_curve():
    labels = np.array([0, 0, 1, 1])
    perfect, inverted = np.array([0.0, 0.1, 0.8, 0.9]), np.array([0.9, 0.8, 0.1, 0.0])
    broken = np.array([np.nan, 0.0, 1.0, 1.0])
    curve = pictures.mean_curve(
        [(labels, perfect), (labels, inverted), (labels, broken), (labels * 0, perfect)]
    )
    # Half of the way up at every false positive rate between 0 and 1; 0 and 1 differ by sqrt(1/2).
    assert curve.runs == 2
    assert curve.auroc == pytest.approx(0.5)
    np.testing.assert_allclose(curve.mean[1:-1], 0.5)
    np.testing.assert_allclose(curve.sd[1:-1], np.sqrt(0.5))
    np.testing.assert_allclose([curve.mean[0], curve.mean[-1]], [0, 1])
    assert pictures.mean_curve([(labels, broken)]) is None
    np.testing.assert_array_equal(pictures.mean_curve([(labels, perfect)]).sd, 0)


def test_area_of_the_mean_curve_is_the_mean_area():
    generator = np.random.default_rng(1)
    labels = np.arange(2000) % 2
    runs = [(labels, generator.normal(size=2000) + s * labels) for s in (0.2, 0.6)]
    curve = pictures.mean_curve(runs)
    grid = np.linspace(0, 1, len(curve.mean))
    assert np.trapezoid(curve.mean, grid) == pytest.approx(curve.auroc, abs=2e-3)
    assert curve.auroc == pytest.approx(np.mean([metrics.auroc(*run) for run in runs]))


def test_roc_panels():
    names = [f"method {i}" for i in range(6)]
    labels = np.arange(20) % 2
    curves = {
        name: pictures.mean_curve([(labels, labels * 0.1 * i + np.sin(np.arange(20.0)))])
        for i, name in enumerate(names)
    }
    figure = pictures.roc(curves)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title("left").split("\n")[0] for axes in shown] == names
    own = [axes.lines[-1].get_ydata() for axes in shown]
    np.testing.assert_array_equal(own, [curve.mean for curve in curves.values()])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"best: {max(curves, key=lambda name: curves[name].auroc)}" in legend


def test_dots():
    results = {"a": OGAE, "lost": {}, "b": AE}
    figure = pictures.dots(results, {"lost": {"AUROC": 0.51}}, {"AUROC": 0.5}, ["b"])
    auroc = figure.axes[0]
    labels = [label.get_text().replace("\n", " ") for label in auroc.get_yticklabels()]
    assert labels == ["a", "lost: no result", "b"]
    places = auroc.get_yticks()
    found = {
        (line.get_marker(), round(y)): sorted(np.atleast_1d(line.get_xdata()).tolist())
        for line in auroc.lines
        if line.get_marker() != "None"
        for y in [float(np.mean(line.get_ydata()))]
    }
    assert found[("o", round(places[0]))] == OGAE["AUROC"]
    assert found[("|", round(places[2]))] == [pytest.approx(0.54)]
    assert found[("D", round(places[1]))] == [0.51]
    assert ("o", round(places[1])) not in found


def test_dots_of_one_seed_and_one_row():
    figure = pictures.dots({"a": {"AUROC": [0.6]}}, {}, {}, ["a"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one seed"]
    assert Image.open(io.BytesIO(figures.png(pictures.dots, {"a": {}}, {}, {}))).format == "PNG"


def test_latent_maps_of_one_class_and_corruption():
    picture = _data(classes=(3,), corruption=("stripe",)).latent["OgAE"]
    figure = latent_maps.latent_maps({"a": picture._replace(split=np.full(24, "test"))})
    texts = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert texts == [["stripe"], ["test 3"]]


def test_latent_maps_draw_a_part_of_a_large_group():
    n = latent_maps.MAX_POINTS_PER_GROUP + 9
    names = np.full(n, "x")
    picture = latent_maps.LatentMap(np.zeros((n, 2)), np.zeros(n, int), names, names)
    for axes in latent_maps.latent_maps({"a": picture}).axes:
        drawn = sum(len(c.get_offsets()) for c in axes.collections)
        assert drawn == latent_maps.MAX_POINTS_PER_GROUP


def test_more_groups_than_colours_stay_distinct():
    picture = _data(classes=range(10), corruption=[f"c{i}" for i in range(15)]).latent["OgAE"]
    n = 150
    picture = latent_maps.LatentMap(
        np.zeros((n, 2)), np.arange(n) % 10, np.array([f"c{i % 15}" for i in range(n)]),
        np.full(n, "test"),
    )  # fmt: skip
    for legend in latent_maps.latent_maps({"a": picture}).legends:
        styles = {(line.get_color(), line.get_marker()) for line in legend.get_lines()}
        assert len(styles) == len(legend.get_texts()) in {10, 15}


def test_limits_and_what_lies_outside():
    points = np.random.default_rng(0).normal(size=(1000, 2))
    points[0], points[1] = 1e6, np.nan
    assert np.all(np.abs(latent_maps.limits(points)) < 5)
    outside = latent_maps.outside(points)
    assert outside[:2].all()
    assert outside.sum() < 20
    same = np.full((5, 2), 3.0)
    assert not latent_maps.outside(same).any()
    assert np.all(np.diff(latent_maps.limits(same)) > 0)
    assert latent_maps.outside(np.full((3, 2), np.nan)).all()


def test_latent_map_that_is_not_aligned():
    picture = _data().latent["OgAE"]._replace(split=np.array(["test"]))
    with pytest.raises(ValueError, match=r"map of a has points \(24, 2\) and .* \(1,\)"):
        latent_maps.latent_maps({"a": picture})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (5400, "1 h 30 min"), (3.6e6, "1,000 h 0 min")],
)
def test_duration(seconds, text):
    assert numbers.duration(seconds) == text


def test_how_numbers_print():
    assert numbers.signed(-0.0004) == "+.000"
    assert numbers.signed(-0.01) == "-.010"
    assert numbers.published(0.7) == ".70"
    assert numbers.spread(numbers.Stat(1.0, 0.5, [])) == "1.000 ± .500"
    assert numbers.spread(None) == numbers.score(float("nan")) == "-"


@pytest.mark.parametrize(
    ("mean", "sd", "runs", "text"),
    [
        (0.6451, 0.1049, 5, ".65 ± .10"),  # standard error .047
        (0.5441, 0.0068, 5, ".544 ± .007"),  # .003
        (0.5, 0.5, 4, ".5 ± .5"),  # .25
        (0.5, 0.02, 4, ".50 ± .02"),  # .01
        (0.95871, 0.0001, 4, ".959 ± .000"),
        (0.95871, 0.0, 4, ".959 ± .000"),
        (0.95871, None, 1, ".959"),
    ],
)
def test_as_many_decimals_as_the_spread_allows(mean, sd, runs, text):
    assert numbers.resolved(numbers.Stat(mean, sd, [mean] * runs)) == text


def test_code_in_markdown_cannot_end_its_block():
    code = page.markdown_code("a\n```\n# b")
    assert code.startswith("````\n")
    assert code.endswith("\n````")
