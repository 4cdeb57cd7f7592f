"""Instructions of a kernel, loop by loop, from its PTX."""

import re
from pathlib import Path
from typing import NamedTuple

_LABEL = re.compile(r"(\$L__BB\d+_\d+):")
_BRANCH = re.compile(r"bra(?:\.uni)?\s+(\$L__BB\d+_\d+)")


class Loop(NamedTuple):
    """A loop, or the whole kernel.

    Attributes:
      depth: number of loops around it; 0 for the kernel.
      instructions: of its body, without the loops inside it.
      shuffles: exchanges between threads among them.
      loads: from memory among them.
      barriers: among them.
    """

    depth: int
    instructions: int
    shuffles: int
    loads: int
    barriers: int


def loops(ptx: str) -> list[Loop]:
    """The kernel and its loops, in the order of the text; a branch backwards closes a loop."""
    lines = [line.strip() for line in ptx.splitlines()]
    labels = {match[1]: i for i, line in enumerate(lines) if (match := _LABEL.match(line))}
    ends: dict[int, int] = {}
    for i, line in enumerate(lines):
        branch = _BRANCH.search(line)
        if branch and labels.get(branch[1], i) < i:
            first = labels[branch[1]]
            ends[first] = max(i, ends.get(first, 0))
    # Blocks out of line stand behind the kernel's end, so a loop that jumps to one seems to reach
    # it: of the loops that cross, the later one is taken to lie inside.
    spans = [(0, len(lines)), *sorted(ends.items())]
    owner = [0] * len(lines)
    for number, (first, last) in enumerate(spans):
        owner[first : last + 1] = [number] * len(lines[first : last + 1])
    found = []
    for number, (first, last) in enumerate(spans):
        own = [line for i, line in enumerate(lines) if owner[i] == number and _counts(line)]
        depth = sum(a < first and b >= last for a, b in spans) if number else 0
        kinds = (sum(name in line for line in own) for name in ("shfl", "ld.global", "bar.sync"))
        found.append(Loop(depth, len(own), *kinds))
    return found


def of_kernel(dump: Path, name: str) -> list[Loop]:
    """The loops of a kernel whose PTX lies among others in a folder; empty if it does not."""
    for path in sorted(dump.glob("*.ptx")):
        text = path.read_text(errors="replace")
        if re.search(rf"\.entry {re.escape(name)}\(", text):
            return loops(text)
    return []


def _counts(line: str) -> bool:
    return ";" in line and not line.startswith(("//", ".", "$", "{", "}", "(", ")"))
