import base64
import io
import re
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image
from support.html_page import Page

from ocsvm_jax import files
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.experiments.images import report
from ocsvm_jax.reports import figures


def _scores(n=60):
    generator = np.random.default_rng(0)
    scores = {}
    for split in ("val", "test"):
        labels = np.arange(n) % 2
        scores[f"{split}_labels"] = labels
        scores[f"{split}_corruption"] = np.array(["stripe", "canny_edges", "brightness"])[
            np.arange(n) // 2 % 3
        ]
        scores[f"{split}_reconstruction"] = generator.gamma(2.0, size=n).astype(np.float32)
        scores[f"{split}_last-m_2"] = generator.normal(size=n) + labels
    return scores


def _history(epochs=3):
    return [
        {
            "epoch": i,
            "loss": 1 / i,
            "valid_loss": 1.1 / i,
            "guidance": 0.0,
            "seconds": 1.5,
            "beta1": 1,
        }
        for i in range(1, epochs + 1)
    ]


def _latent(offset=-0.5):
    x, y = np.linspace(-2, 2, 12), np.linspace(-1, 1, 9)
    decision = np.exp(-(x[None, :] ** 2) - y[:, None] ** 2) + offset
    points = np.random.default_rng(1).normal(size=(30, 2))
    group = np.repeat(["train", "test normal", "test anomalous"], 10)
    return figures.LatentPicture(points, group, x, y, decision, "Latents & more", "A plane.")


def _write(workdir, **changes):
    scores = changes.get("scores", _scores())
    named = {"reconstruction": scores["test_reconstruction"], "last-m_2": scores["test_last-m_2"]}
    arguments = {
        "title": "OgAE, 3 against 8",
        "command": "python train.py --config=configs/ogae.py",
        "config_text": "seed = 0\nlearning_rate = 0.001",
        "rows": metrics.table(scores["test_labels"], named, split="test", num_resamples=20),
        "scores": scores,
        "history": _history(),
        "latent": _latent(),
        "facts": {"machine": "two cores", "seed": "0"},
    }
    path = report.write_report(workdir, **{**arguments, **changes})
    return path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def blank_figures(monkeypatch):
    """Drawing is most of the time of a report; the figures are tested by themselves."""
    blank = io.BytesIO()
    Image.new("RGB", (160, 80)).save(blank, format="png")
    monkeypatch.setattr(figures, "png", lambda *_: blank.getvalue())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "new"
    return workdir, *_write(workdir)


def test_files(written):
    workdir, path, _ = written
    assert path == workdir / "report.html"
    found = sorted(str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file())
    names = ["histograms", "latent", "losses", "roc"]
    assert found == [*(f"figures/{name}.png" for name in names), "report.html"]


def test_page_is_self_contained(written):
    workdir, path, page = written
    content = path.read_text(encoding="utf-8")
    assert content.startswith("<!DOCTYPE html>\n")
    assert {"script", "link", "iframe", "a"}.isdisjoint(tag for tag, _ in page.tags)
    assert not re.search(r"https?:|url\(|@import", content)
    images = page.attributes("img")
    assert len(images) == 4
    for image, name in zip(images, ("roc", "histograms", "losses", "latent"), strict=True):
        kind, data = image["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == (workdir / "figures" / f"{name}.png").read_bytes()
        assert len(image["alt"]) > 20
        with Image.open(workdir / "figures" / f"{name}.png") as picture:
            ratio = picture.width / picture.height
        assert int(image["width"]) / int(image["height"]) == pytest.approx(ratio, rel=0.01)


def test_page_suits_small_and_dark_screens(written):
    _, path, page = written
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in (
        page.attributes("meta")
    )
    assert "prefers-color-scheme: dark" in path.read_text(encoding="utf-8")
    assert page.attributes("html") == [{"lang": "en"}]


def test_page_holds_the_run(written):
    _, _, page = written
    scores = _scores()
    expected = metrics.table(
        scores["test_labels"], {"last-m_2": scores["test_last-m_2"]}, split="test", num_resamples=20
    )[0]
    for text in (
        "OgAE, 3 against 8",
        "python train.py --config=configs/ogae.py",
        "learning_rate = 0.001",
        "two cores",
        "50.0%",
        str(expected.metrics["AUPR"]),
    ):
        assert text in page.text
    stripe = scores["val_corruption"] == "stripe"
    auroc = metrics.auroc(scores["val_labels"][stripe], scores["val_last-m_2"][stripe])
    assert f"{auroc:.3f}" in page.text


def test_text_is_escaped(tmp_path):
    evil = "<script>alert('1')</script> & \"quotes\" \x1b[31m \udcff $x$ 3 < 8"
    scores = _scores()
    for split in ("val", "test"):
        scores[f"{split}_$<b>"] = scores[f"{split}_reconstruction"]
        scores[f"{split}_corruption"] = np.char.add(scores[f"{split}_corruption"], "<i>$")
    row = metrics.table([0, 1], {evil: [0.1, 0.2]}, split=evil, num_resamples=5)
    _, page = _write(
        tmp_path,
        scores=scores,
        rows=row,
        title=evil,
        command=evil,
        config_text=evil,
        facts={evil: evil},
        history=[{"epoch": 1, "loss": 0.5, evil: evil}],
        latent=_latent()._replace(caption=evil),
    )
    assert {"script", "b", "i"}.isdisjoint(tag for tag, _ in page.tags)
    assert page.text.count("<script>alert('1')</script> & \"quotes\" \ufffd[31m ? $x$ 3 < 8") == 11
    assert "$<b>" in page.text


@pytest.mark.usefixtures("blank_figures")
def test_optional_parts_and_stale_figures(tmp_path):
    _write(tmp_path)
    scores = {key: value for key, value in _scores().items() if key.startswith("test_")}
    _, page = _write(tmp_path, scores=scores, history=[], latent=None, rows=[], facts={})
    found = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert found == ["histograms.png", "roc.png"]
    assert len(page.attributes("img")) == 2
    assert "No training history" in page.text
    assert "Validation" not in page.text


@pytest.mark.usefixtures("blank_figures")
def test_npz_file(tmp_path):
    np.savez(tmp_path / "scores.npz", **_scores())
    with np.load(tmp_path / "scores.npz") as scores:
        _, page = _write(tmp_path, scores=scores)
    assert "canny_edges" in page.text


@pytest.mark.usefixtures("blank_figures")
def test_corruption_with_one_class(tmp_path):
    scores = _scores()
    scores["test_corruption"] = np.where(scores["test_labels"] == 1, "stripe", "brightness")
    _, page = _write(tmp_path, scores=scores)
    assert page.text.count("one class") == 4


@pytest.mark.parametrize("missing", ["test_labels", "test_corruption"])
def test_missing_array(tmp_path, missing):
    scores = _scores()
    del scores[missing]
    with pytest.raises(ValueError, match="it needs test_labels, test_corruption and"):
        report.write_report(
            tmp_path,
            title="",
            command="",
            config_text="",
            rows=[],
            scores=scores,
            history=[],
            latent=None,
            facts={},
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("blank_figures")
def test_a_failed_write_keeps_the_old_report(tmp_path, monkeypatch):
    path, _ = _write(tmp_path)
    before = path.read_bytes()

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        _write(tmp_path, title="another")
    assert path.read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_global_matplotlib_state_is_left_alone_and_not_used():
    expected = figures.png(figures.losses, _history())
    pyplot_was_loaded = "matplotlib.pyplot" in sys.modules

    def settings():
        # Looking up the backend would choose one, and load pyplot.
        return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        before = settings()
        assert figures.png(figures.losses, _history()) == expected
        assert settings() == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_loaded
    assert "backend" in matplotlib.rcParams


def test_roc_curves():
    labels, scores = [0, 0, 1, 1], {"a": np.array([0.1, 0.4, 0.35, 0.8]), "b": np.arange(4.0)}
    (axes,) = figures.roc(labels, scores).axes
    curves = {line.get_label(): line for line in axes.lines}
    assert list(curves) == ["a: AUROC 0.750", "b: AUROC 1.000", "chance: AUROC 0.500"]
    x, y = curves["a: AUROC 0.750"].get_data()
    assert np.trapezoid(y, x) == pytest.approx(0.75)
    (span,) = axes.patches
    assert span.get_x() + span.get_width() == pytest.approx(metrics.MAX_FPR)


def test_histograms_count_every_image_despite_heavy_tails():
    generator = np.random.default_rng(0)
    values = generator.normal(size=2000)
    values[::100] = 1e6
    labels, corruption = np.arange(2000) % 2, np.repeat(["x", "y"], 1000)
    flat = {"zero": np.zeros(2000), "large": np.where(labels == 1, 1e6, np.nextafter(1e6, 2e6))}
    figure = figures.histograms(labels, corruption, {"a": values, **flat})
    assert [axes.get_title() for axes in figure.axes] == ["x", "y"] * 3
    for axes in figure.axes:
        for step in axes.patches:
            heights, edges, _ = step.get_data()
            assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()


def test_histogram_range_of_a_tail_of_half_a_percent():
    values = np.random.default_rng(0).normal(size=1000)
    values[:5] = 1e6
    edges = figures._edges([values, values + 1])
    assert -4 < edges[0] < -2
    assert 3 < edges[-1] < 6


def test_losses_plot_what_is_there():
    history = [
        {"epoch": 1, "loss": 100.0, "kl": 2.0, "beta1": 1.0, "note": "warm-up", "seconds": 3.0},
        {"epoch": 2, "loss": 1.0, "kl": None, "beta1": 0.5, "beta2": 0.5, "seconds": 3.0},
        {"epoch": 3, "loss": float("nan"), "kl": np.float32(1.0), "beta1": 0.5, "beta2": 0.5},
    ]
    top, middle, bottom = figures.losses(history).axes
    assert [axes.get_ylabel() for axes in (top, middle, bottom)] == [
        "loss",
        "kl",
        "gradient weight",
    ]
    assert top.get_yscale() == "log"
    assert {"1", "10", "100"} <= {label.get_text() for label in top.get_yticklabels()}
    assert middle.get_yscale() == "linear"
    np.testing.assert_array_equal(top.lines[0].get_data(), [[1, 2, 3], [100.0, 1.0, np.nan]])
    np.testing.assert_array_equal(middle.lines[0].get_ydata(), [2.0, np.nan, 1.0])
    assert len(bottom.lines) == 2


def test_curves_leave_out_timings_and_text():
    history = [{"epoch": 1, "seconds": 2.0, "images_per_s": 9.0, "note": "x", "nan": np.nan}]
    assert figures.curves(history) == {}
    assert figures.curves([]) == {}


@pytest.mark.parametrize(("offset", "boundary"), [(-0.5, True), (1.0, False), (-2.0, False)])
def test_latent_boundary(offset, boundary):
    figure = figures.latent(_latent(offset))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("boundary, f = 0" in texts) == boundary
    assert texts[-3:] == ["train", "test normal", "test anomalous"]
    assert Image.open(io.BytesIO(figures.png(figures.latent, _latent(offset)))).format == "PNG"


def test_latent_draws_a_part_of_a_large_group():
    n = figures.MAX_POINTS_PER_GROUP + 7
    picture = _latent()._replace(points=np.zeros((n, 2)), group=np.full(n, "train"))
    figure = figures.latent(picture)
    drawn = [len(c.get_offsets()) for c in figure.axes[0].collections if c.get_label() == "train"]
    assert drawn == [figures.MAX_POINTS_PER_GROUP]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": np.zeros((12, 9))}, r"decision \(12, 9\)"),
        ({"points": np.zeros((30, 3))}, r"points \(30, 3\)"),
        ({"group": np.array(["train"])}, r"group \(1,\)"),
        ({"decision": np.full((9, 12), np.nan)}, "diverged"),
    ],
)
def test_bad_latent_picture(change, message):
    with pytest.raises(ValueError, match=message):
        figures.latent(_latent()._replace(**change))
