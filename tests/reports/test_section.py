"""One list of sections becomes a page and a Markdown file."""

import pytest

from ocsvm_jax.reports import figures
from ocsvm_jax.reports.page import Table
from ocsvm_jax.reports.section import (
    Captioned,
    Code,
    Facts,
    Folded,
    Heading,
    PageOnly,
    Paragraph,
    Part,
    Picture,
    Report,
    Section,
)

TABLE = Captioned(Table("All <rows>", ["name", "value"], {"": [["a|b", "1"]]}))


def picture(file):
    image = figures.png(figures.losses, [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}])
    return Picture(file, image, alt=f"alt of {file}", caption=f"caption of {file}")


def report(*pictures):
    return Report(
        "A & B",
        [Code("python train.py"), Paragraph("not real", strong=True)],
        [
            Section("Results", [Paragraph("how to read", quiet=True), TABLE]),
            Section("Nothing", []),
            Section("Pictures", [*pictures]),
            Section("More", [Folded("on demand", [Heading("inside"), TABLE]), Facts({"k": "v"})]),
            Section("Long", [PageOnly(Folded("every run", [TABLE]))]),
        ],
    )


@pytest.mark.parametrize("part", [TABLE, Code("x"), Paragraph("x"), Facts({}), picture("x")])
def test_parts_have_both_forms(part):
    assert isinstance(part, Part)


def test_the_page_and_the_markdown_hold_the_same():
    html, markdown = report().html(), report().markdown()
    for words in ("how to read", "not real", "inside", "python train.py"):
        assert words in html and words in markdown
    assert "<h1>A &amp; B</h1>" in html and markdown.startswith("# A & B\n")
    assert "All &lt;rows&gt;" in html and markdown.count("### All &lt;rows>") == 2
    assert r"a\|b" in markdown and "a|b" in html
    assert "**not real**" in markdown and "<strong>not real</strong>" in html


def test_what_is_empty_or_on_the_page_only_is_left_out():
    html, markdown = report().html(), report().markdown()
    assert "Nothing" not in html and "Nothing" not in markdown
    assert "every run" in html and "## Long" not in markdown


def test_figures_that_are_gone_are_removed(tmp_path):
    patterns = ("map-*", "losses")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"kept")
    report(picture("map-1"), picture("losses")).write(tmp_path, figures=patterns)
    path = report(picture("map-2")).write(tmp_path, figures=patterns, markdown="table.md")
    assert path == tmp_path / "report.html"
    names = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert names == ["map-2.png", "mine.png"]
    assert "caption of map-2" in path.read_text() and "alt of map-2" in path.read_text()
    assert (tmp_path / "table.md").read_text().startswith("# A & B")
