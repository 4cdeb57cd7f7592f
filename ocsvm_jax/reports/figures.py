"""Figures for reports: functions from arrays to a figure, and `png` to render one.

They use matplotlib's object API, without pyplot, and `png` ignores the user's own matplotlib
settings. Colours are Okabe and Ito's, which stay distinct under the common forms of colour
blindness; line styles and markers carry the same information.
"""

import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy.typing import ArrayLike

from ocsvm_jax import extras
from ocsvm_jax.evaluation import metrics

with extras.needed_by(__name__, "train"):
    import matplotlib
    import matplotlib.style
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap, TwoSlopeNorm
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
    from sklearn.metrics import roc_curve

PNG_DPI = 160
MAX_POINTS_PER_GROUP = 800

BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#000000"
LINES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (PURPLE, ":"),
    (ORANGE, (0, (6, 1, 1, 1, 1, 1))),
    (SKY, (0, (9, 2))),
    (BLACK, (0, (1, 1))),
)
MARKERS = (
    (BLACK, "."),
    (BLUE, "o"),
    (VERMILION, "^"),
    (GREEN, "s"),
    (PURPLE, "D"),
    (ORANGE, "v"),
    (SKY, "P"),
)
_STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": PNG_DPI,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}

_LOSSES = {
    "loss": "loss, training",
    "valid_loss": "loss, held out",
    "reconstruction": "reconstruction, training",
}
_BETAS = {"beta1": "β₁, expander", "beta2": "β₂, compactor"}
# Entries of a history that are not drawn: positions on the horizontal axis, and timings.
_NOT_CURVES = ("epoch", "step", "seconds", "images_per_s")


class LatentPicture(NamedTuple):
    """Latents in a plane, and the decision function on that plane.

    Attributes:
      points: coordinates of the latents in the plane.
      group: name of the group of each point, such as ``"train"`` or ``"test anomalous"``.
      axis_x: increasing horizontal coordinates of the grid, at least two.
      axis_y: increasing vertical coordinates of the grid, at least two.
      decision: f on the grid; positive inside, 0 on the boundary.
      title: title of the figure.
      caption: a sentence or two on how the plane was chosen.
    """

    points: Float[np.ndarray, "n 2"]
    group: Shaped[np.ndarray, " n"]
    axis_x: Float[np.ndarray, " w"]
    axis_y: Float[np.ndarray, " h"]
    decision: Float[np.ndarray, "h w"]
    title: str
    caption: str


_Arguments = ParamSpec("_Arguments")


def png(
    draw: Callable[_Arguments, Figure], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> bytes:
    """Renders `draw(*args, **kwargs)` as a PNG image in the style of the reports."""
    # The style must still hold while rendering, which is when matplotlib creates tick labels.
    with matplotlib.style.context(["default", _STYLE]):
        figure = draw(*args, **kwargs)
        FigureCanvasAgg(figure)
        image = io.BytesIO()
        # Without the software version, so that equal figures give equal files.
        figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def roc(labels: ArrayLike, scores: Mapping[str, np.ndarray]) -> Figure:
    """One ROC curve per score, with its AUROC in the legend.

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one; both must occur.
      scores: (n,) finite scores by name, larger for more anomalous.
    """
    figure = Figure(figsize=(5.6, 4.9 + 0.24 * len(scores)), layout="constrained")
    axes = figure.add_subplot(
        aspect="equal",
        xlim=(0, 1),
        ylim=(0, 1.005),
        xlabel="false positive rate",
        ylabel="true positive rate",
        title="ROC curves, test images",
    )
    axes.axvspan(0, metrics.MAX_FPR, color="0.92", zorder=0)
    axes.text(0.5 * metrics.MAX_FPR, 0.985, "AUROC30", color="0.3", ha="center", va="top")
    for (name, values), (colour, line) in zip(scores.items(), itertools.cycle(LINES), strict=False):
        x, y, _ = roc_curve(labels, values)
        label = f"{name}: AUROC {metrics.auroc(labels, values):.3f}"
        axes.plot(x, y, color=colour, linestyle=line, label=label)
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, label="chance: AUROC 0.500")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))
    return figure


def histograms(
    labels: ArrayLike, corruption: ArrayLike, scores: Mapping[str, np.ndarray]
) -> Figure:
    """Score distributions of normal and anomalous images: a row per score, a column per corruption.

    The panels of a row share their bins, so that shifts between corruptions are visible. The bins
    cover the central 98% of the scores under every corruption, plus up to a quarter of that range
    on either side if there are scores; scores beyond are counted in the outermost bins.

    Args:
      labels: (n,) 1 for an anomalous image and 0 for a normal one.
      corruption: (n,) name of the corruption of each image.
      scores: (n,) finite scores by name.
    """
    anomalous = np.asarray(labels).astype(bool)
    corruption = np.asarray(corruption).astype(str)
    names = list(dict.fromkeys(corruption.tolist()))
    size = (max(5.5, 3.1 * len(names)), 0.6 + 2.5 * len(scores))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(scores), len(names), squeeze=False, sharex="row")
    for row, (score, values) in zip(grid, scores.items(), strict=True):
        edges = _edges([values[corruption == name] for name in names])
        for axes, name in zip(row, names, strict=True):
            chosen = corruption == name
            _densities(axes, np.clip(values, edges[0], edges[-1]), anomalous, chosen, edges)
            axes.set_title(name)
            axes.set_xlabel(f"{score} score")
        row[0].set_ylabel("density")
    handles, texts = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper left", ncols=2)
    return figure


def _edges(samples: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, " edges"]:
    lows, highs = np.transpose([np.percentile(values, (1, 99)) for values in samples])
    low, high = lows.min(), highs.max()
    margin = 0.25 * (high - low)
    low = max(low - margin, min(values.min() for values in samples))
    high = min(high + margin, max(values.max() for values in samples))
    # Scores that are equal up to rounding would leave no room for distinct edges.
    smallest = 1e-9 * max(abs(low), abs(high), 1e-9)
    if high - low <= smallest:
        low, high = low - 100 * smallest, high + 100 * smallest
    return np.linspace(low, high, 61)


def _densities(
    axes: Axes,
    values: Float[np.ndarray, " n"],
    anomalous: Bool[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " n"],
    edges: Float[np.ndarray, " edges"],
) -> None:
    groups = (
        ("normal", chosen & ~anomalous, BLUE, "-"),
        ("anomalous", chosen & anomalous, VERMILION, "--"),
    )
    for label, members, colour, line in groups:
        counts, _ = np.histogram(values[members], edges)
        density = counts / (max(counts.sum(), 1) * np.diff(edges))
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.2)
        axes.stairs(density, edges, color=colour, linestyle=line, linewidth=1.5, label=label)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Float[np.ndarray, " epochs"]]:
    """Curves of a training history by name; NaN in epochs without a finite value."""
    names = dict.fromkeys(itertools.chain.from_iterable(history))
    values = {
        name: np.array([_number(epoch.get(name)) for epoch in history])
        for name in names
        if name not in _NOT_CURVES
    }
    return {name: curve for name, curve in values.items() if not np.isnan(curve).all()}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return np.nan
    return number if np.isfinite(number) else np.nan


def losses(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Curves of the training over epochs: losses in the top panel, all other quantities below.

    Args:
      history: one mapping per epoch, in which `curves` must find at least one curve.
    """
    found = curves(history)
    panels = [("loss", _LOSSES)]
    panels += [(name, {name: name}) for name in found if name not in _LOSSES | _BETAS]
    panels += [("gradient weight", _BETAS)]
    panels = [(title, labels) for title, labels in panels if found.keys() & labels.keys()]
    epochs = [epoch.get("epoch", i) for i, epoch in enumerate(history, start=1)]

    heights = [3.2] + [2.0] * (len(panels) - 1)
    figure = Figure(figsize=(7.0, 0.6 + sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (title, labels) in zip(grid, panels, strict=True):
        shown = [name for name in labels if name in found]
        for name, (colour, line) in zip(shown, LINES, strict=False):
            marker = "o" if len(history) < 40 else None
            axes.plot(
                epochs,
                found[name],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                drawstyle="steps-mid" if labels is _BETAS else "default",
                label=labels[name],
            )
        axes.set_ylabel(title)
        values = np.concatenate([found[name] for name in shown])
        # Otherwise the drop in the first epochs would hide everything after it.
        if np.nanmin(values) > 0 and np.nanmax(values) > 20 * np.nanmin(values):
            axes.set_yscale("log")
            # The default formatter writes formulas, which the style does not render.
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        if len(shown) > 1:
            axes.legend(loc="best")
    figure.align_ylabels()
    grid[0].set_title("Training")
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def latent(picture: LatentPicture) -> Figure:
    """Points by group over a map of the decision function, with its boundary.

    A group with more than `MAX_POINTS_PER_GROUP` points is subsampled to that number at random.

    Raises:
      ValueError: the arrays of the picture have inconsistent shapes, or f is not finite.
    """
    _check_picture(picture)
    x, y, f = picture.axis_x, picture.axis_y, picture.decision
    figure = Figure(figsize=(7.0, 6.2), layout="constrained")
    axes = figure.add_subplot(
        title=picture.title, xlabel="first plotted coordinate", ylabel="second plotted coordinate"
    )
    # Pale, so that the points stand out; two slopes keep 0 white even if f is almost flat on one
    # side.
    colours = ListedColormap(matplotlib.colormaps["PRGn"](np.linspace(0.34, 0.66, 255)))
    tiny = 1e-6 * max(np.abs(f).max(), 1e-6)
    norm = TwoSlopeNorm(0.0, min(f.min(), -tiny), max(f.max(), tiny))
    image = axes.pcolormesh(x, y, f, cmap=colours, norm=norm, shading="nearest", rasterized=True)
    bar = figure.colorbar(image, ax=axes, label="decision function f, positive inside")
    bar.ax.axhline(0.0, color=BLACK)
    if f.min() < 0 < f.max():
        axes.contour(x, y, f, levels=[0.0], colors=BLACK, linewidths=1.8)
        axes.plot([], [], color=BLACK, label="boundary, f = 0")
    generator = np.random.default_rng(0)
    group = np.asarray(picture.group).astype(str)
    for name, (colour, marker) in zip(dict.fromkeys(group), itertools.cycle(MARKERS), strict=False):
        members = generator.permutation(np.flatnonzero(group == name))[:MAX_POINTS_PER_GROUP]
        points = picture.points[members].T
        axes.scatter(
            *points, s=16, color=colour, marker=marker, alpha=0.55, linewidths=0, label=name
        )
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    legend = figure.legend(loc="outside lower center", ncols=2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    return figure


def _check_picture(picture: LatentPicture) -> None:
    n, (h, w) = len(picture.group), (len(picture.axis_y), len(picture.axis_x))
    if picture.points.shape != (n, 2) or picture.decision.shape != (h, w) or min(h, w) < 2:
        raise ValueError(
            f"The latent picture has points {picture.points.shape}, group {(n,)}, decision "
            f"{picture.decision.shape}, axis_x {(w,)} and axis_y {(h,)}: pass points (n, 2), "
            "group (n,) and decision (h, w) with h and w at least 2."
        )
    if not np.isfinite(picture.decision).all():
        raise ValueError("decision holds NaN or infinite values: the model behind it diverged.")
