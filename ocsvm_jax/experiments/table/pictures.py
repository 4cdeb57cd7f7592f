"""Figures for the report of a table: functions from arrays to a figure, for `figures.png`.

Twelve curves in one pair of axes are unreadable: each method has its own panel, and all panels
share their axes.
"""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from ocsvm_jax.evaluation import metrics
from ocsvm_jax.reports.figures import BLACK, BLUE, VERMILION
from ocsvm_jax.reports.numbers import published as two_decimals
from ocsvm_jax.reports.numbers import score

_GREY = "0.72"
COLUMNS = 4
_PANEL = 2.5  # inches; four panels fill the width of the page
_FPR = np.linspace(0.0, 1.0, 501)
TITLE = {"fontsize": 10, "loc": "left"}


def _dot(color: str, marker: str, markersize: float, **more: Any) -> dict[str, Any]:
    return {"color": color, "marker": marker, "markersize": markersize, "linestyle": ""} | more


_SEED = _dot(BLUE, "o", 5, alpha=0.6, markeredgewidth=0)
_MEAN = _dot(BLACK, "|", 13, markeredgewidth=2)
_PUBLISHED = _dot(VERMILION, "D", 6, fillstyle="none", markeredgewidth=1.5)
# Labels (n,), 1 for an anomalous image, and scores (n,) of one run.
LabelsAndScores = tuple[np.ndarray, np.ndarray]


class MeanCurve(NamedTuple):
    """ROC curves averaged vertically: mean true positive rate at each false positive rate.

    Attributes:
      mean: mean true positive rate on a grid of false positive rates from 0 to 1.
      sd: its standard deviation over the runs; 0 for one run.
      auroc: mean AUROC over the runs.
      runs: number of runs.
    """

    mean: Float[np.ndarray, " grid"]
    sd: Float[np.ndarray, " grid"]
    auroc: float
    runs: int


def mean_curve(runs: Sequence[LabelsAndScores]) -> MeanCurve | None:
    """Mean ROC curve of the runs with finite scores; None if there is no such run."""
    rates, areas = [], []
    for labels, scores in runs:
        if not np.isfinite(scores).all() or len(np.unique(labels)) < 2:
            continue
        x, y, _ = roc_curve(labels, scores)
        rates.append(np.interp(_FPR, x, y))
        # Every curve starts at (0, 0), even if it rises at a false positive rate of 0.
        rates[-1][0] = 0.0
        areas.append(metrics.auroc(labels, scores))
    if not rates:
        return None
    sd = np.std(rates, axis=0, ddof=1) if len(rates) > 1 else np.zeros(_FPR.shape)
    return MeanCurve(np.mean(rates, axis=0), sd, float(np.mean(areas)), len(rates))


def roc(curves: Mapping[str, MeanCurve]) -> Figure:
    """One panel per method: its mean ROC curve, over those of all methods in grey.

    Args:
      curves: the mean curve of each row of the table; at least one.
    """
    best = max(curves, key=lambda name: curves[name].auroc)
    figure, panels = panel_grid(len(curves), COLUMNS, shared=True)
    for axes, (name, curve) in zip(panels, curves.items(), strict=True):
        axes.axvspan(0, metrics.MAX_FPR, color="0.95", zorder=0)
        for other in curves.values():
            axes.plot(_FPR, other.mean, color=_GREY, linewidth=0.8)
        axes.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle=":")
        axes.fill_between(
            _FPR, curve.mean - curve.sd, curve.mean + curve.sd, color=BLUE, alpha=0.3, linewidth=0
        )
        axes.plot(_FPR, curves[best].mean, color=VERMILION, linewidth=1.2, linestyle="--")
        axes.plot(_FPR, curve.mean, color=BLUE)
        axes.set_title(panel_title(name, f"AUROC {score(curve.auroc)}"), **TITLE)
        axes.set(xlim=(0, 1), ylim=(0, 1.005), xticks=(0, 0.3, 1), yticks=(0, 0.5, 1))
        axes.set_xticklabels(["0", ".3", "1"])
        axes.set_yticklabels(["0", ".5", "1"])
        axes.set_box_aspect(1)
    figure.supxlabel("false positive rate", fontsize=11)
    figure.supylabel("true positive rate", fontsize=11)
    handles = [
        Line2D([], [], color=BLUE, label="the method, ± sd over seeds"),
        Line2D([], [], color=VERMILION, linestyle="--", label=short(f"best: {best}")),
        Line2D([], [], color=_GREY, label="the other methods"),
        Line2D([], [], color="0.4", linestyle=":", label="chance"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return figure


def dots(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    published: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, float],
    separate: Sequence[str] = (),
) -> Figure:
    """One dot per row and seed, their mean, and the published value; one panel per metric.

    Args:
      results: for each row, the values of each metric over seeds; empty without a result.
      published: for each row with published values, the value of each metric.
      chance: chance level by metric, where known.
      separate: rows to set apart below a line; they come last in `results`.
    """
    names = list(results)
    labels = [
        "\n".join(textwrap.wrap(short(name) + ("" if own else ": no result"), 26))
        for name, own in results.items()
    ]
    places = {name: i + 0.6 * (name in separate) for i, name in enumerate(names)}
    size = (4 * _PANEL, 1.2 + 0.36 * (len(names) + 1))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(metrics.METRICS), sharey=True)
    for axes, metric in zip(panels, metrics.METRICS, strict=True):
        axes.set(title=metric, ylim=(max(places.values()) + 0.6, -0.6))
        axes.set_yticks(list(places.values()), labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        if metric in chance:
            axes.axvline(chance[metric], color="0.4", linewidth=1, linestyle=":")
        for name, place in places.items():
            _dots_of_a_row(axes, results[name].get(metric, ()), place)
            if metric in published.get(name, {}):
                axes.plot(published[name][metric], place, **_PUBLISHED)
        if separate and len(separate) < len(names):
            axes.axhline(places[separate[0]] - 0.8, color="0.6", linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: two_decimals(value))
    handles = [
        Line2D([], [], **_SEED, label="one seed"),
        Line2D([], [], **_MEAN, label="mean"),
        Line2D([], [], **_PUBLISHED, label="the paper"),
        Line2D([], [], color="0.4", linewidth=1, linestyle=":", label="chance"),
    ]
    several = any(len(values) > 1 for own in results.values() for values in own.values())
    shown = [True, several, bool(published), bool(chance)]
    handles = list(itertools.compress(handles, shown))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def _dots_of_a_row(axes: Axes, values: Sequence[float], place: float) -> None:
    if not len(values):
        return
    # At the same height, seeds with equal values would hide each other.
    heights = place + np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [place]
    axes.plot(values, heights, **_SEED)
    if len(values) > 1:
        axes.plot(np.mean(values), place, **_MEAN)


def panel_grid(
    count: int, columns: int, shared: bool = False, above: float = 0.9
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, `columns` per line; the rest of the last line stays empty.

    Args:
      count: number of panels.
      columns: maximum number of panels per line.
      shared: whether all panels have the same axes.
      above: height in inches reserved above the panels.
    """
    columns = min(columns, count)
    lines = -(-count // columns)
    size = (_PANEL * max(columns, 2), (_PANEL + 0.35) * lines + above)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=shared, sharey=shared).ravel()
    for i, axes in enumerate(panels[count:], start=count):
        axes.set_axis_off()
        # The lowest panel of a column shows the tick labels.
        panels[i - columns].tick_params(labelbottom=True)
    return figure, list(panels[:count])


def panel_title(name: str, detail: str) -> str:
    """A title wrapped to the width of a panel."""
    return "\n".join([*textwrap.wrap(short(name), 24), detail])


def short(name: str) -> str:
    """A name made printable and short enough for a figure."""
    name = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return name if len(name) <= 44 else f"{name[:43]}…"
