"""Judging a model that needs no training: its latents are means over quarters of the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from ocsvm_jax.data import ImageSet
from ocsvm_jax.evaluation.density import DENSITY_SCORES
from ocsvm_jax.evaluation.final import FINAL_SCORES, family, finals_of, score_name
from ocsvm_jax.evaluation.scores import score_sets
from ocsvm_jax.experiments.table import judge
from ocsvm_jax.methods.base import Score

FINALS = finals_of({"nu": (0.2,), "gamma": (0.5, 2.0), "standardize": (True, False)})


@jax.jit
def model(images):
    x = images.astype(jnp.float32) / 255
    halves = jnp.stack([x[:, :14].mean((1, 2, 3)), x[:, 14:].mean((1, 2, 3))], axis=1)
    error = (x[:, :7].mean((1, 2, 3)) - 0.2) ** 2 + 0.01
    return halves, {"reconstruction": Score(error, jnp.float32(0))}


def images(n, seed):
    rng = np.random.default_rng(seed)
    bright = rng.uniform(0.1, 0.5, (n, 1, 1, 1)) + 0.3 * (np.arange(28) < 14)[None, :, None, None]
    return (255 * bright * rng.uniform(0.8, 1, (n, 28, 28, 1))).astype(np.uint8)


TRAIN = images(80, 0)
LABELS = np.arange(60) % 2
# Anomalous images are brighter below than above.
VALID = np.where(LABELS[:, None, None, None] == 1, images(60, 1)[:, ::-1], images(60, 1))


def numpy_views(x):
    z, scores = model(jnp.asarray(x))
    return np.asarray(z, np.float64), np.asarray(scores["reconstruction"].values, np.float64)


def oracle(name, final):
    """By scikit-learn and NumPy, in the order in which a reader of the docs would do it."""
    views = {
        (part, way): numpy_views(x if way == "up" else np.rot90(x, 2, (1, 2)))
        for part, x in (("train", TRAIN), ("valid", VALID))
        for way in ("up", "turned")
    }
    z = views["train", "up"][0]
    scale = z.std(0) + 1e-6 if final.standardize else np.ones(2)
    svm = OneClassSVM(nu=0.2, gamma=final.gamma, tol=1e-10).fit(z / scale)
    f = {key: svm.decision_function(v[0] / scale) / (0.2 * len(z)) for key, v in views.items()}
    if name == "ocsvm":
        return -f["valid", "up"]
    if name == "ocsvm-log":
        rho = -svm.intercept_[0] / (0.2 * len(z))
        return np.log(rho) - np.log(f["valid", "up"] + rho)
    contrast = {part: f[part, "turned"] - f[part, "up"] for part in ("train", "valid")}
    if name == "contrast":
        return contrast["valid"]
    ratio = {
        part: np.log(views[part, "up"][1] / views[part, "turned"][1]) for part in ("train", "valid")
    }
    units = [(c["valid"] - c["train"].mean()) / c["train"].std() for c in (contrast, ratio)]
    return units[0] + units[1]


@pytest.mark.parametrize("name", FINAL_SCORES)
@pytest.mark.parametrize("final", FINALS)
def test_scores_of_a_final_one_class_svm(name, final):
    expected = oracle(name, FINALS[final])
    scored = score_sets(model, TRAIN, {"new": VALID}, {final: FINALS[final]})
    found = scored.scores["new"][score_name(name, final)]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected), rtol=1e-4)


def test_own_scores_need_no_final():
    error = numpy_views(VALID)[1]
    turned = numpy_views(np.rot90(VALID, 2, (1, 2)))[1]
    found = score_sets(model, TRAIN, {"new": VALID}, {}, densities=False).scores["new"]
    assert set(found) == {"reconstruction", "error-contrast"}
    np.testing.assert_allclose(found["reconstruction"], error, rtol=1e-6)
    np.testing.assert_allclose(
        found["error-contrast"], np.log(error / turned), rtol=1e-4, atol=1e-6
    )


def test_densities_of_the_latents():
    """By scikit-learn on the standardised latents."""
    train, new = (numpy_views(x)[0] for x in (TRAIN, VALID))
    scale = train.std(0) + 1e-6
    found = score_sets(model, TRAIN, {"new": VALID}, {}).scores["new"]
    expected = LedoitWolf().fit(train / scale).mahalanobis(new / scale)
    np.testing.assert_allclose(found["gaussian"], expected, rtol=1e-5)
    near, _ = NearestNeighbors(n_neighbors=5).fit(train / scale).kneighbors(new / scale)
    np.testing.assert_allclose(found["knn"], near.mean(1), rtol=1e-5)


def test_figures_on_validation_images():
    classes = np.where(LABELS == 1, 8, 3)
    valid = ImageSet(VALID, classes, np.full(60, "identity"), LABELS.astype(np.int8))
    found = judge.on_validation(model, TRAIN, {"paper": valid}, FINALS)
    figures = found["valid"]["paper"]
    assert {family(name) for name in figures} == {
        "reconstruction",
        "error-contrast",
        *FINAL_SCORES,
        *DENSITY_SCORES,
    }
    assert len(figures) == 4 + len(FINAL_SCORES) * len(FINALS)
    for final, settings in FINALS.items():
        for name in FINAL_SCORES:
            auroc = roc_auc_score(LABELS, oracle(name, settings))
            assert figures[score_name(name, final)]["AUROC"] == pytest.approx(auroc, abs=0.01)
    # Upright images are told from turned ones by either half alone.
    assert figures["contrast gamma=0.5 nu=0.2 standardize=True"]["AUROC"] > 0.9
    assert not found["collapsed"]
    assert not found["unconverged"]
    assert 1 <= found["dimensions"] <= 2


def test_latents_that_are_not_finite_give_no_figures():
    valid = ImageSet(VALID, LABELS, np.full(60, "identity"), LABELS.astype(np.int8))

    def broken(x):
        z, scores = model(x)
        return z * jnp.nan, scores

    assert judge.on_validation(broken, TRAIN, {"paper": valid}, FINALS)["valid"] == {}
