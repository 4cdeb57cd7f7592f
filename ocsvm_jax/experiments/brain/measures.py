"""How well a score map finds the lesion of one patient, and the score of a whole image.

Volumes are (z, x, y), a larger score means more anomalous, and only voxels inside the brain mask
count. A binary map holds the voxels whose score is *above* its threshold.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import ndimage

from ocsvm_jax.evaluation import resampling
from ocsvm_jax.evaluation.resampling import MAX_FPR, Ranking

MEASURES = ("AUROC", "AUROC30", "AUPR", "Dice best", "Dice at 1%", "AUPRO30")
KEYS = (*MEASURES, "prevalence")  # names in files of the fields of `Measures`
# The field drops connected components of at most seven voxels from its binary maps.
SMALLEST_COMPONENT = 8

_Volume = Float[np.ndarray, "z x y"]
_Mask = Bool[np.ndarray, "z x y"]


class Measures(NamedTuple):
    """Measures of one patient's map, in the order of `KEYS`; all NaN if undefined."""

    auroc: float
    auroc30: float
    aupr: float
    best_dice: float
    dice: float
    aupro30: float
    prevalence: float


NO_VALUE = Measures(*[float("nan")] * len(KEYS))


def measure(
    score: ArrayLike,
    lesion: ArrayLike,
    mask: ArrayLike,
    *,
    threshold: float,
    smallest: int = 1,
    planar: bool = False,
) -> Measures:
    """The measures in `MEASURES` for one patient, and the prevalence, which is chance for AUPR.

    AUROC30 is the area for false positive rates up to 0.3, standardised after McClish; AUPR is the
    average precision. "Dice best" uses the best threshold for this patient, an upper bound over
    thresholds; "Dice at 1%" uses `threshold`. AUPRO30 is the mean overlap with the connected
    components of the lesion, each with equal weight, as a function of the false positive rate,
    integrated up to 0.3 and divided by 0.3 (Bergmann et al., 2019): chance is 0.15.
    Voxels with equal scores lie on the same side of every threshold.

    Args:
      score: (z, x, y), finite inside the mask, larger for more anomalous.
      lesion: (z, x, y) of bool or 0 and 1; the part outside the mask does not count.
      mask: (z, x, y) of bool or 0 and 1, the brain.
      threshold: voxels above it are predicted to be lesion; see `threshold_at`.
      smallest: both Dice scores ignore predicted components of fewer voxels. 1 keeps all, as for
        maps without post-processing; `SMALLEST_COMPONENT` is customary.
      planar: components of the lesion and of predictions are 2D, within a slice (8 neighbours).
        Otherwise they are 3D, across slices (26 neighbours).

    Returns:
      Values in [0, 1]; the prevalence, the share of lesion voxels inside the mask, lies in (0, 1).

    Raises:
      ValueError: an argument does not fit this description, or the voxels inside the mask are all
        lesion or all healthy.
    """
    volume, inside = _checked(score, mask)
    diseased = _binary(lesion, "lesion", volume.shape) & inside
    if not diseased.any() or diseased.sum() == inside.sum():
        raise ValueError(
            f"{diseased.sum()} of {inside.sum()} voxels inside the mask are lesion: the measures "
            "need voxels of both kinds. Leave out patients whose lesion is empty or lies outside "
            "the mask (erosion may have removed it), and report how many they are."
        )
    if not np.isfinite(threshold):
        raise ValueError(f"threshold is {threshold}: pass a finite number, as from `threshold_at`.")
    if smallest < 1:
        raise ValueError(f"smallest is {smallest}: pass a number of voxels; 1 keeps all.")
    labels = diseased[inside]
    ranking = resampling.rank(labels, volume[inside])
    auroc, aupr, auroc30 = resampling.weighted_metrics(ranking, np.ones((1, labels.size)))[0]
    kept = _opened(volume, inside, smallest, planar)[inside] if smallest > 1 else volume[inside]
    best = _best_dice(ranking if smallest == 1 else resampling.rank(labels, kept), kept)
    given = _dice(kept > threshold, labels)
    aupro30 = _aupro30(ranking, _component_weights(diseased, planar)[inside])
    values = (auroc, auroc30, aupr, best, given, aupro30, labels.mean())
    return Measures(*map(float, values))


def threshold_at(
    scores: Iterable[ArrayLike], masks: Iterable[ArrayLike], fpr: float = 0.01
) -> float:
    """The smallest score of healthy controls that at most a share `fpr` of their scores exceeds.

    The voxels of all controls are pooled. With ties the share above may be less than `fpr`, never
    more; with fewer than 1 / fpr voxels the threshold is the largest score.

    Args:
      scores: one volume (z, x, y) per control, finite inside its mask.
      masks: one brain mask per control.
      fpr: false positive rate, in (0, 1).

    Raises:
      ValueError: an argument does not fit this description.
    """
    if not 0.0 < fpr < 1.0:
        raise ValueError(f"fpr is {fpr}: pass a rate between 0 and 1, such as 0.01.")
    scores, masks = list(scores), list(masks)
    if not scores or len(scores) != len(masks):
        raise ValueError(
            f"There are {len(scores)} score maps and {len(masks)} masks: pass one mask per map, "
            "and at least one control."
        )
    pairs = (_checked(score, mask) for score, mask in zip(scores, masks, strict=True))
    pooled = np.concatenate([volume[inside] for volume, inside in pairs])
    # Rounding alone makes a product such as 0.29 * 100 fall short of an integer.
    above = int(fpr * pooled.size * (1 + 1e-12))
    place = pooled.size - 1 - above
    return float(np.partition(pooled, place)[place])


def postprocessed(
    score: ArrayLike,
    mask: ArrayLike,
    *,
    median: int = 5,
    erosion: int = 3,
    planar: bool = False,
) -> tuple[_Volume, _Mask]:
    """Customary post-processing: median filter the scores and erode the mask.

    The third step concerns the binary map: call `measure` with both results, with `smallest` set
    to `SMALLEST_COMPONENT`, and with a threshold from controls processed by this function too.
    Outside the mask the filter sees the lowest score of the brain, as in residual maps, which are 0
    there. Beyond the borders of the volume it sees the nearest voxel, and erosion assumes that the
    brain continues, so a slab keeps all of its slices.

    Args:
      score: (z, x, y), finite inside the mask.
      mask: (z, x, y) of bool or 0 and 1.
      median: width of the filter in voxels, odd; 1 leaves the scores as they are.
      erosion: number of times the mask loses its outermost voxels, 0 or more.
      planar: filter and erode each slice on its own, as is right for slices far apart.

    Returns:
      The filtered scores, with the dtype of `score` if it is float32 or float64, and the eroded
      mask.

    Raises:
      ValueError: an argument does not fit this description, or the erosion leaves nothing.
    """
    volume, inside = _checked(score, mask)
    if median < 1 or median % 2 == 0:
        raise ValueError(f"median is {median}: pass an odd width, such as 5, or 1 for no filter.")
    if erosion < 0:
        raise ValueError(f"erosion is {erosion}: pass 0 or more.")
    filled = np.where(inside, volume, volume[inside].min())
    size = (1, median, median) if planar else (median,) * 3
    filtered = ndimage.median_filter(filled, size, mode="nearest")
    cross = ndimage.generate_binary_structure(3, 1)
    if planar:
        cross[[0, 2]] = False
    if erosion:
        inside = ndimage.binary_erosion(inside, cross, iterations=erosion, border_value=1)
    if not inside.any():
        raise ValueError(f"Nothing of the mask is left after {erosion} erosions: use fewer.")
    return filtered, inside


def image_score(score: ArrayLike, mask: ArrayLike, exclude: ArrayLike | None = None) -> float:
    """The score of a whole image: the 98th percentile of its voxels.

    With score = -f this is minus the 2nd percentile of the decision function f, as in the paper
    (which leaves out the ventricles).

    Args:
      score: (z, x, y), finite inside the mask.
      mask: (z, x, y) of bool or 0 and 1.
      exclude: (z, x, y) of bool or 0 and 1, voxels to leave out, such as the ventricles.

    Raises:
      ValueError: an argument does not fit this description, or no voxel is left.
    """
    volume, inside = _checked(score, mask)
    if exclude is not None:
        inside = inside & ~_binary(exclude, "exclude", volume.shape)
    if not inside.any():
        raise ValueError("exclude covers the whole mask: leave some voxels to score the image.")
    return float(np.percentile(volume[inside], 98))


def _best_dice(ranking: Ranking, scores: Float[np.ndarray, " n"]) -> float:
    """The largest Dice over all thresholds; voxels at -inf lie above no threshold."""
    hits = np.cumsum(ranking.anomalous)[ranking.last]
    dice = 2.0 * hits / (ranking.last + 1 + hits[-1])
    reachable = np.isfinite(scores[ranking.order[ranking.last]])
    return float(dice[reachable].max(initial=0.0))


def _dice(predicted: Bool[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    return float(2.0 * (predicted & labels).sum() / (predicted.sum() + labels.sum()))


def _component_weights(lesion: _Mask, planar: bool) -> _Volume:
    """1 / (size of the voxel's component) in the lesion, 0 elsewhere: each component weighs 1."""
    components = _components(lesion, planar)
    sizes = np.bincount(components.ravel())
    return np.where(lesion, 1.0 / sizes[components], 0.0)


def _aupro30(ranking: Ranking, weights: Float[np.ndarray, " n"]) -> float:
    """Area under mean component overlap against false positive rate, up to 0.3, divided by 0.3.

    The mean overlap is a true positive rate in which every component has the same weight.
    """
    rates = []
    for counted in (1.0 - ranking.anomalous, weights[ranking.order]):
        sums = np.cumsum(counted)[ranking.last]
        rates.append(np.concatenate([[0.0], sums / sums[-1]]))
    x, y = rates
    end = np.searchsorted(x, MAX_FPR)  # the first point at the limit or beyond
    slope = (y[end] - y[end - 1]) / (x[end] - x[end - 1])
    at_limit = y[end - 1] + slope * (MAX_FPR - x[end - 1])
    x, y = np.append(x[:end], MAX_FPR), np.append(y[:end], at_limit)
    return float(np.trapezoid(y, x) / MAX_FPR)


def _opened(score: _Volume, mask: _Mask, smallest: int, planar: bool) -> _Volume:
    """Area opening of the scores: above any threshold, only large enough components remain.

    Each voxel gets the highest level at which it lies in a component of at least `smallest` voxels,
    or -inf if there is none. Components only grow as the threshold falls, so one array serves all
    thresholds. Each round lowers peaks that are too small to their highest neighbour, which joins
    them: every such peak grows by at least one voxel, so `smallest - 1` rounds suffice.
    """
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    level = np.where(mask[box], score[box].astype(np.float64), -np.inf)
    for _ in range(smallest - 1):
        summit = (level == _highest(level, planar)) & np.isfinite(level)
        peaks = _components(summit, planar)
        too_small = np.bincount(peaks.ravel()) < smallest
        too_small[0] = False
        low = too_small[peaks]
        around = _highest(np.where(low, -np.inf, level), planar)
        highest_around = np.full(too_small.shape, -np.inf)
        np.maximum.at(highest_around, peaks[low], around[low])
        # A plateau next to a higher voxel is no peak, and stays as it is.
        lowered = np.where(low, highest_around[peaks], level)
        if np.array_equal(lowered, level):
            break
        level = lowered
    opened = np.full(score.shape, -np.inf)
    opened[box] = level
    return opened


def _highest(level: _Volume, planar: bool) -> _Volume:
    size = (1, 3, 3) if planar else 3
    return ndimage.maximum_filter(level, size, mode="constant", cval=-np.inf)


def _components(binary: _Mask, planar: bool) -> Int[np.ndarray, "z x y"]:
    """Component labels of the voxels, from 1; 0 for the background."""
    neighbours = np.ones((3, 3, 3), bool)
    neighbours[[0, 2]] = not planar
    components = np.zeros(binary.shape, np.int32)
    ndimage.label(binary, neighbours, output=components)
    return components


def _checked(score: ArrayLike, mask: ArrayLike) -> tuple[_Volume, _Mask]:
    volume = np.asarray(score)
    if volume.ndim != 3 or not (np.isrealobj(volume) and volume.dtype.kind in "buif"):
        raise ValueError(
            f"score has shape {volume.shape} and type {volume.dtype}: pass real numbers (z, x, y)."
        )
    if volume.dtype.kind != "f" or volume.dtype.itemsize < 4:
        volume = volume.astype(np.float64)
    inside = _binary(mask, "mask", volume.shape)
    if not inside.any():
        raise ValueError("mask is empty: no voxel is inside the brain.")
    bad = ~np.isfinite(volume) & inside
    if bad.any():
        raise ValueError(
            f"score holds {bad.sum()} NaN or infinite values inside the mask, the first at (z, x, "
            f"y) = {tuple(map(int, np.argwhere(bad)[0]))}: find out where the scoring diverged."
        )
    return volume, inside


def _binary(values: ArrayLike, name: str, shape: tuple[int, ...]) -> _Mask:
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape} and score {shape}: pass the same shape.")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        found = ", ".join(map(str, np.unique(array)[:5]))
        raise ValueError(f"{name} holds {found}: pass bool, or 0 and 1.")
    return array.astype(bool)
