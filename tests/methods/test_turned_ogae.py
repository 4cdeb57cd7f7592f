import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log1p
from sklearn.svm import OneClassSVM
from support.small import BATCH, NETWORK, built, normal_images

from ocsvm_jax import laplacian
from ocsvm_jax.guidance import guidance_loss, solve_halves
from ocsvm_jax.methods.separation import log_odds_of_anomalies
from ocsvm_jax.methods.turning import half_turn

HALF, D = 6, 3
GUIDANCE = {"nu": 0.4, "gamma": 0.3, "standardize": True, "differentiate_dual": True}


def latents(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2 * HALF, D)), rng.standard_normal((HALF, D)) + 0.5


@jax.jit
def loss(z, z_turned, betas=(1.0, 1.0)):
    halves = solve_halves(z, kernel=None, betas=betas, **GUIDANCE)
    return log_odds_of_anomalies(halves, z_turned)


def test_log_odds_against_libsvm():
    """Recomputed by NumPy from LIBSVM's alpha."""
    z, z_turned = latents()
    z_sv, z_L = z[:HALF], z[HALF:]
    support = (z_sv - z_sv.mean(0)) / (z_sv.std(0) + 1e-6)
    others = (z_L - z_L.mean(0)) / (z_L.std(0) + 1e-6)
    turned = (z_turned - z_L.mean(0)) / (z_L.std(0) + 1e-6)
    svm = OneClassSVM(gamma=0.3, nu=0.4, tol=1e-10).fit(support)

    def expansion(points):
        distances = ((points[:, None] - svm.support_vectors_[None]) ** 2).sum(-1)
        return np.exp(-0.3 * distances) @ svm.dual_coef_[0]

    expected = np.mean(log1p(expansion(turned) / expansion(others)))
    assert float(loss(jnp.asarray(z), jnp.asarray(z_turned))) == pytest.approx(expected, rel=1e-5)


def test_log_odds_of_a_laplacian_kernel():
    """The alpha of the solver, the kernel sums by NumPy."""
    z, z_turned = latents()
    kernel = laplacian(0.3)
    options = GUIDANCE | {"gamma": 0.3}
    halves = solve_halves(jnp.asarray(z), kernel=kernel, betas=(1.0, 1.0), **options)
    turned = (z_turned - z[HALF:].mean(0)) / (z[HALF:].std(0) + 1e-6)

    def expansion(points):
        distances = np.abs(points[:, None] - np.asarray(halves.z_sv)[None]).sum(-1)
        return np.exp(-0.3 * distances) @ np.asarray(halves.solution.alpha)

    expected = np.mean(log1p(expansion(turned) / expansion(np.asarray(halves.z_L))))
    found = log_odds_of_anomalies(halves, jnp.asarray(z_turned))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_gradient_against_central_differences():
    z, z_turned = map(jnp.asarray, latents())
    gradients = jax.jit(jax.grad(loss, (0, 1)))(z, z_turned)
    rng = np.random.default_rng(1)
    step = 1e-6
    for which, gradient in enumerate(gradients):
        for _ in range(3):
            direction = jnp.asarray(rng.standard_normal(gradient.shape))
            moved = [
                loss(
                    *(
                        p + sign * step * direction if i == which else p
                        for i, p in enumerate((z, z_turned))
                    )
                )
                for sign in (1, -1)
            ]
            slope = (moved[0] - moved[1]) / (2 * step)
            np.testing.assert_allclose(jnp.sum(gradient * direction), slope, rtol=1e-5)


def test_betas_weigh_the_gradients_of_the_halves():
    z, z_turned = map(jnp.asarray, latents())
    gradient = jax.jit(jax.grad(loss))
    full, half = (gradient(z, z_turned, betas) for betas in ((1.0, 1.0), (0.5, 0.0)))
    np.testing.assert_allclose(half[:HALF], 0.5 * full[:HALF], rtol=1e-9)
    # The statistics of z_L, by which the turned latents are standardised, have its weight too.
    np.testing.assert_array_equal(half[HALF:], np.zeros((HALF, D)))


def test_finite_where_every_kernel_underflows():
    z, z_turned = map(jnp.asarray, latents())
    value, gradient = jax.jit(jax.value_and_grad(loss, 1))(z, z_turned + 1e3)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_halves_are_those_of_the_guidance():
    z, _ = map(jnp.asarray, latents())

    @jax.jit
    def both(z):
        _, aux = guidance_loss(z, betas=(1.0, 1.0), **GUIDANCE)
        halves = solve_halves(z, kernel=None, betas=(1.0, 1.0), **GUIDANCE)
        return (aux.z_sv, halves.z_sv), (aux.solution.alpha, halves.solution.alpha)

    for one, other in both(z):
        np.testing.assert_array_equal(one, other)


def states(name, steps=4, **changes):
    method = built(name, NETWORK, optax.sgd(0.5), **changes)
    update = jax.jit(method.update)
    state = method.init(normal_images(), jax.random.key(0))
    for step in range(steps):
        state, _ = update(state, normal_images(seed=step), jnp.int32(9))
    return method, state


def test_without_its_own_parts_it_is_ogae():
    """On a network without batch statistics, where the turned images can not act on the others."""
    _, ours = states("turned_ogae", turned_weight=0.0, stretch=False)
    _, theirs = states("ogae")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours.params, theirs.params
    )


def test_stretched_images_are_all_it_sees():
    method, state = states("turned_ogae", steps=0, stretch=True)
    images = normal_images(seed=5)
    dimmed = 0.2 + 0.5 * images
    np.testing.assert_allclose(
        method.encode(state, images), method.encode(state, dimmed), rtol=1e-4, atol=1e-5
    )
    for name, score in method.score(state, images).items():
        np.testing.assert_allclose(
            score.values, method.score(state, dimmed)[name].values, rtol=1e-3, atol=1e-5
        )


def test_training_makes_the_turned_images_less_likely():
    """Noise, a little brighter above than below: at first the two are hardly told apart."""
    noise = np.random.default_rng(0).uniform(0, 1, (BATCH, 28, 28, 1))
    images = jnp.asarray(noise + 0.1 * (np.arange(28) < 14)[None, :, None, None], jnp.float32)
    method = built("turned_ogae", NETWORK, optax.sgd(0.1), turned_weight=1.0, guidance_weight=0.0)
    update = jax.jit(method.update)
    state = method.init(images, jax.random.key(0))
    turned = []
    for _ in range(40):
        state, parts = update(state, images, jnp.int32(9))
        turned.append(float(parts["turned"]))
    assert turned[0] > 0.1
    assert turned[-1] < 0.5 * turned[0]
    z, z_turned = (method.encode(state, x) for x in (images, half_turn(images)))
    assert float(jnp.min(jnp.sum((z_turned - z) ** 2, axis=1))) > 0


def test_gamma_must_be_a_number():
    with pytest.raises(ValueError, match=r"^gamma is 'scale'; turned_ogae needs a number"):
        built("turned_ogae", NETWORK, optax.sgd(0.5), gamma="scale")
