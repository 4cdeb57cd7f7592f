"""Latents in a plane, coloured by corruption and by digit: two small panels per method."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ocsvm_jax.experiments.table.pictures import COLUMNS, TITLE, panel_grid, panel_title, short
from ocsvm_jax.reports.figures import LINES, MARKERS

MAX_POINTS_PER_GROUP = 100

_Styles = Mapping[str, tuple[str, str]]


class LatentMap(NamedTuple):
    """Latents of one run in a plane.

    Attributes:
      points: coordinates of the latents in the plane.
      classes: class of each image, such as its digit.
      corruption: name of the corruption of each image.
      split: ``"train"`` or ``"test"`` for each image.
    """

    points: Float[np.ndarray, "n 2"]
    classes: Shaped[np.ndarray, " n"]
    corruption: Shaped[np.ndarray, " n"]
    split: Shaped[np.ndarray, " n"]


def latent_maps(maps: Mapping[str, LatentMap]) -> Figure:
    """Two panels per map: points coloured by corruption, and by digit.

    A group with more than `MAX_POINTS_PER_GROUP` points is subsampled to that number at random.

    Args:
      maps: the map of each row that has one; at least one.

    Raises:
      ValueError: the arrays of a map are not aligned.
    """
    maps = {name: _checked(name, picture) for name, picture in maps.items()}
    corruptions = _groups(picture.corruption for picture in maps.values())
    digits = _groups(_digits(picture) for picture in maps.values())
    # The two legends stand side by side; a wide figure has room for three columns in each.
    columns = 3 if len(maps) > 1 else 1
    above = 0.5 + 0.24 * -(-max(len(corruptions), len(digits)) // columns)
    figure, panels = panel_grid(2 * len(maps), COLUMNS, above=above)
    for i, (name, picture) in enumerate(maps.items()):
        axes_limits = limits(picture.points)
        shown = _some(picture)
        for axes, groups, styles, title in (
            (panels[2 * i], picture.corruption, corruptions, "by corruption"),
            (panels[2 * i + 1], _digits(picture), digits, "by digit"),
        ):
            _scatter(axes, picture.points[shown], groups[shown], styles)
            axes.set_title(panel_title(name, title), **TITLE)
            axes.set(xticks=(), yticks=(), xlim=axes_limits[0], ylim=axes_limits[1])
            axes.set_box_aspect(1)
            axes.spines[:].set_visible(True)
            axes.spines[:].set_color("0.7")
    _legend(figure, corruptions, "corruption", "outside upper left", columns)
    _legend(figure, digits, "split and digit", "outside upper right", columns)
    return figure


def _legend(figure: Figure, styles: _Styles, title: str, place: Any, columns: int) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=short(name))
        for name, (colour, marker) in styles.items()
    ]
    legend = figure.legend(
        handles=handles,
        loc=place,
        ncols=columns,
        title=title,
        columnspacing=1.0,
        handletextpad=0.2,
    )
    legend.set_alignment("left")


def limits(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 2"]:
    """(lowest, highest) of each plotted coordinate: the central 99% of the points and a margin."""
    finite = points[np.isfinite(points).all(1)]
    if not len(finite):
        return np.array([[-1.0, 1.0]] * 2)
    low, high = np.percentile(finite, (0.5, 99.5), axis=0)
    # The latents of a collapsed run are a single point.
    margin = np.maximum(0.12 * (high - low), 1e-6 * np.maximum(np.abs(low), 1.0))
    return np.stack([low - margin, high + margin], axis=1)


def outside(points: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which points are not finite or lie beyond `limits`."""
    low, high = limits(points).T
    return ~((points >= low) & (points <= high)).all(1)


def _checked(name: str, picture: Any) -> LatentMap:
    points, *names = (np.asarray(array) for array in picture)
    shapes = [array.shape for array in names]
    if points.ndim != 2 or points.shape[1] != 2 or shapes != [points.shape[:1]] * 3:
        raise ValueError(
            f"The latent map of {name} has points {points.shape} and classes, corruption, split "
            f"{', '.join(map(str, shapes))}: pass points (n, 2) and three arrays (n,)."
        )
    return LatentMap(points.astype(np.float64), *(array.astype(str) for array in names))


def _digits(picture: LatentMap) -> Shaped[np.ndarray, " n"]:
    return np.char.add(np.char.add(picture.split, " "), picture.classes)


def _groups(arrays: Iterable[Shaped[np.ndarray, " _"]]) -> dict[str, tuple[str, str]]:
    """Colour and marker per group; once the colours repeat, the markers shift by one."""
    names = dict.fromkeys(name for array in arrays for name in array.tolist())
    colours, markers = [colour for colour, _ in LINES], [marker for _, marker in MARKERS[1:]]
    return {
        name: (colours[i % len(colours)], markers[(i + i // len(colours)) % len(markers)])
        for i, name in enumerate(names)
    }


def _some(picture: LatentMap) -> Shaped[np.ndarray, " shown"]:
    """Indices of the points to draw, in random order so that no group hides another."""
    generator = np.random.default_rng(0)
    groups = np.char.add(_digits(picture), picture.corruption)
    members = [
        generator.permutation(np.flatnonzero(groups == name))[:MAX_POINTS_PER_GROUP]
        for name in np.unique(groups)
    ]
    return generator.permutation(np.concatenate(members)) if members else np.arange(0)


def _scatter(
    axes: Axes,
    points: Float[np.ndarray, "n 2"],
    groups: Shaped[np.ndarray, " n"],
    styles: _Styles,
) -> None:
    # Several layers, each with a part of every group, so that the last group hides no other.
    for part in np.array_split(np.arange(len(points)), 6):
        for name, (colour, marker) in styles.items():
            x, y = points[part[groups[part] == name]].T
            axes.scatter(x, y, s=9, color=colour, marker=marker, alpha=0.6, linewidths=0)
