"""Two plain scores on the latents that the final one-class SVM gets: a Gaussian and neighbours.

They say what the one-class SVM adds to the representation: a row whose one-class SVM is no better
than a Gaussian on the same latents owes its result to the encoder.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file

DENSITY_SCORES = ("gaussian", "knn")
NEIGHBOURS = 5
_EPSILON = 1e-6  # added to each standard deviation, as for the final one-class SVM
_ENTRIES = 2**22  # differences of coordinates held at a time (32 MiB)


class Gaussian(NamedTuple):
    """A Gaussian with a regularised covariance.

    Attributes:
      mean: (d,) of the training latents.
      whitening: (d, d) W with W W' the inverse of the covariance.
      shrinkage: weight of the multiple of the identity in the covariance, in [0, 1].
    """

    mean: Float[np.ndarray, " d"]
    whitening: Float[np.ndarray, "d d"]
    shrinkage: float

    @classmethod
    def fit(cls, z: Float[np.ndarray, "n d"]) -> "Gaussian":
        """Fits the mean, and the covariance with the shrinkage of Ledoit and Wolf.

        That is (1 - s) S + s (tr S / d) I with the s that minimises the expected squared error ("A
        well-conditioned estimator for large-dimensional covariance matrices", 2004).
        """
        z = z.astype(np.float64)
        # On first use, since what imports this module needs the core alone.
        covariances = extras.load("sklearn.covariance", __name__, "train")
        covariance, shrinkage = covariances.ledoit_wolf(z)
        eigenvalues, vectors = np.linalg.eigh(covariance)
        # Latents that are all the same have no covariance; every distance is then 0.
        spans = eigenvalues > np.finfo(np.float64).eps * max(float(eigenvalues[-1]), 0.0)
        inverse = np.where(spans, 1.0 / np.sqrt(np.where(spans, eigenvalues, 1.0)), 0.0)
        return cls(z.mean(0), vectors * inverse, shrinkage)

    def score(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """The squared Mahalanobis distance, larger for more anomalous."""
        return np.square((z.astype(np.float64) - self.mean) @ self.whitening).sum(axis=1)


def neighbour_distance(
    train: Float[np.ndarray, "n d"], z: Float[np.ndarray, "m d"], k: int = NEIGHBOURS
) -> Float[np.ndarray, " m"]:
    """The mean Euclidean distance to the k nearest training points, exactly, in float64.

    Rows of z are taken in blocks, so that memory grows with m by the result alone.

    Args:
      train: (n, d) points; with n < k, all of them are the neighbours.
      z: (m, d) other points: a training point is its own nearest neighbour.
      k: number of neighbours, at least 1.

    Raises:
      ValueError: `k` is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}: it must be at least 1.")
    # The search expands distances into products, where an offset that all points share would cost
    # digits.
    centre = train.astype(np.float64).mean(0)
    train, z = train - centre, z.astype(np.float64) - centre
    k = min(k, len(train))
    neighbors = extras.load("sklearn.neighbors", __name__, "train")
    found = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train)
    out, rows = np.empty(len(z)), max(1, _ENTRIES // (k * train.shape[1]))
    for start in range(0, len(z), rows):
        block = z[start : start + rows]
        near = found.kneighbors(block, return_distance=False)
        gaps = block[:, None, :] - train[near]
        out[start : start + rows] = np.sqrt(np.square(gaps).sum(axis=2)).mean(axis=1)
    return out


class LatentDensity(NamedTuple):
    """The Gaussian and the neighbours of standardised latents.

    Attributes:
      scale: (d,) standard deviation of the training latents plus 1e-6; latents are divided by it.
      gaussian: fitted to the standardised training latents.
      train: (n, d) the standardised training latents.
    """

    scale: Float[np.ndarray, " d"]
    gaussian: Gaussian
    train: Float[np.ndarray, "n d"]

    @classmethod
    def fit(cls, z: Float[np.ndarray, "n d"]) -> "LatentDensity":
        """Fits both to finite training latents (n, d), n at least 1."""
        scale = z.astype(np.float64).std(axis=0) + _EPSILON
        train = z / scale
        return cls(scale, Gaussian.fit(train), train)

    def scores(self, z: Float[np.ndarray, "m d"]) -> dict[str, Float[np.ndarray, " m"]]:
        """The scores of `DENSITY_SCORES` for latents, larger for more anomalous."""
        z = z / self.scale
        return {"gaussian": self.gaussian.score(z), "knn": neighbour_distance(self.train, z)}

    def save(self, path: Path) -> None:
        """Writes a .npz file."""
        arrays = {"scale": self.scale, "train": self.train} | self.gaussian._asdict()
        with whole_file(path) as file:
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]

    @classmethod
    def load(cls, path: Path) -> "LatentDensity":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            gaussian = Gaussian(kept["mean"], kept["whitening"], float(kept["shrinkage"]))
            return cls(kept["scale"], gaussian, kept["train"])
