"""The Gaussian and the neighbours of latents, against scikit-learn."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from ocsvm_jax.evaluation import density
from ocsvm_jax.evaluation.density import Gaussian, LatentDensity


def points(n, d, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + offset


@pytest.mark.parametrize(("n", "d"), [(20, 5), (400, 8), (30, 60), (50, 1)])
def test_gaussian_score_is_the_mahalanobis_distance(n, d):
    z, new = points(n, d, offset=3.0), points(50, d, seed=1)
    expected = LedoitWolf().fit(z)
    found = Gaussian.fit(z)
    assert found.shrinkage == pytest.approx(expected.shrinkage_, rel=1e-9)
    np.testing.assert_allclose(found.score(new), expected.mahalanobis(new), rtol=1e-7)


def test_latents_that_are_all_the_same():
    """They have no covariance: the score says nothing, and is a number."""
    fitted = LatentDensity.fit(np.full((30, 4), 2.0, np.float32))
    scores = fitted.scores(np.array([[2, 2, 2, 2], [2, 2, 2, 3]], np.float32))
    np.testing.assert_array_equal(scores["gaussian"], [0, 0])
    assert scores["knn"][0] < 1e-9 < scores["knn"][1]


def test_a_direction_without_variance_is_regularised():
    z = points(100, 3)
    z[:, 2] = z[:, 0]
    scores = LatentDensity.fit(z).scores(z + np.array([0.0, 0.0, 1.0]))
    assert np.all(np.isfinite(scores["gaussian"]))


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_neighbours_are_those_of_scikit_learn(k, offset):
    train, new = points(200, 6, offset=offset), points(70, 6, seed=1, offset=offset)
    distances, _ = NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(train).kneighbors(new)
    found = density.neighbour_distance(train, new, k)
    np.testing.assert_allclose(found, distances.mean(1), rtol=1e-9)


def test_blocks_do_not_change_a_distance(monkeypatch):
    train, new = points(50, 3), points(40, 3, seed=1)
    whole = density.neighbour_distance(train, new)
    monkeypatch.setattr(density, "_ENTRIES", 3 * 50)
    np.testing.assert_allclose(density.neighbour_distance(train, new), whole, rtol=1e-12)


def test_fewer_points_than_neighbours():
    train, new = points(3, 2), points(4, 2, seed=1)
    expected = np.linalg.norm(new[:, None] - train[None], axis=2).mean(1)
    np.testing.assert_allclose(density.neighbour_distance(train, new), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="k is 0: it must be at least 1"):
        density.neighbour_distance(train, new, 0)


def test_saved_and_loaded(tmp_path):
    z = points(60, 4).astype(np.float32)
    fitted = LatentDensity.fit(z)
    fitted.save(tmp_path / "density.npz")
    again = LatentDensity.load(tmp_path / "density.npz")
    assert again.gaussian.shrinkage == fitted.gaussian.shrinkage
    for name, values in fitted.scores(z).items():
        np.testing.assert_array_equal(again.scores(z)[name], values)
