"""Grids of hyperparameters: their points, and which are visited first."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Grid = Mapping[str, Sequence[Any]]
Point = dict[str, Any]


def axes(grid: Grid) -> list[list[Point]]:
    """Values along each axis of a grid, as settings.

    An axis is a setting, or several that change together: "schedule,betas" with values such as
    ("constant", (1.0, 0.0)).

    Raises:
      ValueError: if an axis has no values, or a value does not have one part per setting.
    """
    out = []
    for name, values in grid.items():
        names = name.split(",")
        if not values:
            raise ValueError(f"the grid has no values for {name}.")
        points = []
        for value in values:
            parts = (value,) if len(names) == 1 else tuple(value)
            if len(parts) != len(names):
                raise ValueError(f"{value!r} in the grid is not a value for each of {names}.")
            points.append(dict(zip(names, map(_plain, parts), strict=True)))
        out.append(points)
    return out


def product(grid: Grid) -> list[Point]:
    """Every point of a grid; without axes, the single point that changes nothing."""
    return [_merged(parts) for parts in itertools.product(*axes(grid))]


def crossed(grid: Grid, fields: Sequence[str]) -> list[Point]:
    """Every combination along the axes in `fields`; the other axes keep the card's values.

    Raises:
      ValueError: if the grid has no such axis.
    """
    unknown = [name for name in fields if name not in grid]
    if unknown:
        raise ValueError(f"the grid has no axis {unknown[0]!r}; its axes are {list(grid)}.")
    return product({name: grid[name] for name in fields})


def sweeps(grid: Grid, fields: Sequence[str], around: Point) -> list[Point]:
    """The points that differ from `around` along one of the axes not in `fields`."""
    rest = axes({name: values for name, values in grid.items() if name not in fields})
    return [around | point for point in itertools.chain.from_iterable(rest)]


def distinct(points: Sequence[Point]) -> Iterator[Point]:
    """The points without repetitions, in order."""
    seen: list[Point] = []
    for point in points:
        if point not in seen:
            seen.append(point)
            yield point


def _merged(parts: Sequence[Point]) -> Point:
    return {name: value for part in parts for name, value in part.items()}


def _plain(value: Any) -> Any:
    """A value as JSON would return it, so that points compare equal after a restart."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
