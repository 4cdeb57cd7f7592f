"""The numbers: against principal components, scikit-learn's one-class SVM and separate models."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from ocsvm_jax.conformal import conformal_p_values, conformal_threshold
from ocsvm_jax.detectors import AE, OgAE
from ocsvm_jax.detectors.ranks import mean_rank
from ocsvm_jax.path import robust_defaults
from ocsvm_jax.training import population

TINY = {"epochs": 2, "batch_size": 8}
# Of 60 rows, by the seed 0: at random, as is documented.
HELD_OUT = np.random.default_rng(0).permutation(60)[:6]


def linear(features):
    """Half of a linear autoencoder, as two plain functions."""

    def init(key, x):
        # Orthogonal, so that both halves begin on one scale.
        size = max(x.shape[1], features)
        basis = np.linalg.qr(np.random.default_rng(0).normal(size=(size, size)))[0]
        return jnp.asarray(basis[: x.shape[1], :features], jnp.float32)

    return init, lambda weights, x: x @ weights


def test_a_linear_autoencoder_ranks_as_principal_components(vectors):
    x, far = vectors
    units = x.std(axis=0)
    x, q = x / units, np.concatenate([x, far]) / units
    x, q = x - x.mean(axis=0), q - x.mean(axis=0)
    detector = AE(
        latent_dim=2,
        network=(linear(2), linear(5)),
        scaling="none",
        epochs=1500,
        batch_size=54,
        learning_rate=2e-2,
    ).fit(x)
    # Without biases: principal directions through the origin, of the rows that are trained on.
    directions = np.linalg.svd(np.delete(x, HELD_OUT, axis=0))[2][:2]
    errors = np.mean((q - q @ directions.T @ directions) ** 2, axis=1)
    found = -detector.score_samples(q)
    assert spearmanr(found, errors)[0] > 0.99
    np.testing.assert_allclose(found[60:], errors[60:], rtol=0.05)


@pytest.mark.parametrize("given", [{}, {"final_nu": 0.1, "final_gamma": 0.3}], ids=["auto", "set"])
def test_the_final_one_class_svm(vectors, given):
    x, far = vectors
    detector = OgAE(**TINY, **given).fit(x)
    z = detector.latents(np.delete(x, HELD_OUT, axis=0))[0].astype(np.float64)
    z_q = detector.latents(far)[0].astype(np.float64)
    scale = z.std(axis=0) + 1e-6
    gamma = given.get("final_gamma") or robust_defaults(z / scale).gamma
    nu = given.get("final_nu", 0.5)
    oracle = OneClassSVM(nu=nu, gamma=gamma, tol=1e-10).fit(z / scale)
    expected = oracle.decision_function(z_q / scale) / (nu * len(z))
    np.testing.assert_allclose(detector.score_samples(far), expected, rtol=0, atol=2e-5)


def test_scores_do_not_depend_on_the_other_rows(vectors):
    x, _ = vectors
    for cls in (AE, OgAE):
        detector = cls(**TINY).fit(x)
        together = detector.score_samples(x)
        alone = [detector.score_samples(row[None])[0] for row in x[:10]]
        np.testing.assert_array_equal(alone, together[:10])
        np.testing.assert_array_equal(detector.score_samples(x[::-1]), together[::-1])


def test_several_models_are_the_single_ones(vectors):
    x, far = vectors
    several = AE(**TINY, n_models=2, seed=5).fit(x)
    assert len(several.history_) == 2
    assert several.latents(far).shape[0] == 2
    # One seed decides on the rows that are held out; each model has its own weights and order.
    errors = several.scores(far)["reconstruction"]
    np.testing.assert_array_equal(errors[0], -AE(**TINY, seed=5).fit(x).score_samples(far))
    assert np.all(errors[1] != errors[0])
    train = np.delete(x, np.random.default_rng(5).permutation(60)[:6], axis=0)
    references = np.sort(several.scores(train)["reconstruction"], axis=1)
    expected = -mean_rank(list(errors), list(references))
    np.testing.assert_array_equal(several.score_samples(far), expected)


@pytest.mark.parametrize("cls", [AE, OgAE])
def test_models_under_vmap(cls, vectors, tmp_path, monkeypatch):
    """As on an accelerator: the same models up to rounding, also after an interruption."""
    x, far = vectors
    expected = cls(**TINY, n_models=3).fit(x)
    monkeypatch.setattr(population, "models_at_once", lambda: 2)
    together = cls(**TINY, n_models=3, workdir=tmp_path).fit(x)
    assert sorted(path.name for path in tmp_path.glob("models-*")) == ["models-0", "models-2"]
    assert [len(entries) for entries in together.history_] == [2, 2, 2]
    np.testing.assert_allclose(together.latents(far), expected.latents(far), rtol=1e-3, atol=1e-4)
    # The last one has no other beside it.
    np.testing.assert_array_equal(together.latents(far)[2], expected.latents(far)[2])
    again = cls(**TINY, n_models=3, workdir=tmp_path).fit(x)
    np.testing.assert_array_equal(again.score_samples(far), together.score_samples(far))


def test_the_offset_is_the_threshold_of_the_held_out_rows(vectors):
    x, _ = vectors
    detector = AE(**TINY, validation_fraction=0.5, false_alarm=0.2).fit(x)
    held_out = x[np.random.default_rng(0).permutation(60)[:30]]
    scores = detector.score_samples(held_out)
    assert detector.offset_ == conformal_threshold(scores, 0.2)
    assert np.mean(detector.predict(held_out) == -1) <= 0.2
    # Too few for the rate: the lowest.
    few = AE(**TINY, false_alarm=0.01).fit(x)
    assert np.sum(few.predict(x[HELD_OUT]) == -1) == 0


def test_calibration(vectors):
    x, far = vectors
    detector = AE(**TINY).fit(x[:30])
    offset = detector.offset_
    scores = detector.score_samples(x[30:])
    assert detector.calibrate(x[30:], false_alarm=0.1) is detector
    assert detector.offset_fit_ == offset
    assert detector.offset_ == conformal_threshold(scores, 0.1)
    p = detector.p_values(far)
    np.testing.assert_array_equal(p, conformal_p_values(scores, detector.score_samples(far)))
    np.testing.assert_array_equal(detector.predict(far) == -1, p <= 0.1)
    with pytest.raises(ValueError, match=r"a false-alarm rate of 0.001 takes at least 999"):
        detector.calibrate(x[30:], false_alarm=0.001)
    assert not hasattr(detector.fit(x[:30]), "calibration_scores_")


def test_it_finds_what_lies_off_the_plane(vectors):
    x, far = vectors
    detector = AE(latent_dim=2, epochs=300, batch_size=54, learning_rate=1e-2).fit(x)
    scores = detector.score_samples(np.concatenate([x, far]))
    assert roc_auc_score(np.repeat([1, 0], [60, 6]), scores) > 0.95


def test_early_stopping(vectors):
    x, _ = vectors
    detector = AE(epochs=200, batch_size=8, learning_rate=0.03, patience=3).fit(x)
    history = detector.history_[0]
    assert len(history) < 200
    losses = [entry["valid_loss"] for entry in history]
    assert len(history) - 1 - int(np.argmin(losses)) == 3


def test_divergence_is_an_error(vectors):
    with pytest.raises(ValueError, match=r"training has diverged.*Lower learning_rate"):
        AE(epochs=5, batch_size=8, learning_rate=1e25).fit(vectors[0])


def test_rows_that_are_all_the_same():
    x = np.ones((20, 3))
    with pytest.raises(ValueError, match="the latents of all training rows are equal"):
        OgAE(**TINY).fit(x)
    assert np.all(np.isfinite(AE(**TINY).fit(x).score_samples(x)))


def test_images(images):
    detector = AE(epochs=3, batch_size=8).fit(images)
    assert detector.n_features_in_ == 63
    channel = detector.score_samples(images[..., None])
    np.testing.assert_array_equal(channel, detector.score_samples(images))


def test_series():
    x = np.random.default_rng(0).normal(size=(20, 33, 2))
    detector = AE(**TINY, network="series").fit(x)
    assert detector.score_samples(x).shape == (20,)
    assert len({leaf.ndim for leaf in _leaves(detector)} & {3}) == 1  # kernels along one axis


def _leaves(detector):
    import jax

    return jax.tree.leaves(detector._fitted.ones[0].state.params)
