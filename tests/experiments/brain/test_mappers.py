"""The scores of voxels against NumPy, scikit-learn and LIBSVM, also where subjects are missing."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ShrunkCovariance
from sklearn.decomposition import PCA
from sklearn.svm import OneClassSVM
from support.tiny_brains import cohort

from ocsvm_jax.experiments.brain import mappers, recipes, training
from ocsvm_jax.experiments.brain.methods import centre_weights
from ocsvm_jax.networks.patch import PatchEncoder

TRAIN, HELD_OUT = cohort("train", 5), cohort("valid", 3)
V, N, M, D = 4, 30, 7, 16  # locations, training subjects, test subjects, features


@pytest.fixture(scope="module")
def feed():
    return training.feed_of(TRAIN.images, TRAIN.masks, HELD_OUT.images, HELD_OUT.masks)


@pytest.fixture(scope="module")
def features():
    """Of training subjects, who is present, and of test subjects. Who is absent is far away."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(V, D, D)) / 4
    train, test = (rng.normal(size=(V, n, D)) @ mixing + 1 for n in (N, M))
    present = np.ones((V, N), bool)
    present[1, :12] = False
    present[2, ::2] = False
    train[~present] = 50
    return train.astype(np.float32), present, (1.5 * test).astype(np.float32)


def test_darkness():
    mapper = mappers.darkness()
    slices = jnp.asarray(TRAIN.images[:2, 0])
    grey = np.asarray(mapper.features(slices))
    assert grey.shape == (2, 20, 20, 1)
    at = grey[:, 5:9, 6].swapaxes(0, 1)  # (v, m, 1)
    scores = mapper.score(None, None, jnp.asarray(at))["score"]
    np.testing.assert_array_equal(scores, 1 - TRAIN.images[:2, 0, 5:9, 6].T)


def test_minus_z(features):
    train, present, test = (a[..., :1] if a.ndim == 3 else a for a in features)
    train, test = train.copy(), test.copy()
    train[3] = 0.25  # everybody alike: the spread is held at a floor
    scores = jax.jit(mappers.minus_z().score)(train, present, test)["score"]
    for v in range(V):
        here = train[v, present[v], 0].astype(np.float64)
        expected = -(test[v, :, 0] - here.mean()) / max(here.std(), 0.01)
        np.testing.assert_allclose(scores[v], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(scores)[3]).max() > 20


def test_mahalanobis_is_that_of_the_shrunk_covariance(features):
    train, present, test = features
    scores = jax.jit(mappers._mahalanobis)(train, present, test)["score"]
    for v in range(V):
        reference = ShrunkCovariance(shrinkage=0.05).fit(train[v, present[v]].astype(np.float64))
        expected = np.sqrt(reference.mahalanobis(test[v].astype(np.float64)))
        np.testing.assert_allclose(scores[v], expected, rtol=1e-3)


def test_a_voxel_that_all_subjects_have_alike_does_not_break_mahalanobis(features):
    train, present, test = features
    scores = jax.jit(mappers._mahalanobis)(0 * train, present, test)
    assert np.isfinite(scores["score"]).all()


@pytest.mark.parametrize("centre_sd", [0.0, 2.0])
def test_principal_components_are_those_of_scikit_learn(feed, monkeypatch, centre_sd):
    """Of the same patches; and at every pixel, those at the border included."""
    cut = jax.jit(training.batch)(feed.slices, feed.locations[::2], jax.random.key(1))
    monkeypatch.setattr(mappers, "batch", lambda *_: cut)
    weights = centre_weights(centre_sd)
    if centre_sd:
        settings = SimpleNamespace(nu=0.5, gamma=0.1, standardize=False, scores=("-f",))
        mapper = mappers.pca_ocsvm(feed, 0, settings, centre_sd)
    else:
        mapper = mappers.mahalanobis(feed, 0)
    found = np.asarray(jax.jit(mapper.features)(HELD_OUT.images[:, 1]))
    assert found.shape == (3, 20, 20, 16)

    root = np.sqrt(weights).ravel()
    reference = PCA(16, random_state=0).fit(np.asarray(cut).reshape(-1, 225) * root)
    padded = np.pad(HELD_OUT.images[:, 1], ((0, 0), (7, 7), (7, 7)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (15, 15), axis=(1, 2))
    expected = reference.transform(patches.reshape(-1, 225) * root).reshape(3, 20, 20, 16)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_patches_of_the_components_depend_on_the_seed(feed, monkeypatch):
    seen = []

    def spied(slices, locations, key):
        seen.append(np.asarray(locations))
        return training.batch(slices, locations, key)

    monkeypatch.setattr(jax, "jit", lambda function: function)
    monkeypatch.setattr(mappers, "batch", spied)
    monkeypatch.setattr(mappers, "_PCA_PATCHES", 202)
    for seed in (0, 0, 1):
        mappers.mahalanobis(feed, seed)
    assert [len(locations) for locations in seen] == [51, 51, 51]  # of 4 subjects each
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.any(seen[0] != seen[2])
    everywhere = {tuple(at) for at in np.asarray(feed.locations)}
    assert {tuple(at) for at in np.concatenate(seen)} <= everywhere


def test_the_one_class_svm_is_libsvms(features):
    """The mapper hands on its settings, and those who are absent take no part."""
    train, present, test = features
    settings = SimpleNamespace(nu=0.3, gamma=0.05, standardize=True, scores=("-f", "log"))
    encoder = PatchEncoder()
    mapper = mappers.localized_ocsvm(encoder, {}, {}, settings)
    scores = jax.jit(mapper.score)(train, present, test)
    assert list(scores) == ["-f", "log"]
    for v in range(V):
        here = train[v, present[v]].astype(np.float64)
        mean, std = here.mean(axis=0), here.std(axis=0) + 1e-6
        reference = OneClassSVM(nu=0.3, gamma=0.05, tol=1e-10).fit((here - mean) / std)
        f = reference.decision_function((test[v] - mean) / std) / (0.3 * len(here))
        np.testing.assert_allclose(scores["-f"][v], -f, atol=2e-5)
        rho = -reference.intercept_[0] / (0.3 * len(here))
        np.testing.assert_allclose(scores["log"][v], np.log(rho / (f + rho)), atol=1e-3)


def test_the_baselines_are_built_from_feed_and_seed(feed, tmp_path):
    assert recipes.TRIVIAL == ("darkness", "minus_z", "mahalanobis")
    for name in recipes.TRIVIAL:
        mapper, history = recipes.RECIPES[name].build(None, feed, 0, tmp_path)
        assert isinstance(mapper, mappers.Mapper) and history == []
    assert list(tmp_path.iterdir()) == []
