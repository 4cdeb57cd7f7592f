"""A whole table from end to end, on few images of the digits: killed, continued, grown, refused."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.metrics import average_precision_score, roc_auc_score

from ocsvm_jax import data
from ocsvm_jax.evaluation import collapse, domains
from ocsvm_jax.evaluation.pca import PCA
from ocsvm_jax.experiments.table import baselines, experiment, judge, testing
from ocsvm_jax.experiments.table.progress import Progress
from ocsvm_jax.experiments.table.record import to_json
from ocsvm_jax.files import sole_user
from ocsvm_jax.training import population

# What it compiles, it runs for long.
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.optimised,
    pytest.mark.usefixtures("standard_promotion"),
]

ROOT = Path(__file__).parents[3]
SMALL = {
    "data.name": "digits",
    "data.test_corruptions": ("stripe", "brightness"),
    "train.epochs": 3,
    "train.batch_size": 20,
    "train.checkpoint_every": 1,
    "method.latent_dim": 3,
    "eval.resamples": 30,
    "table.methods": ("vae", "deep_svdd"),
    "table.seeds": (0, 1),
    "table.coarse_epochs": 1,
    "table.finalists": 1,
    "table.max_images": 240,
}


@pytest.fixture(scope="module", autouse=True)
def configs_import_one_another():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield


def card(**changes):
    config = runpy.run_path(str(ROOT / "configs" / "mnistc_table1.py"))["get_config"]()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict(SMALL | changes)
        config.table.grids.vae.kl_weight = (1.0, 0.01)
        config.table.finals.update({"nu": (0.1,), "gamma": (0.1, 0.01), "standardize": (True,)})
    return config


def results(config, workdir, command="", progress=Progress):
    """The results of a table, as JSON has them."""
    return to_json(experiment.main(config, workdir, command, progress))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, standard_promotion):
    workdir = tmp_path_factory.mktemp("table") / "new"
    return workdir, results(card(), workdir, "the command")


def row_named(record, name):
    (row,) = [row for row in record["rows"] if row["name"] == name]
    return row


def untimed(record):
    """A record without time and commit, which may differ between two calls of one command."""
    visited = [
        {k: v for k, v in run.items() if k not in ("seconds", "commit")}
        for run in record["visited"]
    ]
    kept = {k: v for k, v in record.items() if k not in ("wall_seconds", "facts")}
    return kept | {"visited": visited}


def test_what_is_written(finished):
    workdir, record = finished
    assert json.loads((workdir / "results.json").read_text()) == record
    assert (workdir / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert "VAE + OCSVM" in (workdir / "table.md").read_text()
    assert list((workdir / "partial").iterdir()) == []
    assert [row["name"] for row in record["rows"]] == ["VAE", "VAE + OCSVM", "h-DSVDD"]
    assert record["comparisons_of_paper"] == record["comparisons"]
    assert all(run["commit"] for run in record["visited"])
    # Two points of each method on one seed, then the best of each row on two.
    stages = [run["stage"] for run in record["visited"] if run["method"] == "deep_svdd"]
    assert stages == ["coarse"] * 2 + ["seeds"] * 2


def test_published_figures_stand_only_beside_the_same_task(finished):
    assert all(row["paper"] is None for row in finished[1]["rows"])


def test_test_figures_are_those_of_the_scores_on_disk(finished):
    """Recomputed by scikit-learn from the kept scores and the labels of the data."""
    workdir, record = finished
    _, sets = experiment.load(card())
    for protocol, found in sets.items():
        kept = []
        for path in (workdir / "test" / protocol).glob("*.npz"):
            with np.load(path) as file:
                kept += [file[name] for name in file.files if name.startswith("test ")]
        labels = found.test.anomalous
        figures = [(roc_auc_score(labels, s), average_precision_score(labels, s)) for s in kept]
        # Twice the ranks, as whole numbers: half for a tie.
        ranks = [np.sum(s[:, None] > s, axis=1) + np.sum(s[:, None] >= s, axis=1) for s in kept]
        for row in record["rows"]:
            test = row["protocols"][protocol]["test"]
            for pair in zip(test["AUROC"]["values"], test["AUPR"]["values"], strict=True):
                assert np.isclose(figures, pair, rtol=1e-12).all(axis=1).any()
            own = [
                next(r for r, figure in zip(ranks, figures, strict=True) if figure[0] == auroc)
                for auroc in test["AUROC"]["values"]
            ]
            ensemble = row["protocols"][protocol]["ensemble"]
            assert ensemble["AUROC"] == pytest.approx(roc_auc_score(labels, sum(own)), rel=1e-12)
            assert ensemble["AUPR"] == pytest.approx(
                average_precision_score(labels, sum(own)), rel=1e-12
            )
            assert test["AUROC"]["mean"] == pytest.approx(np.mean(test["AUROC"]["values"]))
            assert test["AUROC"]["sd"] == pytest.approx(np.std(test["AUROC"]["values"], ddof=1))


def test_chosen_settings_have_the_largest_validation_figure(finished):
    workdir, record = finished
    vaes = [json.loads(p.read_text()) for p in (workdir / "runs").glob("vae-*/run.json")]
    full = [run for run in vaes if run["epochs"] == 3]
    for protocol in ("paper", "leak_free"):
        chosen = row_named(record, "VAE + OCSVM")["protocols"][protocol]
        means = {}
        for run in full:
            for name, figures in run["valid"][protocol].items():
                if name.startswith("ocsvm"):
                    key = json.dumps(run["settings"]) + name
                    means.setdefault(key, []).append(figures["AUROC"])
        best = max(np.mean(values) for values in means.values())
        assert chosen["valid"]["AUROC"]["mean"] == pytest.approx(best)


def test_a_second_call_trains_nothing_and_says_the_same(finished, monkeypatch):
    workdir, record = finished
    monkeypatch.setattr(population, "train", lambda *_: pytest.fail("trained again"))
    again = results(card(), workdir, "the command")
    assert untimed(again) == untimed(record)
    assert again["wall_seconds"] > record["wall_seconds"]


def test_killed_at_several_points_it_ends_the_same(finished, tmp_path, monkeypatch):
    """Interrupted within a run, between two, and while testing; no finished run is repeated."""
    _, whole = finished
    config, told = card(**{"table.methods": ("vae",)}), []

    class Interrupted(Progress):
        def epochs(self, number, loss):
            told.append(number)
            if len(told) in (2, 6):
                raise KeyboardInterrupt
            super().epochs(number, loss)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            experiment.main(config, tmp_path / "t", "the command", Interrupted)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "t" / "runs").glob("*/run.json")}
    assert before
    with monkeypatch.context() as patch:
        patch.setattr(judge, "plane", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            experiment.main(config, tmp_path / "t", "the command")
    record = results(config, tmp_path / "t", "the command")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert record["rows"] == [row for row in whole["rows"] if row["name"].startswith("VAE")]
    visited = [run for run in untimed(whole)["visited"] if run["method"] == "vae"]
    assert untimed(record)["visited"] == visited


def test_a_report_never_loses_rows(finished):
    workdir, _ = finished
    before = (workdir / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"this call leaves out.*: h-DSVDD\. Ask for"):
        experiment.main(card(**{"table.methods": ("vae",)}), workdir)
    assert (workdir / "results.json").read_bytes() == before


def test_other_images_in_the_same_place_are_refused(finished, monkeypatch):
    workdir, _ = finished
    load = experiment.load

    def changed(config):
        train, sets = load(config)
        images = train.images.copy()
        images[0, 0, 0, 0] += 1
        return train._replace(images=images), sets

    monkeypatch.setattr(experiment, "load", changed)
    with pytest.raises(ValueError, match=r"holds runs of other data; different now:\n  training\n"):
        experiment.main(card(), workdir)


def test_a_directory_where_another_process_works(finished):
    workdir, _ = finished
    program = (
        "import sys, time, pathlib; from ocsvm_jax.files import sole_user\n"
        "with sole_user(pathlib.Path(sys.argv[1])):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ValueError, match="another process is at work in"):
            experiment.main(card(), workdir)
        other.kill()
    # A killed process leaves nothing locked.
    with sole_user(workdir):
        pass


def test_killed_while_its_population_is_judged_nothing_is_trained_again(tmp_path, monkeypatch):
    settings = {"table.models_at_once": 4, "table.methods": ("vae",), "table.search": "defaults"}

    class Interrupted(Progress):
        def finished(self, spec, record):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.main(card(**settings), tmp_path / "t", progress=Interrupted)
    assert len(list((tmp_path / "t" / "runs").glob("*/trained.json"))) == 2
    assert len(list((tmp_path / "t" / "runs").glob("*/run.json"))) == 1
    monkeypatch.setattr(population, "train", lambda *_: pytest.fail("trained again"))
    record = results(card(**settings), tmp_path / "t")
    assert [run["status"] for run in record["visited"]] == ["done", "done"]
    assert len(row_named(record, "VAE")["protocols"]["paper"]["test"]["AUROC"]["values"]) == 2


def test_the_bar_counts_runs_that_are_there(finished):
    workdir, _ = finished
    counted = []

    class Counting(Progress):
        def known(self, spec):
            counted.append(spec)

    experiment.main(card(), workdir, progress=Counting)
    # Two points of 1 epoch and the best of each row on two seeds with 3, for each method.
    assert sorted({spec.epochs for spec in counted}) == [1, 3]
    assert len({spec.name for spec in counted}) == len(counted) == len(experiment_runs(workdir))


def experiment_runs(workdir):
    """Runs of the two methods that the card asks for."""
    found = (workdir / "runs").glob("*/run.json")
    return [p for p in found if p.parent.name.startswith(("vae-", "deep_svdd-"))]


def test_a_table_may_grow_but_not_change(finished, tmp_path):
    workdir, record = finished
    before = {p: p.stat().st_mtime_ns for p in (workdir / "runs").glob("*/run.json")}
    with pytest.raises(ValueError, match=r"train\.epochs: 3 there, 4 now"):
        experiment.main(card(**{"train.epochs": 4}), workdir)
    grown = results(card(**{"table.methods": ("vae", "deep_svdd", "ae")}), workdir)
    assert {row["name"] for row in grown["rows"]} > {row["name"] for row in record["rows"]}
    assert row_named(grown, "VAE") == row_named(record, "VAE")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (
        "The test images were scored once, with these settings."
        in (workdir / "table.md").read_text()
    )
    # What the search looked at before stays told, when another search no longer asks for it.
    methods = {"table.methods": ("vae", "deep_svdd", "ae"), "table.search": "defaults"}
    other = results(card(**methods), workdir)
    names = [(run["method"], str(run["settings"]), run["seed"]) for run in other["visited"]]
    assert {run["stage"] for run in other["visited"]} == {"seeds", "earlier"}
    for run in grown["visited"]:
        assert (run["method"], str(run["settings"]), run["seed"]) in names


def test_baselines_beside_the_methods(tmp_path, monkeypatch):
    """Fitted once per seed, without epochs; the second call fits nothing."""
    config = card(**{"table.methods": ("pca", "ae"), "train.epochs": 1, "table.seeds": (0, 1)})
    record = results(config, tmp_path / "t")
    fitted = [run for run in record["visited"] if run["method"] == "pca"]
    assert [(run["seed"], run["epochs"], run["status"]) for run in fitted] == [
        (0, 0, "done"),
        (1, 0, "done"),
    ]
    train, sets = experiment.load(config)
    for protocol, found in sets.items():
        folds = [data.holdout_rows(len(train.images), 0.1, seed)[0] for seed in (0, 1)]
        expected = []
        for rows in folds:
            pixels = train.images[rows].reshape(len(rows), -1) / 255
            pca = decomposition.PCA(3, svd_solver="full").fit(pixels)
            new = found.test.images.reshape(len(found.test.images), -1) / 255
            errors = np.square(new - pca.inverse_transform(pca.transform(new))).mean(1)
            expected.append(roc_auc_score(found.test.anomalous, errors))
        own = row_named(record, "PCA")["protocols"][protocol]
        np.testing.assert_allclose(own["test"]["AUROC"]["values"], expected, atol=2e-3)
        # A row that is one of the scores on its latents has the value of that column.
        gaussian = row_named(record, "PCA + Gaussian")["protocols"][protocol]
        assert gaussian["test"] == gaussian["latent_scores"]["gaussian"]
        # By domain, in another way: the groups that were kept, and quartiles of the errors.
        kept = domains.Domains.load(tmp_path / "t" / "test" / protocol / "domains.npz").groups
        assert (
            record["domains"][protocol]["images"]["test"]
            == np.bincount(
                domains.group_of(kept, found.test.images), minlength=len(kept.centres)
            ).tolist()
        )
        expected = []
        for rows in folds:
            fitted = PCA.fit(train.images[rows], 3)
            valid, test = (fitted.scores(part.images) for part in (found.valid, found.test))
            units = domains.of_groups(kept, domains.group_of(kept, found.valid.images), valid)
            out = domains.normalized(units, found.test.images, test)
            expected.append(roc_auc_score(found.test.anomalous, out.scores["reconstruction"]))
        np.testing.assert_allclose(own["by_domain"]["AUROC"]["values"], expected, atol=1e-3)
        # The same scores on the latents of every encoder.
        autoencoder = row_named(record, "AE")["protocols"][protocol]["latent_scores"]
        assert set(autoencoder) == {"ocsvm", "gaussian", "knn"}
        final = row_named(record, "AE + OCSVM")["protocols"][protocol]
        assert autoencoder["ocsvm"] == final["test"]
    monkeypatch.setattr(baselines, "fit", lambda *_: pytest.fail("fitted again"))
    assert untimed(results(config, tmp_path / "t")) == untimed(record)


@pytest.mark.parametrize(
    ("components", "message"),
    [(785, r"method\.latent_dim is 785; the images of pca have 784 pixels"),
     (300, r"there are \d+ images to train on, too few for 300 principal components")],
)  # fmt: skip
def test_too_many_components_are_told_at_once(tmp_path, components, message):
    config = card(**{"table.methods": ("pca",), "method.latent_dim": components})
    with pytest.raises(ValueError, match=message):
        experiment.main(config, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_runs_judged_before_there_were_densities_are_judged_again(tmp_path):
    settings = {"table.methods": ("pca",), "table.seeds": (0,)}
    before = results(card(**settings), tmp_path / "t")
    (path,) = (tmp_path / "t" / "runs").glob("*/run.json")
    record = json.loads(path.read_text())
    for named in record["valid"].values():
        del named["gaussian"], named["knn"]
    record["judged_by"] = [n for n in record["judged_by"] if n not in ("gaussian", "knn")]
    path.write_text(json.dumps(record))
    assert untimed(results(card(**settings), tmp_path / "t")) == untimed(before)


def test_the_mean_rank_knows_no_scale():
    first, second = np.array([0.1, 0.2, 0.3]), np.array([300.0, 100.0, 100.0])
    third = np.array([-2.0, -1.0, -3.0])
    found = testing.mean_rank([first, second, third])
    np.testing.assert_allclose(found, [(1 + 3 + 2) / 3, (2 + 1.5 + 3) / 3, (3 + 1.5 + 1) / 3])
    again = testing.mean_rank([np.log(first), second / 1e6, np.exp(third)])
    np.testing.assert_array_equal(again, found)


def test_a_choice_that_changes_after_the_test_is_told(tmp_path):
    path = tmp_path / "paper" / "choices.json"
    first, second = {"method.nu": 0.1}, {"method.nu": 0.3}
    assert testing.note_choice(path, "OgAE", first) == []
    assert testing.note_choice(path, "AE", {}) == []
    assert testing.note_choice(path, "OgAE", first) == []
    assert testing.note_choice(path, "OgAE", second) == [first]
    # A row that goes back to it has seen the other all the same.
    assert testing.note_choice(path, "OgAE", first) == [second]


@pytest.mark.slow
def test_populations_give_the_table_of_the_sequence(finished, tmp_path):
    """Under vmap, the same search visits the same points with the same figures."""
    _, sequence = finished
    config = card(**{"table.models_at_once": 3, "table.methods": ("deep_svdd",)})
    together = results(config, tmp_path / "t")
    for protocol in ("paper", "leak_free"):
        ours, theirs = (
            row_named(record, "h-DSVDD")["protocols"][protocol] for record in (together, sequence)
        )
        assert ours["settings"] == theirs["settings"]
        np.testing.assert_allclose(
            ours["test"]["AUROC"]["values"], theirs["test"]["AUROC"]["values"], atol=0.02
        )


def test_collapsed_runs_are_reported_and_are_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(collapse, "collapsed", lambda scores, squared_size=None: True)
    config = card(**{"table.methods": ("deep_svdd",), "table.search": "defaults"})
    record = results(config, tmp_path / "t")
    (row,) = record["rows"]
    assert row["protocols"]["paper"]["test"] is None
    assert row["protocols"]["paper"]["collapsed"] == [0, 1]
    assert {run["status"] for run in record["visited"]} == {"collapsed"}
    assert "collapsed" in (tmp_path / "t" / "table.md").read_text()


def test_several_normal_classes_and_other_corruptions():
    config = card(
        **{
            "data.normal": (1, 3),
            "data.anomalies": (7, 8),
            "data.train_corruptions": ("identity", "stripe"),
            "data.test_corruptions": ("translate",),
        }
    )
    experiment.check(config)
    train, sets = experiment.load(config)
    assert set(train.classes) == {1, 3}
    assert set(sets["paper"].test.classes) == {1, 3, 7, 8}
    assert set(sets["paper"].test.corruption) == {"translate"}
    counts = np.unique(sets["paper"].valid.classes, return_counts=True)[1]
    assert counts.min() > 0.5 * counts.max()


def test_a_whole_table_of_several_normal_classes(tmp_path):
    config = card(
        **{
            "data.normal": (1, 3),
            "data.anomalies": (7, 8),
            "data.train_corruptions": ("identity", "stripe"),
            "data.test_corruptions": ("translate", "brightness"),
            "table.methods": ("deep_svdd",),
            "table.search": "defaults",
        }
    )
    record = results(config, tmp_path / "t")
    assert record["title"] == "digits, 1, 3 against 7, 8"
    for protocol in ("paper", "leak_free"):
        own = row_named(record, "h-DSVDD")["protocols"][protocol]
        assert len(own["test"]["AUROC"]["values"]) == 2
        assert list(own["by_corruption"]) == ["translate", "brightness"]


def test_quick_profile(tmp_path):
    config = runpy.run_path(str(ROOT / "configs" / "mnistc_table1.py"))["get_config"]()
    config.quick = True
    quick = experiment.resolve(config)
    assert quick.train.epochs == 2
    assert quick.table.search == "defaults"
    assert quick.data == config.data
    experiment.check(quick)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("table.search", "grid", "table.search is 'grid'; it is one of"),
        ("table.methods", ("vae", "gan"), "table.methods names 'gan'"),
        ("table.seeds", (), r"table\.seeds is \(\); name one or more"),
        ("table.seeds", (1, 1), r"table\.seeds is \(1, 1\); name one or more, each once"),
        ("table.protocols", ("paper", "paper"), "each once"),
        ("table.finalists", 0, r"table\.finalists is 0"),
        ("table.max_images", -1, r"table\.max_images is -1"),
        ("table.alpha", 0.0, r"table\.alpha is 0\.0"),
        ("table.grids.vae.kl_weight", (-1.0,), r"method\.kl_weight is -1\.0"),
        ("table.grids.deep_svdd.pretrain", (1.5,), r"method\.pretrain is 1\.5"),
        ("table.finals.nu", (2.0,), r"final\.nu is 2\.0"),
        ("train.epochs", 0, r"train\.epochs is 0"),
    ],
)
def test_what_can_not_work_is_said_before_anything_is_written(tmp_path, field, value, message):
    config = card()
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        experiment.main(config, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_an_axis_that_is_no_setting(tmp_path):
    config = card()
    with config.unlocked():
        config.table.grids.vae = {"kl_wieght": (1.0,)}
    with pytest.raises(ValueError, match=r"names 'kl_wieght'.*Did you mean 'kl_weight"):
        experiment.main(config, tmp_path / "t")


def test_holdout_rows_are_those_of_holdout():
    train = data.load("digits").train
    kept, held = data.holdout(train, 0.1, 3)
    rows = data.holdout_rows(len(train.images), 0.1, 3)
    for part, chosen in zip((kept, held), rows, strict=True):
        np.testing.assert_array_equal(part.images, data.take(train, chosen).images)
