"""Principal components of the pixels, against scikit-learn."""

import numpy as np
import pytest
from sklearn import decomposition

from ocsvm_jax.evaluation.pca import PCA
from ocsvm_jax.evaluation.scores import see


def images(n, seed=0):
    """Smooth images with a few directions of large variance, and noise."""
    rng = np.random.default_rng(seed)
    basis = np.random.default_rng(9).normal(size=(5, 28, 28, 1))
    x = 0.5 + 0.05 * np.einsum("nk,khwc->nhwc", rng.normal(size=(n, 5)) * [5, 4, 3, 2, 1], basis)
    return (255 * np.clip(x + 0.02 * rng.normal(size=x.shape), 0, 1)).astype(np.uint8)


TRAIN, NEW = images(300), images(40, seed=1)
OURS = PCA.fit(TRAIN, 4)
THEIRS = decomposition.PCA(4, svd_solver="full").fit(TRAIN.reshape(300, -1) / 255)


def errors(some):
    x = some.reshape(len(some), -1) / 255
    return np.square(x - THEIRS.inverse_transform(THEIRS.transform(x))).mean(1)


def test_the_components_are_those_of_scikit_learn():
    np.testing.assert_allclose(OURS.mean, THEIRS.mean_, atol=1e-6)
    overlap = np.abs(np.asarray(OURS.components) @ THEIRS.components_.T)
    np.testing.assert_allclose(overlap, np.eye(4), atol=1e-5)
    variances = THEIRS.explained_variance_ * 299 / 300  # theirs divides by n - 1
    np.testing.assert_allclose(np.square(OURS.sd), variances, rtol=1e-5)


def test_reconstruction_error_and_its_contrast():
    scores = OURS.scores(NEW)
    turned = errors(np.rot90(NEW, 2, (1, 2)))
    np.testing.assert_allclose(scores["reconstruction"], errors(NEW), rtol=1e-4)
    expected = np.log(errors(NEW) / turned)
    np.testing.assert_allclose(scores["error-contrast"], expected, atol=1e-4)


def test_latents_are_whitened():
    z = see(OURS.model(), TRAIN).z
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(4), atol=1e-4)


def test_vectors_have_no_contrast():
    vectors = NEW.reshape(len(NEW), -1)
    found = PCA.fit(TRAIN.reshape(len(TRAIN), -1), 4).scores(vectors)
    assert set(found) == {"reconstruction"}
    np.testing.assert_allclose(found["reconstruction"], errors(NEW), rtol=1e-4)


def test_pixels_that_never_vary():
    """More components than the training images have directions of variance."""
    flat = np.repeat(TRAIN[:2], 10, axis=0)
    fitted = PCA.fit(flat, 8)
    seen = see(fitted.model(), flat)
    assert np.all(np.isfinite(seen.z))
    np.testing.assert_allclose(seen.own["reconstruction"], 0, atol=1e-9)


@pytest.mark.parametrize("k", [0, 12])
def test_a_number_of_components_that_is_out_of_range(k):
    with pytest.raises(ValueError, match=f"k is {k}; 12 images of 784 pixels have 1 to 11 comp"):
        PCA.fit(TRAIN[:12], k)
