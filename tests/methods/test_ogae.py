import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.svm import OneClassSVM
from small import BATCH, LATENT, NETWORK, adam, normal_images, settings, strange_images

from ocsvm_jax.kernels import rbf
from ocsvm_jax.methods import METHODS
from ocsvm_jax.methods.ogae import beta_schedule, last_m_score
from ocsvm_jax.model import ocsvm_fit

LAST_M = 4


def build(**changes):
    method = METHODS["ogae"](NETWORK, optax.sgd(0.5), settings(last_m=LAST_M, **changes))
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


@pytest.fixture(scope="module")
def constant():
    return build(schedule="constant", betas=(1.0, 1.0))


@pytest.mark.parametrize("steps", [1, LAST_M - 1, LAST_M, 2 * LAST_M + 1])
def test_last_m_score_is_the_mean_of_the_last_one_class_svms(constant, steps):
    """Recomputed from the latents of each step by NumPy and LIBSVM; the ring wraps around."""
    method, update = constant
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
    score = last_m_score(state.memory, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(score, -np.mean(decisions, axis=0), rtol=0, atol=2e-5)
    assert state.memory.steps == steps
    model, _ = ocsvm_fit(jnp.asarray(z, jnp.float32), 0.4, rbf(0.1))
    np.testing.assert_allclose(method.score(state, model, queries)["last_m"], score, atol=1e-6)


def test_last_m_score_before_the_first_step(constant):
    state, _ = train(*constant, steps=0)
    score = last_m_score(state.memory, jnp.ones((5, LATENT), jnp.float32))
    np.testing.assert_array_equal(score, np.zeros(5))


def test_gamma_scale_is_remembered_as_a_number():
    method, update = build(gamma="scale", standardize=False)
    state, seen = train(method, update, 2)
    expected = [1 / (LATENT * np.var(latents[: BATCH // 2])) for latents in seen]
    np.testing.assert_allclose(state.memory.entries.gamma[:2], expected, rtol=1e-4)
    # Without standardisation the score has none to undo.
    np.testing.assert_array_equal(state.memory.entries.mean, np.zeros((LAST_M, LATENT)))


def gradient_of_guidance(epoch):
    """By gradient descent with weight 1: difference to the step without guidance, over the rate."""
    start = None
    steps = {}
    for weight in (0.0, 1.0):
        method, update = build(guidance_weight=weight, gamma=0.5)
        start = method.init(normal_images(), jax.random.key(0))
        state, parts = update(start, normal_images(), jnp.int32(epoch))
        steps[weight] = np.asarray(state.params["encoder"]["weights"])
    return (steps[0.0] - steps[1.0]) / 0.5, parts


@pytest.fixture(scope="module")
def gradients():
    """Of the guidance in the encoder's weights, in both phases of a training of 10 epochs."""
    return {epoch: gradient_of_guidance(epoch) for epoch in (0, 4, 5, 9)}


def test_schedule_reaches_the_gradient(gradients):
    for first, second in ((0, 4), (5, 9)):
        np.testing.assert_array_equal(gradients[first][0], gradients[second][0])
    assert [float(gradients[epoch][1]["beta2"]) for epoch in (0, 4, 5, 9)] == [0, 0, 1, 1]
    # The weights of the two routes never change the value.
    losses = {float(parts["loss"]) for _, parts in gradients.values()}
    assert len(losses) == 1


def test_first_phase_leaves_the_second_half_of_the_batch_alone(gradients):
    """With beta2 = 0 the guidance has no gradient through z_L: images there move no weight."""
    expander, parts = gradients[0]
    full, _ = gradients[9]
    assert parts["guidance"] > 0
    assert np.max(np.abs(expander)) > 0
    assert np.max(np.abs(full - expander)) > 0.1 * np.max(np.abs(full))
    # Pixels that are dark in the first half get no gradient, whatever the second half shows there.
    method, update = build(guidance_weight=1.0, gamma=0.5)
    _, plain_update = build(guidance_weight=0.0, gamma=0.5)
    images = normal_images().at[BATCH // 2 :, :, :3].set(0.7).at[: BATCH // 2, :, :3].set(0)
    state = method.init(images, jax.random.key(0))
    rows = np.zeros((28, 28), bool)
    rows[:, :3] = True
    for epoch, moves in ((0, False), (9, True)):
        guided = update(state, images, jnp.int32(epoch))[0].params["encoder"]["weights"]
        unguided = plain_update(state, images, jnp.int32(epoch))[0].params["encoder"]["weights"]
        moved = np.max(np.abs(np.asarray(guided - unguided)[rows.ravel()]))
        assert (moved > 1e-6) == moves


def test_without_guidance_it_is_the_autoencoder():
    images = normal_images()
    plain = METHODS["ae"](NETWORK, adam(1e-2), settings())
    guided = METHODS["ogae"](NETWORK, adam(1e-2), settings(guidance_weight=0.0))
    states = []
    for method in (plain, guided):
        state, update = method.init(images, jax.random.key(0)), jax.jit(method.update)
        for step in range(5):
            state, _ = update(state, normal_images(seed=step), jnp.int32(9))
        states.append(state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "two-phase"}, "beta schedule is 'two-phase'; it must be \"constant\" or"),
        ({"betas": (1.0, -1.0)}, "two finite numbers of at least 0"),
        ({"betas": (1.0,)}, "two finite numbers of at least 0"),
        ({"betas_second": (1.0, np.inf)}, "two finite numbers of at least 0"),
    ],
)
def test_bad_schedules(changes, message):
    with pytest.raises(ValueError, match=message):
        beta_schedule(settings(**changes))
