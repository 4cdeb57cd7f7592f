"""k-means and the silhouette, against scikit-learn."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from ocsvm_jax.evaluation import clusters


def points(n=150, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 3.0 * rng.integers(0, 3, size=(n, 1))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_as_good_as_scikit_learn(k):
    x = points()
    found = clusters.kmeans(x, k, seed=0)
    expected = KMeans(k, n_init=10, random_state=0).fit(x)
    assert found.inertia <= expected.inertia_ * 1.01
    gaps = x[:, None] - found.centres[None]
    np.testing.assert_array_equal(found.label, np.square(gaps).sum(2).argmin(1))
    own = [x[found.label == i].mean(0) for i in range(k)]
    np.testing.assert_allclose(found.centres, own, atol=1e-9)
    assert found.inertia == pytest.approx(np.square(x - found.centres[found.label]).sum())


@pytest.mark.parametrize("k", [2, 4, 7])
def test_silhouette_is_that_of_scikit_learn(k):
    x = points(seed=1)
    label = np.random.default_rng(0).integers(k, size=len(x))
    label[0] = 50  # alone in its cluster
    assert clusters.silhouette(x, label) == pytest.approx(silhouette_score(x, label))
    label = clusters.kmeans(x, k, seed=0).label
    assert clusters.silhouette(x, label) == pytest.approx(silhouette_score(x, label))


def test_points_that_are_all_the_same():
    x = np.repeat([[1.0, 2.0], [3.0, 4.0]], 5, axis=0)
    found = clusters.kmeans(x, 2, seed=0)
    assert found.inertia == 0
    assert clusters.silhouette(x, found.label) == 1.0
    assert clusters.silhouette(np.zeros((4, 2)), np.array([0, 0, 1, 1])) == 0.0


def test_the_seed_alone_decides():
    x = points(seed=2)
    one, again = (clusters.kmeans(x, 4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.centres, again.centres)
