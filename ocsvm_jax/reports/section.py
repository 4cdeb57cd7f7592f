"""A report as a list of sections, rendered to an HTML page and to Markdown.

Every part of a section appears in both, except pictures and parts wrapped in `PageOnly`: a Markdown
file holds tables and text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from ocsvm_jax.files import whole_file
from ocsvm_jax.reports import page
from ocsvm_jax.reports.page import Table


@runtime_checkable
class Part(Protocol):
    """A piece of a section."""

    def html(self) -> str:
        """The part as HTML, with all text escaped."""
        ...

    def markdown(self) -> str:
        """The part in GitHub's Markdown; empty if it is on the page only."""
        ...


class Paragraph(NamedTuple):
    """A paragraph; `quiet` for notes on how to read a table, `strong` for warnings."""

    text: str
    quiet: bool = False
    strong: bool = False

    def html(self) -> str:
        """See `Part`."""
        if self.quiet:
            return page.note(self.text)
        content = page.text(self.text)
        return f"<p><strong>{content}</strong></p>" if self.strong else f"<p>{content}</p>"

    def markdown(self) -> str:
        """See `Part`."""
        content = page.markdown_text(self.text)
        return f"**{content}**" if self.strong else content


class Captioned(NamedTuple):
    """A table under its caption, which is a heading in Markdown."""

    table: Table

    def html(self) -> str:
        """See `Part`."""
        return self.table.html()

    def markdown(self) -> str:
        """See `Part`."""
        return f"### {page.markdown_text(self.table.caption)}\n\n{self.table.markdown()}"


class Heading(NamedTuple):
    """A heading one level below that of the section."""

    text: str

    def html(self) -> str:
        """See `Part`."""
        return f"<h3>{page.text(self.text)}</h3>"

    def markdown(self) -> str:
        """See `Part`."""
        return f"### {page.markdown_text(self.text)}"


class Code(NamedTuple):
    """A command or a configuration, verbatim."""

    text: str

    def html(self) -> str:
        """See `Part`."""
        return f"<pre><code>{page.text(self.text)}</code></pre>"

    def markdown(self) -> str:
        """See `Part`."""
        return page.markdown_code(self.text)


class Facts(NamedTuple):
    """Names and their values."""

    items: Mapping[str, str]

    def html(self) -> str:
        """See `Part`."""
        return page.definitions(self.items)

    def markdown(self) -> str:
        """See `Part`."""
        return "\n".join(f"- {page.markdown_text(f'{k}: {v}')}" for k, v in self.items.items())


class Picture(NamedTuple):
    """A figure, embedded in the page and written to `figures/` as a file.

    Attributes:
      file: name of its file without ".png".
      image: content of the PNG file.
      alt: alternative text for readers who cannot see it.
      caption: text below it.
      scrolls: see `page.figure`.
    """

    file: str
    image: bytes
    alt: str
    caption: str
    scrolls: str = ""

    def html(self) -> str:
        """See `Part`."""
        return page.figure(self.image, alt=self.alt, caption=self.caption, scrolls=self.scrolls)

    def markdown(self) -> str:
        """Empty: see the module docstring."""
        return ""


class Folded(NamedTuple):
    """Parts that the page folds under a summary; Markdown shows them in full."""

    summary: str
    parts: Sequence[Part]

    def html(self) -> str:
        """See `Part`."""
        return page.details(self.summary, "\n".join(part.html() for part in self.parts))

    def markdown(self) -> str:
        """See `Part`."""
        return "\n\n".join(filter(None, (part.markdown() for part in self.parts)))


class PageOnly(NamedTuple):
    """A part that would be too long for the Markdown file."""

    part: Part

    def html(self) -> str:
        """See `Part`."""
        return self.part.html()

    def markdown(self) -> str:
        """Empty."""
        return ""


class Section(NamedTuple):
    """Parts under a heading; a section without parts is left out of the report."""

    heading: str
    parts: Sequence[Part]

    def html(self) -> str:
        """See `Part`."""
        heading = f"<h2>{page.text(self.heading)}</h2>"
        return "\n".join([heading, *(part.html() for part in self.parts)])

    def markdown(self) -> str:
        """See `Part`; empty if all parts are on the page only."""
        parts = [content for part in self.parts if (content := part.markdown())]
        return "\n\n".join([f"## {page.markdown_text(self.heading)}", *parts]) if parts else ""


class Report(NamedTuple):
    """A report.

    Attributes:
      title: title of the page, and its first heading.
      opening: parts above the first section.
      sections: sections in order.
    """

    title: str
    opening: Sequence[Part]
    sections: Sequence[Section]

    def html(self) -> str:
        """The whole page."""
        shown = [section.html() for section in self.sections if section.parts]
        opening = [part.html() for part in self.opening]
        return page.page(self.title, [f"<h1>{page.text(self.title)}</h1>", *opening, *shown])

    def markdown(self) -> str:
        """The report in GitHub's Markdown, without the parts that only the page shows."""
        parts = [f"# {page.markdown_text(self.title)}"]
        parts += [part.markdown() for part in (*self.opening, *self.sections)]
        return "\n\n".join(filter(None, parts)) + "\n"

    def write(self, workdir: Path, *, figures: Sequence[str], markdown: str = "") -> Path:
        """Writes `report.html`, its figures as `figures/*.png`, and the Markdown file if named.

        Each file is written atomically. Figures of an earlier report that this one lacks are
        removed.

        Args:
          workdir: created if it does not exist.
          figures: patterns such as "gallery-*" that match the names of all figures that a report
            of this kind may have.
          markdown: name of the Markdown file; empty for none.

        Returns:
          The path of `report.html`.
        """
        folder, pictures = workdir / "figures", {p.file: p.image for p in self._pictures()}
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in pictures.items():
            with whole_file(folder / f"{name}.png") as file:
                file.write(image)
        for pattern in figures:
            for path in folder.glob(f"{pattern}.png"):
                if path.stem not in pictures:
                    path.unlink()
        contents = {workdir / markdown: self.markdown()} if markdown else {}
        for path, content in (contents | {workdir / "report.html": self.html()}).items():
            with whole_file(path) as file:
                file.write(content.encode("utf-8", errors="replace"))
        return workdir / "report.html"

    def _pictures(self) -> list[Picture]:
        found: list[Picture] = []
        parts = [*self.opening, *(part for section in self.sections for part in section.parts)]
        while parts:
            part = parts.pop(0)
            if isinstance(part, Picture):
                found.append(part)
            elif isinstance(part, Folded):
                parts += part.parts
            elif isinstance(part, PageOnly):
                parts.append(part.part)
        return found
