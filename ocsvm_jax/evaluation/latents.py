"""Latents in the plane of the two main directions of the training latents."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Plane(NamedTuple):
    """A plane in the latent space.

    Attributes:
      centre: (d,) the mean of the training latents, on it.
      directions: (2, d) the two principal directions of the training latents, orthonormal.
    """

    centre: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "2 d"]

    @classmethod
    def of(cls, z: Float[np.ndarray, "n d"]) -> "Plane":
        """The plane of training latents, d at least 2."""
        centre = z.mean(0)
        return cls(centre, np.linalg.svd(z - centre, full_matrices=False)[2][:2])

    def project(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
        """Coordinates of latents in the plane."""
        return (z - self.centre) @ self.directions.T

    def points(self, coordinates: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n d"]:
        """The latents at these coordinates."""
        return self.centre + coordinates @ self.directions


def some_of_each(
    groups: Sequence[Int[np.ndarray, " _"]], at_most: int, rng: np.random.Generator
) -> list[Int[np.ndarray, " _"]]:
    """At most so many rows of each group, at random."""
    return [rng.permutation(rows)[:at_most] for rows in groups]
