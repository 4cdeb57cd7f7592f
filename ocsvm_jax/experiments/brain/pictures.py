"""Figures of score maps on the brain: functions from arrays to a Matplotlib figure.

Slices are (x, y) in the canonical orientation and drawn as seen from above: the patient's left is
on the left, the front of the head on top.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from ocsvm_jax.reports.figures import BLACK, SKY, VERMILION

_PANEL = 2.0  # width of a panel in inches
_MARGIN = 3  # voxels around the brain


class _Slices(NamedTuple):
    """The arguments of `overlay`, cut to the brain."""

    images: Float[np.ndarray, "rows x y"]
    scores: Float[np.ndarray, "rows x y"]
    masks: Bool[np.ndarray, "rows x y"]
    lesions: Bool[np.ndarray, "rows x y"] | None


class _Look(NamedTuple):
    """Shared by all rows: score colours, threshold, and the white level of the images."""

    colours: ScalarMappable
    vmin: float
    vmax: float
    threshold: float
    white: float


def overlay(
    images: ArrayLike,
    scores: ArrayLike,
    masks: ArrayLike,
    lesions: ArrayLike | None = None,
    *,
    labels: Sequence[str],
    threshold: float,
    vmin: float,
    vmax: float,
    title: str = "",
) -> Figure:
    """One row per slice: image, score map on it, map above a threshold, and lesion.

    Rows are slices of one patient, or one slice each of several. All share one colour scale, which
    should be that of the whole cohort: see `colour_range`.

    Args:
      images: (rows, x, y), 0 for black; the brightest voxel inside the masks is white.
      scores: (rows, x, y), finite inside the masks, larger for more anomalous.
      masks: (rows, x, y) of bool or 0 and 1; scores are drawn only inside.
      lesions: (rows, x, y) of bool or 0 and 1; None, for controls, omits their column.
      labels: one label per row.
      threshold: voxels above it are drawn in the third column.
      vmin: scores up to `vmin` leave the image uncoloured.
      vmax: score with the brightest colour; larger than `vmin`.
      title: title of the figure.

    Raises:
      ValueError: an argument does not fit this description.
    """
    slices = _cut(_checked(images, scores, masks, lesions))
    rows, width, height = slices.images.shape
    if len(labels) != rows:
        raise ValueError(f"There are {len(labels)} labels and {rows} slices: pass one per slice.")
    if not (np.isfinite([vmin, vmax, threshold]).all() and vmin < vmax):
        raise ValueError(
            f"vmin is {vmin}, vmax {vmax} and threshold {threshold}: pass finite numbers with vmin "
            "below vmax, as from `colour_range`."
        )
    titles = ["T1", "score", "above threshold", "lesion"]
    if slices.lesions is None:
        titles.pop()
    size = (_PANEL * len(titles) + 1.3, _PANEL * height / width * rows + 0.9)
    close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=size, layout=close)
    panels = figure.subplots(rows, len(titles), squeeze=False)
    white = max(float(slices.images[slices.masks].max()), 1e-6)
    colours = ScalarMappable(Normalize(vmin, vmax), _colours())
    look = _Look(colours, vmin, vmax, threshold, white)
    for i, label in enumerate(labels):
        _row(panels[i], slices, i, look)
        panels[i, 0].set_ylabel(label)
    for axes, heading in zip(panels[0], titles, strict=True):
        axes.set_title(heading)
    _mark_left(panels[0, 0])
    _key(figure, panels, slices, look)
    if title:
        figure.suptitle(title)
    return figure


def colour_range(
    scores: Iterable[ArrayLike],
    masks: Iterable[ArrayLike],
    percentiles: tuple[float, float] = (50.0, 99.5),
) -> tuple[float, float]:
    """`vmin` and `vmax` of a cohort: percentiles of the pooled scores inside the masks.

    Args:
      scores: volumes or slices, finite inside their masks.
      masks: one mask per map, of bool or 0 and 1.
      percentiles: two in [0, 100], increasing.

    Raises:
      ValueError: an argument does not fit this description.
    """
    maps, brains = [np.asarray(s, float) for s in scores], [np.asarray(m, bool) for m in masks]
    if [s.shape for s in maps] != [m.shape for m in brains]:
        raise ValueError(
            f"The scores have shapes {sorted({s.shape for s in maps})} and the masks "
            f"{sorted({m.shape for m in brains})}, {len(maps)} and {len(brains)} in number: pass "
            "one mask per map, of the same shape."
        )
    values = np.concatenate([s[m] for s, m in zip(maps, brains, strict=True)] or [np.empty(0)])
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"The masks hold {values.size} voxels, {(~np.isfinite(values)).sum()} of them NaN or "
            "infinite: pass at least one brain, with finite scores inside."
        )
    if not 0.0 <= percentiles[0] < percentiles[1] <= 100.0:
        raise ValueError(f"percentiles is {percentiles}: pass two in [0, 100], increasing.")
    low, high = np.percentile(values, percentiles).tolist()
    # With equal scores both percentiles coincide.
    return low, max(high, low + 1e-6 * max(abs(low), 1.0))


def _row(panels: np.ndarray, slices: _Slices, i: int, look: _Look) -> None:
    image, score, mask = slices.images[i], slices.scores[i], slices.masks[i]
    for axes in panels:
        axes.imshow(image.T, cmap="gray", vmin=0.0, vmax=look.white, origin="lower")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    shown = np.ma.array(score, mask=~mask)
    panels[1].imshow(shown.T, cmap=look.colours.cmap, norm=look.colours.norm, origin="lower")
    # Outside the mask there may be NaN, for which every comparison is False.
    above = np.ma.array(np.ones(score.shape), mask=~(mask & (score > look.threshold)))
    panels[2].imshow(above.T, cmap=ListedColormap([VERMILION]), origin="lower")
    if slices.lesions is not None and slices.lesions[i].any():
        # Padding lets the outline close at the edge of the slice.
        padded = np.pad(slices.lesions[i], 1).astype(float)
        x, y = (np.arange(-1, n + 1) for n in image.shape)
        for axes in panels[2:]:
            axes.contour(x, y, padded.T, levels=[0.5], colors=SKY, linewidths=1.1)


def _key(figure: Figure, panels: np.ndarray, slices: _Slices, look: _Look) -> None:
    """Adds the colour bar, with the threshold on it, and the legend."""
    inside = slices.scores[slices.masks]
    below, above = inside.min() < look.vmin, inside.max() > look.vmax
    extend = ("neither", "min", "max", "both")[int(below) + 2 * int(above)]
    bar = figure.colorbar(
        look.colours, ax=panels, extend=extend, label="score", aspect=30, pad=0.01
    )
    # Low scores are transparent; grey stands for the image.
    bar.ax.set_facecolor("0.45")
    if look.vmin < look.threshold < look.vmax:
        bar.ax.axhline(look.threshold, color=BLACK, linewidth=2)
    handles: list[Artist] = [Patch(color=VERMILION, label=f"score above {look.threshold:.3g}")]
    if slices.lesions is not None:
        handles.append(Line2D([], [], color=SKY, label="outline of the lesion"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)


def _mark_left(axes: Axes) -> None:
    box = {"facecolor": "black", "linewidth": 0, "pad": 1.5}
    axes.text(
        0.03, 0.97, "L", color="white", transform=axes.transAxes, va="top", fontsize=9, bbox=box
    )


def _colours() -> ListedColormap:
    """Colour map from transparent, where the image shows through, to bright and opaque."""
    table = matplotlib.colormaps["inferno"](np.linspace(0.25, 1.0, 256))
    table[:, 3] = np.linspace(0.0, 1.0, 256) ** 0.5
    return ListedColormap(table)


def _cut(slices: _Slices) -> _Slices:
    """Crops all arrays to the bounding box of the masks of all rows, with a margin."""
    _, x, y = np.nonzero(slices.masks)
    across, along = (slice(max(v.min() - _MARGIN, 0), v.max() + 1 + _MARGIN) for v in (x, y))
    lesions = None if slices.lesions is None else slices.lesions[:, across, along]
    images, scores, masks = (values[:, across, along] for values in slices[:3])
    return _Slices(images, scores, masks, lesions)


def _checked(
    images: ArrayLike, scores: ArrayLike, masks: ArrayLike, lesions: ArrayLike | None
) -> _Slices:
    arrays = {"images": np.asarray(images, float), "scores": np.asarray(scores, float)}
    arrays["masks"] = np.asarray(masks).astype(bool)
    if lesions is not None:
        arrays["lesions"] = np.asarray(lesions).astype(bool)
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["images"].ndim != 3:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"The shapes are {listed}: pass (rows, x, y), the same for all.")
    inside = arrays["masks"]
    if not inside.any():
        raise ValueError("masks is empty: there is no brain to draw.")
    for name in ("images", "scores"):
        if not np.isfinite(arrays[name][inside]).all():
            raise ValueError(f"{name} holds NaN or infinite values inside the masks.")
    return _Slices(arrays["images"], arrays["scores"], inside, arrays.get("lesions"))
