"""Scores without the domain: centred and scaled within groups of images that look alike.

A scanner or a corruption moves the scores of all of its images, often by more than an anomaly does.
Where unlabelled images of the new domains exist, the shift can be taken out: images are grouped by
low-level statistics, and a score is expressed in interquartile ranges from the median of its group.

    domains = fit_domains(unlabelled_images, scores, key)
    normalized(domains, new_images, new_scores).scores

This uses unlabelled images of the domains to be tested, which the paper's protocol does not. It
assumes that every group has about the same share of anomalies: the median of a group with more of
them lies higher, and hides them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file

with extras.needed_by(__name__, "train"):
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

STATISTICS = (
    "mean",
    "standard deviation",
    "mean of the upper and lower border",
    "mean of the left and right border",
    "energy of the horizontal gradient",
    "energy of the vertical gradient",
)
_BORDER = 2  # pixels
_MOST_GROUPS = 10
# Below this silhouette there is no group structure worth the name (Kaufman and Rousseeuw 1990,
# table 4 of chapter 2: "weak, could be artificial").
_STRUCTURE = 0.5
_SMALLEST = 20  # images of a group: quartiles of fewer are noise
_SILHOUETTE_OF = 2000  # images at most
_STARTS = 8  # of k-means, of which the best is kept
# An image is far from every group beyond so many times the largest distance within the nearest.
_REACH = 1.5

Images = Shaped[np.ndarray, "_ ..."]  # (n, h, w, c) uint8
Scores = Mapping[str, ArrayLike]


class Groups(NamedTuple):
    """Groups of images by their statistics.

    Attributes:
      mean: (s,) mean of each statistic over the fitted images.
      sd: (s,) its standard deviation; 1 where it does not vary.
      centres: (k, s) centres of the groups, in standardised statistics.
      reach: (k,) distance up to which an image belongs to a group.
      silhouette: mean silhouette of the groups; NaN for a single one.
    """

    mean: Float[np.ndarray, " s"]
    sd: Float[np.ndarray, " s"]
    centres: Float[np.ndarray, "k s"]
    reach: Float[np.ndarray, " k"]
    silhouette: float


class Domains(NamedTuple):
    """Groups, and where the scores of each lie.

    Attributes:
      groups: the groups.
      median: (k + 1,) medians by name of the score: of each group, and last of all images.
      spread: (k + 1,) interquartile ranges; 1 where a score does not vary.
    """

    groups: Groups
    median: Mapping[str, Float[np.ndarray, " _"]]
    spread: Mapping[str, Float[np.ndarray, " _"]]

    def save(self, path: Path) -> None:
        """Writes a .npz file."""
        arrays = self.groups._asdict()
        for kind in ("median", "spread"):
            arrays |= {f"{kind} {name}": v for name, v in getattr(self, kind).items()}
        with whole_file(path) as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Domains":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            known = {name: kept[name] for name in kept.files}
        arrays = (known[name] for name in ("mean", "sd", "centres", "reach"))
        groups = Groups(*arrays, silhouette=float(known["silhouette"]))
        of_scores = {
            kind: {
                key.removeprefix(f"{kind} "): value
                for key, value in known.items()
                if key.startswith(f"{kind} ")
            }
            for kind in ("median", "spread")
        }
        return cls(groups, **of_scores)


class Normalized(NamedTuple):
    """Scores without the domain.

    Attributes:
      scores: (n,) by name: interquartile ranges above the median of the group.
      group: (n,) the group of each image; k, the number of groups, for an image far from all.
      far: (n,) whether an image is far from every group. Its scores are in units of all fitted
        images together, and nothing is known of its domain.
    """

    scores: dict[str, Float[np.ndarray, " n"]]
    group: Int[np.ndarray, " n"]
    far: Bool[np.ndarray, " n"]


def fit_domains(images: Images, scores: Scores, key: Array) -> Domains:
    """Finds the groups of unlabelled images, and where the scores of each lie.

    Args:
      images: (n, h, w, c) uint8, of the domains to be scored later, normal and anomalous.
      scores: (n,) finite scores of these images by name.
      key: key of the k-means starts.

    Raises:
      ValueError: images and scores do not fit this description.
    """
    groups = fit_groups(images, key)
    return of_groups(groups, group_of(groups, images), scores)


def of_groups(groups: Groups, group: Int[np.ndarray, " n"], scores: Scores) -> Domains:
    """Where the scores of images of known groups lie, see `group_of`.

    Raises:
      ValueError: scores are not finite, or not one per image.
    """
    k = len(groups.centres)
    median, spread = {}, {}
    for name, values in scores.items():
        values = _checked(name, values, len(group))
        # A group without images (all of its own were far) has the units of all images.
        members = [values[group == i] if np.any(group == i) else values for i in range(k)]
        low, middle, high = np.transpose(
            [np.percentile(part, (25, 50, 75)) for part in (*members, values)]
        )
        median[name], spread[name] = middle, np.where(high > low, high - low, 1.0)
    return Domains(groups, median, spread)


def normalized(domains: Domains, images: Images, scores: Scores) -> Normalized:
    """Scores of new images without their domain.

    Args:
      domains: fitted to scores of the same names.
      images: (n, h, w, c) uint8.
      scores: (n,) finite scores of these images by name.

    Raises:
      ValueError: images and scores do not fit this description.
    """
    return by_group(domains, group_of(domains.groups, images), scores)


def by_group(domains: Domains, group: Int[np.ndarray, " n"], scores: Scores) -> Normalized:
    """`normalized` for images of known groups."""
    out = {}
    for name, values in scores.items():
        if name not in domains.median:
            raise ValueError(
                f"there is no score {name!r} in the domains, which were fitted to "
                f"{', '.join(domains.median) or 'none'}."
            )
        values = _checked(name, values, len(group))
        out[name] = (values - domains.median[name][group]) / domains.spread[name][group]
    return Normalized(out, group, group == len(domains.groups.centres))


def fit_groups(images: Images, key: Array) -> Groups:
    """Groups images by their statistics with k-means; the silhouette decides for 1 to 10 groups.

    The number of groups is the one of largest mean silhouette among those whose groups all have 20
    images or more; it is 1 if that silhouette is below 0.5. No label is used.

    Args:
      images: (n, h, w, c) uint8.
      key: key of the k-means starts.

    Raises:
      ValueError: `images` does not fit this description.
    """
    values = statistics(images)
    mean, sd = values.mean(0), values.std(0)
    sd = np.where(sd > 1e-12, sd, 1.0)
    points = (values - mean) / sd
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    some = np.random.default_rng(seed).permutation(len(points))[:_SILHOUETTE_OF]
    best, value, chosen = _STRUCTURE, float("nan"), _kmeans(points, 1, seed)
    for k in range(2, 1 + min(_MOST_GROUPS, len(np.unique(points, axis=0)))):
        found = _kmeans(points, k, seed)
        sizes = np.bincount(found.label, minlength=k)
        if sizes.min() >= _SMALLEST and len(np.unique(found.label[some])) > 1:
            structure = float(silhouette_score(points[some], found.label[some]))
            if structure > best:
                best, value, chosen = structure, structure, found
    distance = np.linalg.norm(points - chosen.centres[chosen.label], axis=1)
    reach = [_REACH * distance[chosen.label == i].max() for i in range(len(chosen.centres))]
    return Groups(mean, sd, chosen.centres, np.array(reach), value)


class _Partition(NamedTuple):
    centres: Float[np.ndarray, "k s"]
    label: Int[np.ndarray, " n"]


def _kmeans(points: Float[np.ndarray, "n s"], k: int, seed: int) -> _Partition:
    found: Any = KMeans(n_clusters=k, n_init=_STARTS, random_state=seed).fit(points)  # pyright: ignore[reportArgumentType]
    return _Partition(found.cluster_centers_, found.labels_)


def group_of(groups: Groups, images: Images) -> Int[np.ndarray, " n"]:
    """The group of each image, (n,): that of the nearest centre, or k if it is far from all."""
    points = (statistics(images) - groups.mean) / groups.sd
    distances = np.linalg.norm(points[:, None] - groups.centres[None], axis=2)
    # Images that do not vary at all have a reach of 0; rounding must not put them outside.
    near = distances <= groups.reach + 1e-9
    closest = np.argmin(np.where(near, distances, np.inf), axis=1)
    return np.where(near.any(axis=1), closest, len(groups.centres))


def statistics(images: Images) -> Float[np.ndarray, "n s"]:
    """The statistics of `STATISTICS` of each image, for grey values in [0, 1].

    Energies are means of squared differences of neighbouring pixels; borders are 2 pixels wide.

    Raises:
      ValueError: `images` are not uint8 images of 4 pixels or more in each direction.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or min(images.shape[1:3]) < 2 * _BORDER:
        raise ValueError(
            f"images are {images.dtype} of shape {images.shape}: domains are those of uint8 images "
            f"(n, h, w, c), {2 * _BORDER} pixels or more in each direction."
        )
    x, axes, b = images / 255.0, (1, 2, 3), _BORDER
    columns = (
        x.mean(axes),
        x.std(axes),
        np.concatenate([x[:, :b], x[:, -b:]], axis=1).mean(axes),
        np.concatenate([x[:, :, :b], x[:, :, -b:]], axis=2).mean(axes),
        np.square(np.diff(x, axis=2)).mean(axes),
        np.square(np.diff(x, axis=1)).mean(axes),
    )
    return np.stack(columns, axis=1)


def _checked(name: str, scores: ArrayLike, n: int) -> Float[np.ndarray, " n"]:
    values = np.asarray(scores, np.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {values.shape} and there are {n} images: pass ({n},).")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds {n - np.isfinite(values).sum()} NaN or infinite values out of {n}."
        )
    return values
