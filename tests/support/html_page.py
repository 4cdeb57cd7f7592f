"""A parser of the pages that reports are, for the tests of what stands in them."""

from html.parser import HTMLParser

_VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects tags, visible text and the rows of tables; fails on tags that cross."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.stack, self.tags, self.text, self.rows = [], [], "", []
        self.feed(content)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"th", "td"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text += data
        if self.stack and {"th", "td"} & set(self.stack):
            self.rows[-1][-1] += f"**{data}**" if "strong" in self.stack else data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
