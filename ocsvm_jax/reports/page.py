"""HTML and Markdown for reports: text, tables, figures and the page around them.

The page is self-contained: it embeds its images and styles, has no scripts or links, and follows
the reader's light or dark mode. These functions escape all text that they are given.
"""

import base64
import html
import re
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ocsvm_jax.reports import figures

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --quiet: #555; --line: #d4d4d4; --page: #fff;
  --panel: #f5f5f5; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --quiet: #b0b0b0; --line: #444;
  --page: #161616; --panel: #232323; } }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--text); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
caption { text-align: left; color: var(--quiet); padding-bottom: .3rem; }
caption span { display: inline-block; position: sticky; left: 0; white-space: normal;
  max-width: calc(100vw - 2.5rem); }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right; }
thead th { vertical-align: bottom; white-space: normal; }
th:first-child, .words { text-align: left; }
tbody th { font-weight: normal; background: var(--page); position: sticky; left: 0; }
tbody th[scope=rowgroup] { padding-top: .9rem; color: var(--quiet); font-style: italic; }
.words:not(:first-child) { padding-left: .4rem; }
td.words { white-space: normal; min-width: 8rem; overflow-wrap: anywhere; }
tbody th[scope=row] { white-space: normal; min-width: 6.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--quiet); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .7rem; background: var(--panel); font-size: .85rem; }
figure { margin: 1.5rem 0; }
figure .wide { margin: .3rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
figcaption, p.note { color: var(--quiet); font-size: .92rem; }
summary { cursor: pointer; padding: .4rem 0; }
"""
# Characters with a meaning inside a line of Markdown; some sites typeset text between dollar signs.
_MARKDOWN = re.compile(r"[\\`*\[\]|$~]|(?<![^\W_])_|_(?![^\W_])")


class Strong(str):
    """The text of a cell set in bold."""

    __slots__ = ()


class Table(NamedTuple):
    """A table of text.

    Attributes:
      caption: what the table shows.
      header: names of the columns.
      blocks: lines of cells by the heading above them; an empty heading is not shown.
      words: indices of the columns that hold words, which are aligned left and wrapped.
    """

    caption: str
    header: Sequence[str]
    blocks: Mapping[str, Sequence[Sequence[str]]]
    words: Sequence[int] = ()

    def html(self) -> str:
        """The table in a box that scrolls sideways."""
        columns = [
            f'<th scope="col"{self._class(i)}>{text(name)}</th>'
            for i, name in enumerate(self.header)
        ]
        body = []
        for heading, lines in self.blocks.items():
            rows = [self._row(line) for line in lines]
            if heading:
                attributes = f'colspan="{len(self.header)}" scope="rowgroup"'
                rows.insert(0, f"<tr><th {attributes}>{text(heading)}</th></tr>")
            body += ["<tbody>", *rows, "</tbody>"]
        head = f"<thead><tr>{''.join(columns)}</tr></thead>"
        caption = f"<caption><span>{text(self.caption)}</span></caption>"
        return wide(self.caption, "\n".join([f"<table>{caption}", head, *body, "</table>"]))

    def markdown(self) -> str:
        """The table without its caption, in GitHub's Markdown."""
        left = {0, *self.words}
        lines = [
            [markdown_text(name) for name in self.header],
            ["---" if i in left else "--:" for i in range(len(self.header))],
        ]
        for heading, block in self.blocks.items():
            if heading:
                lines.append([f"*{markdown_text(heading)}*"] + [""] * (len(self.header) - 1))
            lines += [[_markdown_cell(cell) for cell in line] for line in block]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _row(self, line: Sequence[str]) -> str:
        cells = [f"<strong>{text(c)}</strong>" if isinstance(c, Strong) else text(c) for c in line]
        first, *rest = cells
        cells = [f"<td{self._class(i)}>{cell}</td>" for i, cell in enumerate(rest, start=1)]
        return f'<tr><th scope="row">{first}</th>{"".join(cells)}</tr>'

    def _class(self, column: int) -> str:
        return ' class="words"' if column in self.words else ""


def figure(image: bytes, *, alt: str, caption: str, scrolls: str = "") -> str:
    """A PNG image embedded in the page.

    Args:
      image: content of the PNG file, at `figures.PNG_DPI` dots per inch.
      alt: alternative text for readers who cannot see it.
      caption: text below it.
      scrolls: accessible name of a figure that scrolls sideways on a phone instead of shrinking,
        because its many panels would become unreadable; empty for one that may shrink.
    """
    data = base64.b64encode(image).decode("ascii")
    # The header of a PNG file holds the width at byte 16 and the height at byte 20. Browsers use
    # 96 pixels per inch.
    pixels = struct.unpack_from(">II", image, 16)
    width, height = (round(size * 96 / figures.PNG_DPI) for size in pixels)
    style = f' style="min-width: {round(0.7 * width)}px"' if scrolls else ""
    content = (
        f'<img alt="{text(alt)}" width="{width}" height="{height}"{style} '
        f'src="data:image/png;base64,{data}">'
    )
    if scrolls:
        content = wide(scrolls, content)
    return f"<figure>{content}\n<figcaption>{text(caption)}</figcaption></figure>"


def wide(label: str, content: str) -> str:
    """A box around HTML `content` that scrolls sideways, by touch or from the keyboard."""
    attributes = f'class="wide" role="region" aria-label="{text(label)}" tabindex="0"'
    return f"<div {attributes}>{content}</div>"


def note(content: str) -> str:
    """A paragraph in muted colour."""
    return f'<p class="note">{text(content)}</p>'


def definitions(items: Mapping[str, str]) -> str:
    """Names and their values in two columns."""
    lines = [f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in items.items()]
    return "\n".join(["<dl>", *lines, "</dl>"]) if lines else ""


def details(summary: str, content: str) -> str:
    """HTML `content`, folded under a summary."""
    return f"<details><summary>{text(summary)}</summary>\n{content}\n</details>"


def page(title: str, body: Sequence[str]) -> str:
    """The whole page around a body of HTML parts."""
    content = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Escapes text for HTML; control characters that HTML does not allow become U+FFFD."""
    return html.escape(_without_controls(value))


def markdown_text(value: object) -> str:
    """Escapes text for Markdown, as part of one line."""
    line = _MARKDOWN.sub(r"\\\g<0>", re.sub(r"\s+", " ", _without_controls(value)))
    # A bound such as "< 1/1000" is not a tag and stays readable.
    return re.sub(r"[<&](?=\S)", lambda found: html.escape(found[0]), line)


def markdown_code(value: object) -> str:
    """A code block in Markdown around any text."""
    content = _without_controls(value)
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{content}\n{fence}"


def _markdown_cell(cell: str) -> str:
    content = markdown_text(cell)
    return f"**{content}**" if isinstance(cell, Strong) and content.strip() else content


def _without_controls(value: object) -> str:
    return re.sub(r"[^\t\n\r\x20-\x7e\xa0-\U0010ffff]", "\ufffd", str(value))
