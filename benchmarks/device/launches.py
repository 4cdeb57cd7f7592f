"""The launches of a compiled program: its kernels, loop by loop, read from XLA's text."""

import re
from collections import Counter
from typing import NamedTuple

# What starts nothing on the device.
NOTHING = {
    "parameter",
    "tuple",
    "get-tuple-element",
    "constant",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
}
# What is not a launch itself but runs other computations.
RUNS = {"while", "conditional", "call", "async-start"}
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_OPERATION = re.compile(r"= (?:\(.*?\)|\S+) ([\w\-]+)\(")
_ATTRIBUTE = r"\b(?:{})=%?([\w.\-]+)"
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Loop(NamedTuple):
    """A computation: the entry, the body or condition of a loop, or a branch.

    Attributes:
      role: "entry", "body", "condition", "branch" or "call".
      kinds: how many launches of each kind it makes itself.
      trips: how often a loop runs it, None if the program does not know.
      inner: the computations that it runs.
    """

    role: str
    kinds: Counter[str]
    trips: int | None
    inner: list["Loop"]

    @property
    def launches(self) -> int:
        """Launches of its own; a call, which XLA may record once and replay, counts with them."""
        called = sum(loop.launches for loop in self.inner if loop.role == "call")
        return sum(self.kinds.values()) + called


class _Operation(NamedTuple):
    name: str
    line: str


def launches(text: str) -> Loop:
    """The tree of an optimised module, as `compiled.as_text()` gives it."""
    computations, entry = _computations(text)
    return _loop(computations, entry, "entry", None)


def _computations(text: str) -> tuple[dict[str, list[_Operation]], str]:
    found: dict[str, list[_Operation]] = {}
    entry, operations = "", []
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            operations = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif operation := _OPERATION.search(line):
            operations.append(_Operation(operation[1], line))
    return found, entry


def _loop(
    computations: dict[str, list[_Operation]], name: str, role: str, trips: int | None
) -> Loop:
    kinds: Counter[str] = Counter()
    inner = []
    for operation, line in computations.get(name, []):
        if operation in RUNS:
            known = _TRIPS.search(line)
            count = int(known[1]) if known else None
            for role_of, called in _called(operation, line):
                inner.append(_loop(computations, called, role_of, count))
        elif operation not in NOTHING and not operation.endswith(("-done", "-update")):
            kinds[operation] += 1
    return Loop(role, kinds, trips, inner)


def _called(operation: str, line: str) -> list[tuple[str, str]]:
    if operation == "while":
        # XLA puts the condition before the body.
        pairs = ((role, re.search(_ATTRIBUTE.format(role), line)) for role in ("condition", "body"))
        return [(role, match[1]) for role, match in pairs if match]
    if operation == "conditional":
        either = re.findall(_ATTRIBUTE.format("true_computation|false_computation"), line)
        if several := _BRANCHES.search(line):
            either += [name.strip().lstrip("%") for name in several[1].split(",")]
        return [("branch", name) for name in either]
    return [("call", name) for name in re.findall(_ATTRIBUTE.format("to_apply|calls"), line)]


def formula(loop: Loop, depth: int = 2) -> str:
    """The tree in a line: "14 + 20 x (97 + n x (12))"; n is known only when it runs.

    Where n is not known, the condition's launches count with those of the body. What is nested more
    deeply than `depth` is "..".
    """
    terms, deciding = [str(loop.launches)], 0
    for inner in _runs(loop):
        if inner.role == "condition":
            deciding = inner.launches
            continue
        within = formula(inner, depth - 1) if depth else ".."
        if inner.role == "branch":
            terms.append(f"perhaps ({within})")
        elif inner.trips is None:
            also = f"{deciding} + " if deciding and depth else ""
            terms.append(f"n x ({also}{within})")
        else:
            terms.append(f"{inner.trips} x ({within})")
    return " + ".join(terms)


def _runs(loop: Loop) -> list[Loop]:
    """The computations of its loops and branches, and of those inside its calls."""
    found = []
    for inner in loop.inner:
        found += _runs(inner) if inner.role == "call" else [inner]
    return [inner for inner in found if inner.role != "branch" or inner.launches]


def tree(loop: Loop, depth: int = 0) -> str:
    """The tree, a computation a line, with the kinds of its launches."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in loop.kinds.most_common())
    trips = f" x {'n' if loop.trips is None else loop.trips}" if loop.role == "body" else ""
    own = sum(loop.kinds.values())
    line = f"{'  ' * depth}{loop.role}{trips}: {own}" + (f" ({kinds})" if kinds else "")
    return "\n".join([line, *(tree(inner, depth + 1) for inner in loop.inner)])
