"""Records of results: their form in files, which those of earlier versions share."""

import json
from pathlib import Path

from support.brain_results import results, run

from ocsvm_jax.experiments.brain import records, report

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "results"


def test_what_is_read_is_what_is_written(tmp_path):
    content = results([run("ogae", epochs=2), run("minus_z")])
    found = records.from_json(content)
    assert records.to_json(found) == content
    assert json.dumps(records.to_json(found)) == json.dumps(content)  # in the same order
    records.write(tmp_path / "results.json", records.to_json(found))
    assert json.loads((tmp_path / "results.json").read_text()) == content
    judged = found.runs[0].scores["score"].patients["near_wmh"]["raw"]
    raw = content["runs"][0]["scores"]["score"]["patients"]["near_wmh"]["raw"]
    assert [one.aupr for one in judged] == raw["AUPR"]
    assert [one.prevalence for one in judged] == raw["prevalence"]


def test_a_run_of_a_version_that_recorded_no_facts():
    content = run("minus_z")
    del content["facts"]
    assert records.run_from_json(content).facts == {}


def test_the_report_is_made_from_results_of_an_earlier_version():
    """With the values that were published; ranks may differ, for the file has five digits each."""
    content = json.loads((PUBLISHED / "brain.json").read_text())
    content["config"]["eval"]["resamples"] = 20
    made = report.report_of(records.from_json(content)).markdown()
    found, published = made.splitlines(), (PUBLISHED / "brain.md").read_text().splitlines()

    def rows(lines):
        return [line for line in lines if line.startswith("|")]

    ours, theirs = (rows(lines[: lines.index("## Whole images")]) for lines in (found, published))
    assert ours == theirs and len(ours) > 100
    ours, theirs = ([line.split(" | ")[0] for line in rows(lines)] for lines in (found, published))
    assert ours == theirs
