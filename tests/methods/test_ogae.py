import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from sklearn.svm import OneClassSVM
from support.small import BATCH, LATENT, NETWORK, built, normal_images, strange_images, total

from ocsvm_jax.methods.ring import last_m_score

LAST_M, RATE = 4, 0.5


@functools.cache
def build(**changes):
    """The method and its compiled update, once for all tests."""
    method = built("ogae", NETWORK, optax.sgd(RATE), last_m=LAST_M, **changes)
    return method, jax.jit(method.update)


def train(method, update, steps, epoch=0):
    """The state after some steps and, of each step, the latents it saw."""
    state = method.init(normal_images(), jax.random.key(0))
    seen = []
    for step in range(steps):
        images = normal_images(seed=step)
        seen.append(np.asarray(method.encode(state, images), np.float64))
        state, _ = update(state, images, jnp.int32(epoch))
    return state, seen


@pytest.mark.parametrize("steps", [1, LAST_M - 1, LAST_M, 2 * LAST_M + 1])
def test_last_m_score_is_the_mean_of_the_last_one_class_svms(steps):
    """Recomputed from the latents of each step by NumPy and LIBSVM; the ring wraps around."""
    method, update = build()
    state, seen = train(method, update, steps)
    queries = jnp.concatenate([normal_images(seed=99), strange_images()])
    z = np.asarray(method.encode(state, queries), np.float64)
    decisions = []
    for latents in seen[-LAST_M:]:
        z_sv = latents[: BATCH // 2]
        mean, std = z_sv.mean(axis=0), z_sv.std(axis=0) + 1e-6
        # The authors' scale, sum(alpha) = 1; LIBSVM's is nu * n.
        reference = OneClassSVM(gamma=0.1, nu=0.4, tol=1e-10).fit((z_sv - mean) / std)
        decisions.append(reference.decision_function((z - mean) / std) / (0.4 * len(z_sv)))
    score = total(last_m_score(state.memory, jnp.asarray(z, jnp.float32)))
    np.testing.assert_allclose(score, -np.mean(decisions, axis=0), rtol=0, atol=2e-5)
    assert state.memory.steps == steps
    from_images = total(method.score(state, queries)["last_m"])
    np.testing.assert_allclose(from_images, score, atol=1e-6)


def test_last_m_score_before_the_first_step():
    state, _ = train(*build(), steps=0)
    score = total(last_m_score(state.memory, jnp.ones((5, LATENT), jnp.float32)))
    np.testing.assert_array_equal(score, np.zeros(5))


def test_gamma_scale_is_remembered_as_a_number():
    method, update = build(gamma="scale", standardize=False)
    state, seen = train(method, update, 2)
    expected = [1 / (LATENT * np.var(latents[: BATCH // 2])) for latents in seen]
    np.testing.assert_allclose(state.memory.entries.gamma[:2], expected, rtol=1e-4)
    # Without standardisation the score has none to undo.
    np.testing.assert_array_equal(state.memory.entries.mean, np.zeros((LAST_M, LATENT)))


GUIDED, UNGUIDED = {"guidance_weight": 1.0, "gamma": 0.5}, {"guidance_weight": 0.0, "gamma": 0.5}


def guidance_gradient(images, epoch):
    """The guidance's in the encoder's weights: the difference of two steps of gradient descent."""
    weights = []
    for changes in (UNGUIDED, GUIDED):
        method, update = build(**changes)
        state, parts = update(method.init(images, jax.random.key(0)), images, jnp.int32(epoch))
        weights.append(np.asarray(state.params["encoder"]["weights"]))
    return (weights[0] - weights[1]) / RATE, parts


def test_schedule_reaches_the_gradient():
    """Of 10 epochs, the first five move the boundary alone, the others the points as well."""
    found = {epoch: guidance_gradient(normal_images(), epoch) for epoch in (0, 4, 5, 9)}
    np.testing.assert_array_equal(found[0][0], found[4][0])
    np.testing.assert_array_equal(found[5][0], found[9][0])
    assert np.max(np.abs(found[0][0])) > 0
    assert np.max(np.abs(found[9][0] - found[0][0])) > 0.1 * np.max(np.abs(found[9][0]))
    assert [float(parts["beta1"]) for _, parts in found.values()] == [1, 1, 1, 1]
    assert [float(parts["beta2"]) for _, parts in found.values()] == [0, 0, 1, 1]
    # The weights of the two routes never change the value.
    assert len({float(parts["loss"]) for _, parts in found.values()}) == 1
    assert found[0][1]["guidance"] > 0


@pytest.mark.parametrize(("epoch", "half_moves"), [(0, False), (9, True)])
def test_first_phase_has_no_gradient_through_the_second_half(epoch, half_moves):
    """Rows that only the second half lights up belong to weights that only z_L depends on."""
    rows = np.zeros((28, 28), bool)
    rows[:3] = True
    # Of various strength: what all z_L have in common, the standardisation takes out.
    strength = jnp.linspace(0, 1, BATCH // 2, dtype=jnp.float32)[:, None, None, None]
    images = normal_images().at[BATCH // 2 :, :3].set(strength)
    assert not np.any(images[: BATCH // 2, :3])
    gradient, parts = guidance_gradient(images, epoch)
    assert parts["guidance"] > 0
    assert (np.max(np.abs(gradient[rows.ravel()])) > 1e-5) == half_moves


def test_without_guidance_it_is_the_autoencoder():
    images = normal_images()
    plain = built("ae", NETWORK, optax.sgd(RATE))
    states = []
    for method, update in ((plain, jax.jit(plain.update)), build(**UNGUIDED)):
        state = method.init(images, jax.random.key(0))
        for step in range(5):
            state, _ = update(state, normal_images(seed=step), jnp.int32(9))
        states.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "two-phase"}, r"^schedule is 'two-phase'; it is one of .* mean 'two_phase'"),
        ({"betas": 1.0}, r"^betas is 1\.0; it must be two finite"),
        ({"betas": (1.0, -1.0)}, "two finite numbers of at least 0"),
        ({"betas": (1.0,)}, "two finite numbers of at least 0"),
        ({"betas_second": (1.0, np.inf)}, "two finite numbers of at least 0"),
    ],
)
def test_bad_schedules(monkeypatch, changes, message):
    # Outside of this suite nobody checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        built("ogae", NETWORK, optax.sgd(RATE), **changes)
