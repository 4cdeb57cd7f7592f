"""The formulas of the benchmarks that the documents rest a claim on."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score
from support.small import dense

from ocsvm_jax import ocsvm_solve
from ocsvm_jax.evaluation import metrics
from ocsvm_jax.experiments.method_fields import built, settings_of
from ocsvm_jax.methods import METHODS
from ocsvm_jax.networks.pair import Network, Pair

ROOT = Path(__file__).resolve().parent.parent


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def definitions():
    return _loaded("definitions")


@pytest.fixture(scope="module")
def variants():
    return _loaded("variants")


def independent(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that know nothing of each other: every label at every score."""
    labels = np.arange(100) < 100 * share
    scores = np.arange(50.0)
    return np.tile(labels, 50).astype(int), np.repeat(scores, 100)


@pytest.mark.parametrize("share", [0.2, 0.49])
def test_chance(definitions, share):
    labels, scores = independent(share)
    # The lines from (0, 1) to (1/2, share) and on to (1, share).
    expected = (1 + share) / 4 + share / 2
    assert definitions.aupr_of_decisions(labels, scores) == pytest.approx(expected, abs=1e-12)
    assert definitions.upper_sensitivity(labels, scores) == pytest.approx(0.65, abs=1e-12)


def test_perfect_scores(definitions):
    labels = np.repeat([0, 1], 50)
    assert definitions.aupr_of_decisions(labels, labels + np.arange(100) / 200) == 1
    assert definitions.upper_sensitivity(labels, labels.astype(float)) == 1


def test_the_upper_sensitivity_and_the_partial_area_make_the_whole(definitions):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = labels + 2 * rng.standard_normal(500)
    standardised = float(roc_auc_score(labels, scores, max_fpr=0.3))
    # McClish: 1/2 at the area under the diagonal, 1 at all of it.
    partial = 0.045 + (0.3 - 0.045) * (2 * standardised - 1)
    whole = partial + 0.7 * definitions.upper_sensitivity(labels, scores)
    assert whole == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


@pytest.mark.parametrize("share", [0.1, 0.488])
def test_at_chance_the_area_is_the_share(definitions, share):
    assert definitions.implied_prevalence(0.5, share) == pytest.approx(share, abs=1e-4)


def test_two_normal_distributions_imply_their_share(definitions):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [120_000, 80_000])
    scores = rng.standard_normal(200_000) + 0.3 * labels
    found = definitions.implied_prevalence(
        roc_auc_score(labels, scores), metrics.aupr(labels, scores)
    )
    assert found == pytest.approx(0.4, abs=0.01)


NETWORK = Network(dense((3,), jnp.tanh, bias=False), dense((28, 28, 1), jax.nn.sigmoid, bias=False))
IMAGES = jax.random.uniform(jax.random.key(1), (12, 28, 28, 1), jnp.float32)


def _settings(variants, name, **changes):
    card = settings_of(variants.CARD, name) | {"num_epochs": 2, "nu": 0.4, "last_m": 2}
    return SimpleNamespace(**card | {"guidance_weight": 0.1} | changes)


def _own(variants, name, **changes):
    """The losses of variants.py on a small network."""
    variant = variants.Variant(name, (), **changes)
    settings = _settings(variants, name)
    return variants._split_method(variant, NETWORK, optax.sgd(0.1), settings, name == "turned_ogae")


@pytest.mark.parametrize("name", ["ogae", "turned_ogae"])
def test_one_split_and_nothing_learnt_is_the_registered_method(variants, name):
    changes = {} if name == "ogae" else {"guidance_weight": 0.0}
    settings = vars(_settings(variants, name, **changes))
    losses = []
    for method in (
        built(METHODS[name], NETWORK, optax.sgd(0.1), settings),
        _own(variants, name),
    ):
        state = method.init(IMAGES, jax.random.key(0))
        update = jax.jit(method.update)
        found = []
        for epoch in (0, 1, 1):
            state, parts = update(state, IMAGES, jnp.int32(epoch))
            found.append(float(parts["loss"]))
        losses.append(found)
    assert losses[0][0] != losses[0][2]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_two_splits_are_both_orders_of_the_halves(variants):
    one, two = (_own(variants, "turned_ogae", splits=splits) for splits in (1, 2))
    state, loss = one.init(IMAGES, jax.random.key(0)), jax.jit(one.loss)
    single = [float(loss(state, images)) for images in (IMAGES, jnp.roll(IMAGES, 6, axis=0))]
    assert single[0] != pytest.approx(single[1], rel=1e-4)
    assert float(jax.jit(two.loss)(state, IMAGES)) == pytest.approx(np.mean(single), rel=1e-5)


def test_learnt_gamma_moves(variants):
    method = _own(variants, "ogae", learnt=("gamma",))
    state = method.init(IMAGES, jax.random.key(0))
    for _ in range(2):
        state, parts = jax.jit(method.update)(state, IMAGES, jnp.int32(1))
    assert float(parts["gamma"]) != pytest.approx(0.1, rel=1e-4)
    assert float(parts["nu"]) == pytest.approx(0.4)


def test_frozen_statistics_stay(variants):
    def apply(params, stats, x, train):
        return x + stats, stats + train

    frozen = variants._frozen(Pair(lambda key, x: ({}, 0), apply))
    assert frozen.apply({}, 3, 1, True) == (4, 3)


def test_the_guidance_of_a_larger_batch_weighs_the_same(variants):
    larger = variants._larger(400, {"nu": 0.1}, 1e-3)
    assert larger["settings"] == {"nu": 0.1, "guidance_weight": pytest.approx(1e-3 / 16)}
    assert larger["train"] == {"batch_size": 400, "learning_rate": pytest.approx(2e-3)}


def _beside_its_siblings(name, monkeypatch):
    """A script that imports others of its folder, which running it would put on the path."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return _loaded(name)


def test_central_differences_see_a_bend(monkeypatch):
    gradients = _beside_its_siblings("gradients", monkeypatch)

    def alphas(Ks, bend):
        t = np.asarray(Ks)[:, 0, 0]
        return np.stack([np.sin(t), np.maximum(t, bend)], axis=1)

    K, directions = np.full((1, 1), 0.5), np.ones((1, 1, 1))
    arguments = (np.array([1.0, 1.0]), K)
    found, same = gradients.central_differences(alphas, *arguments, 0.0, directions, 1e-2)
    np.testing.assert_allclose(found, np.cos(0.5) + 1, rtol=1e-8)
    assert same.tolist() == [True]
    _, same = gradients.central_differences(alphas, *arguments, 0.53, directions, 1e-2)
    assert same.tolist() == [False]


def test_the_peers_that_are_missing_are_named(monkeypatch, capsys):
    peers = _beside_its_siblings("peers", monkeypatch)

    def missing():
        raise ImportError("No module named 'peer'")

    assert peers.installed({"one": lambda: 1, "another": missing}) == {"one": 1}
    assert "another is left out: No module named 'peer'" in capsys.readouterr().out


def test_both_starts_reach_the_solution():
    warm_start = _loaded("warm_start")
    x = np.random.default_rng(0).standard_normal((1, 20, 3))
    C = jnp.full((1, 20), 0.25, jnp.float32)
    K = warm_start.gram_of(x)
    expected = ocsvm_solve(K[0], 0.2)
    own = warm_start.own_start(K, C, C)
    again = warm_start.previous_alpha(K, C, own.alpha)
    for found in (own, again):
        np.testing.assert_allclose(found.alpha[0], expected.alpha, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.rho[0], expected.rho, rtol=1e-5)
    assert again.num_steps[0] == 0


def test_anomalies_are_left_out_until_a_share_is_reached():
    corruption = np.repeat(["stripe", "canny_edges"], 200)
    anomalous = np.tile(np.repeat([False, True], 100), 2)
    rng = np.random.default_rng(0)
    rows = _loaded("domains").with_shares(anomalous, corruption, (0.2, 0.5), rng)
    assert len(set(rows)) == len(rows)
    kept = {name: anomalous[rows][corruption[rows] == name] for name in ("stripe", "canny_edges")}
    # All 100 normal images of each, and 25 and 100 anomalous ones.
    assert [(len(own), own.mean()) for own in kept.values()] == [(125, 0.2), (200, 0.5)]
