"""Edited OgAE: its loss recomputed, its draws, and what it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log1p
from sklearn.svm import OneClassSVM
from support.small import BATCH, NETWORK, built, decodings, encodings, normal_images, squared_errors

from ocsvm_jax.methods.edits import EDITS, edited
from ocsvm_jax.methods.noise import key_of_step

HALF = BATCH // 2


def parts_of(images, edits, params, gamma=0.1, nu=0.4):
    """Reconstruction error and log-odds of the edits by NumPy and LIBSVM, without convolutions."""
    z = encodings(params["encoder"], images)
    error = np.mean(squared_errors(images, decodings(params["decoder"], z)))
    mean, std = z[HALF:].mean(0), z[HALF:].std(0) + 1e-6
    support = (z[:HALF] - z[:HALF].mean(0)) / (z[:HALF].std(0) + 1e-6)
    svm = OneClassSVM(gamma=gamma, nu=nu, tol=1e-12).fit(support)

    def expansion(points):
        scaled = (points - mean) / std
        distances = np.sum((scaled[:, None] - svm.support_vectors_[None]) ** 2, axis=-1)
        return np.exp(-gamma * distances) @ svm.dual_coef_[0]

    own = expansion(z[HALF:])
    odds = [log1p(expansion(encodings(params["encoder"], x)) / own) for x in edits]
    return error, np.mean(odds)


def test_the_loss_of_held_out_images():
    names = ("erased", "bent")
    method = built(
        "edited_ogae", NETWORK, optax.sgd(0.1), edits=names, convolved=0.0, stretch=False,
        edited_weight=0.3, guidance_weight=0.0,
    )  # fmt: skip
    images = normal_images(seed=2)
    state = method.init(images, jax.random.key(0))
    _, edit_key = jax.random.split(jax.random.key(0))
    edits = edited(images[HALF:], edit_key, names)
    error, odds = parts_of(images, edits, state.params)
    assert odds > 0.1
    assert float(method.loss(state, images)) == pytest.approx(error + 0.3 * odds, rel=1e-4)
    assert float(method.loss(state, images)) == float(method.loss(state, images))


def test_a_step_draws_by_the_key_in_its_memory():
    method = built(
        "edited_ogae", NETWORK, optax.sgd(0.0), edits=("pasted",), convolved=0.0, stretch=False
    )
    images = normal_images(seed=2)
    update = jax.jit(method.update)
    start = method.init(images, jax.random.key(0))
    state, found = start, []
    for _ in range(3):
        _, edit_key = jax.random.split(key_of_step(state.memory.noise))
        expected = parts_of(images, edited(images[HALF:], edit_key, ("pasted",)), state.params)
        state, parts = update(state, images, jnp.int32(0))
        assert float(parts["reconstruction"]) == pytest.approx(expected[0], rel=1e-4)
        assert float(parts["edited"]) == pytest.approx(expected[1], rel=1e-4)
        found.append(float(parts["edited"]))
    assert len(set(found)) == 3
    again, other = (method.init(images, jax.random.key(k)).memory.noise for k in (0, 1))
    np.testing.assert_array_equal(again, start.memory.noise)
    assert np.any(other != again)


def test_the_decoder_sees_images_before_the_convolution():
    """A decoder that is constant: its error is that of the images, whatever was convolved."""
    method = built("edited_ogae", NETWORK, optax.sgd(0.0), convolved=1.0, stretch=False)
    images = normal_images(seed=2)
    state = method.init(images, jax.random.key(0))
    decoder = jax.tree.map(jnp.zeros_like, state.params["decoder"])
    state = state._replace(params=state.params | {"decoder": decoder})
    _, parts = jax.jit(method.update)(state, images, jnp.int32(0))
    expected = np.mean((np.asarray(images, np.float64) - 0.5) ** 2)
    assert float(parts["reconstruction"]) == pytest.approx(expected, rel=1e-5)


def test_training_tells_images_from_edited_ones():
    """Of other images and other draws than it was trained on, with all edits."""
    method = built(
        "edited_ogae", NETWORK, optax.sgd(0.3), edits=tuple(EDITS), edited_weight=1.0, nu=0.1
    )
    update = jax.jit(method.update)
    state = start = method.init(normal_images(), jax.random.key(0))
    for step in range(60):
        state, _ = update(state, normal_images(seed=step), jnp.int32(0))
    new = normal_images(24, seed=1000)
    anomalies = jnp.concatenate(edited(new, jax.random.key(7), ("erased", "permuted", "pasted")))

    def auroc(state):
        svm = OneClassSVM(gamma=0.1, nu=0.1).fit(method.encode(state, normal_images(48, seed=999)))
        score = lambda x: -svm.decision_function(method.encode(state, x))  # noqa: E731
        return np.mean(score(new)[:, None] < score(anomalies)[None])

    assert auroc(state) > auroc(start) + 0.05
    assert auroc(state) > 0.7
