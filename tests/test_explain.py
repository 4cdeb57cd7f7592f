from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.integrate import quad_vec

from ocsvm_jax.explain import contributions, decision_gradient, integrated_gradients
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import (
    Precomputed,
    gram,
    laplacian,
    linear,
    polynomial,
    rbf,
    scaled,
    sigmoid,
)
from ocsvm_jax.model import OCSVM

M, B, DIMENSION = 12, 5, 3
GAMMA = 0.5


def points(n, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, DIMENSION)), dtype)


def own_kernel(a, b):
    return 1 / (1 + jnp.sum((a - b) ** 2))


KERNELS = {
    "rbf": rbf(GAMMA),
    "laplacian": laplacian(0.5),
    "linear": linear(),
    "polynomial": polynomial(3, 0.3, 1),
    "sigmoid": sigmoid(0.1, -0.2),
    "scaled": scaled(rbf(0.5), jnp.array([0.5, 1.0, 2.0])),
    "of one's own": Partial(own_kernel),
}
X, BASELINE = points(B, seed=1), points(1, seed=3)[0]


def model_of(kernel):
    """As a fit would leave it, without its time."""
    weights = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(M)))
    return OCSVM(points(M), weights, jnp.asarray(0.2), kernel)


@pytest.fixture(scope="module")
def fitted():
    return ocsvm_fit(points(50), 0.3, rbf(GAMMA))


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def rbf_gradient(model, x):
    """Of each row, from the formula: -2 gamma sum_j alpha_j k(z_j, x) (x - z_j)."""
    z, alpha = np.asarray(model.support_vectors), np.asarray(model.coefficients)
    difference = np.asarray(x)[:, None, :] - z[None, :, :]
    K = np.exp(-GAMMA * np.sum(difference**2, axis=-1))
    return -2 * GAMMA * np.einsum("bm,m,bmd->bd", K, alpha, difference)


def central_differences(function, x, step=1e-5):
    """Of a function of rows, in all entries of every row at once."""
    rows = np.asarray(x).reshape(len(x), -1)
    slopes = np.empty_like(rows)
    for entry in range(rows.shape[1]):
        shift = np.zeros_like(rows)
        shift[:, entry] = step
        above, below = (jnp.asarray((rows + s).reshape(x.shape)) for s in (shift, -shift))
        slopes[:, entry] = (function(above) - function(below)) / (2 * step)
    return slopes.reshape(x.shape)


def encoder(images):
    """(b, 4, 4, 1) -> (b, 3), with a curvature."""
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(16, DIMENSION))) / 4
    return jnp.tanh(images.reshape(images.shape[0], 16) @ weights)


IMAGES = jnp.asarray(np.random.default_rng(5).uniform(size=(B, 4, 4, 1)))


def test_the_gradient_of_a_linear_model_is_its_weight_vector():
    model = model_of(linear())
    weights = np.asarray(model.coefficients) @ np.asarray(model.support_vectors)
    gradient = decision_gradient(model, X)
    np.testing.assert_allclose(gradient, np.tile(weights, (B, 1)), rtol=1e-13)


def test_the_gradient_of_an_rbf_model():
    model = model_of(rbf(GAMMA))
    np.testing.assert_allclose(decision_gradient(model, X), rbf_gradient(model, X), rtol=1e-12)


@pytest.mark.parametrize("name", KERNELS)
def test_the_gradient_against_central_differences(name):
    model = model_of(KERNELS[name])
    expected = central_differences(model.decision_function, X)
    np.testing.assert_allclose(decision_gradient(model, X), expected, rtol=0, atol=1e-9)


def test_a_step_along_the_gradient_makes_a_point_more_normal(fitted):
    """The sign: f is positive inside."""
    step = 1e-3 * decision_gradient(fitted, 3 * X)
    assert np.all(fitted.decision_function(3 * X + step) > fitted.decision_function(3 * X))


def test_the_saliency_map_of_images():
    model = model_of(rbf(GAMMA))
    saliency = decision_gradient(model, IMAGES, encoder)
    assert saliency.shape == IMAGES.shape
    expected = central_differences(lambda x: model.decision_function(encoder(x)), IMAGES)
    np.testing.assert_allclose(saliency, expected, rtol=0, atol=1e-9)


def test_on_a_kink_the_gradient_is_that_of_one_side():
    model = model_of(laplacian(0.5))
    x = X.at[0, 1].set(model.support_vectors[4, 1])
    step = 1e-7
    f, after, before = (
        float(model.decision_function(x.at[0, 1].add(s))[0]) for s in (0, step, -step)
    )
    slope = float(decision_gradient(model, x)[0, 1])
    errors = sorted([abs(slope - (after - f) / step), abs(slope - (f - before) / step)])
    assert errors[0] < 1e-6 < 1e-3 < errors[1]


@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"laplacian"}))
def test_attributions_are_complete(name):
    model = model_of(KERNELS[name])
    values, residual = integrated_gradients(model, X, BASELINE)
    change = model.decision_function(X) - model.decision_function(BASELINE[None])
    np.testing.assert_allclose(np.sum(values, axis=1), change, rtol=0, atol=1e-10)
    np.testing.assert_allclose(residual, 0, rtol=0, atol=1e-10)


def test_what_the_quadrature_misses_is_said():
    """Kinks, and a kernel too narrow for two nodes; more nodes miss less."""
    for kernel in (laplacian(0.5), rbf(3.0)):
        model = model_of(kernel)
        change = model.decision_function(X) - model.decision_function(BASELINE[None])
        missed = []
        for num_steps in (2, 100):
            values, residual = integrated_gradients(model, X, BASELINE, num_steps=num_steps)
            total = np.sum(values, axis=1) + residual
            np.testing.assert_allclose(total, change, rtol=0, atol=1e-14)
            missed.append(np.max(np.abs(residual)))
        assert missed[0] > 1e-2 * np.max(np.abs(change))
        assert missed[1] < 0.1 * missed[0]


def test_attributions_of_a_linear_model():
    """w_i (x_i - baseline_i), whatever the path."""
    model = model_of(linear())
    weights = np.asarray(model.coefficients) @ np.asarray(model.support_vectors)
    values, _ = integrated_gradients(model, X, BASELINE, num_steps=1)
    np.testing.assert_allclose(values, weights[None, :] * (X - BASELINE[None]), rtol=1e-12)


def test_attributions_are_the_integral_along_the_line():
    model = model_of(rbf(GAMMA))
    x, start = np.asarray(X), np.asarray(BASELINE)
    integral, _ = quad_vec(lambda t: rbf_gradient(model, start + t * (x - start)), 0, 1)
    expected = (x - start) * integral
    values, _ = integrated_gradients(model, X, BASELINE)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)


def test_inputs_that_play_no_part_get_nothing():
    model = model_of(scaled(rbf(GAMMA), jnp.array([1.0, jnp.inf, 1.0])))  # blind to the second
    x = X.at[:, 2].set(BASELINE[2])
    values, _ = integrated_gradients(model, x, BASELINE)
    np.testing.assert_array_equal(values[:, 1:], 0)
    assert np.all(values[:, 0] != 0)


def test_attributions_of_images():
    model, black = model_of(rbf(GAMMA)), jnp.zeros((4, 4, 1))
    values, residual = integrated_gradients(model, IMAGES, black, encoder)
    assert values.shape == IMAGES.shape
    f = model.decision_function(encoder(IMAGES)) - model.decision_function(encoder(black[None]))
    np.testing.assert_allclose(np.sum(values, axis=(1, 2, 3)), f, rtol=0, atol=1e-10)
    np.testing.assert_allclose(residual, 0, atol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("k", [1, 4, M])
def test_contributions_add_up_to_f(name, k):
    model = model_of(KERNELS[name])
    found = contributions(model, X, k)
    assert found.support.shape == found.values.shape == (B, k)
    f = np.sum(found.values, axis=1) + found.rest - model.rho
    np.testing.assert_allclose(f, model.decision_function(X), rtol=0, atol=1e-14)
    # Each from the kernel of one pair; sigmoid and linear have negative terms, too.
    of_pair = jax.vmap(jax.vmap(KERNELS[name], (0, None)), (None, 0))
    terms = np.asarray(of_pair(model.support_vectors, X)) * np.asarray(model.coefficients)
    order = np.argsort(-terms, axis=1)[:, :k]
    np.testing.assert_array_equal(found.support, order)
    np.testing.assert_allclose(
        found.values, np.take_along_axis(terms, order, axis=1), rtol=0, atol=1e-14
    )
    if k == M:
        np.testing.assert_array_equal(found.rest, 0)


def test_contributions_name_the_points_fitted(fitted):
    """By the points themselves, and the same for the Gram matrix in their place."""
    x = points(50)
    found = contributions(fitted, X, 3)
    np.testing.assert_array_equal(x[found.rows], fitted.support_vectors[found.support])
    rows = fitted.info.support[:, None]
    of_matrix = OCSVM(rows, fitted.coefficients, fitted.rho, Precomputed(50))
    same = contributions(of_matrix.with_info(fitted.info), gram(rbf(GAMMA), X, x), 3)
    np.testing.assert_array_equal(same.rows, found.rows)
    np.testing.assert_allclose(same.values, found.values, rtol=0, atol=1e-15)
    assert contributions(fitted.with_info(None), X, 3).rows is None


def test_under_jit():
    model = model_of(rbf(GAMMA))
    for function in (
        decision_gradient,
        partial(integrated_gradients, baseline=BASELINE),
        partial(contributions, k=3),
    ):
        jitted, plain = jax.jit(function)(model, X), function(model, X)
        for one, other in zip(jax.tree.leaves(jitted), jax.tree.leaves(plain), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)


def test_the_dtype_is_that_of_the_points():
    model = model_of(rbf(GAMMA))
    x, baseline = X.astype(np.float32), BASELINE.astype(np.float32)
    assert decision_gradient(model, x).dtype == np.float32
    values, residual = integrated_gradients(model, x, baseline)
    assert values.dtype == residual.dtype == np.float32
    np.testing.assert_allclose(decision_gradient(model, x), rbf_gradient(model, x), atol=1e-6)


EXPLANATIONS = {
    "gradient": decision_gradient,
    "integrated": partial(integrated_gradients, baseline=BASELINE),
    "contributions": partial(contributions, k=2),
}


@pytest.mark.parametrize("name", EXPLANATIONS)
@pytest.mark.usefixtures("as_a_user_calls")
def test_bad_points_and_models(name):
    explain, model = EXPLANATIONS[name], model_of(rbf(GAMMA))
    with pytest.raises(ValueError, match="x holds NaN or infinite values"):
        explain(model, X.at[0, 0].set(np.nan))
    wrong = r"baseline has shape" if name == "integrated" else r"\(5, 4\)"
    with pytest.raises(ValueError, match=wrong):
        explain(model, np.ones((B, 4)))
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), model)
    with pytest.raises(ValueError, match=r"rho has shape \(2,\): this is a stack of models"):
        explain(stack, X)


@pytest.mark.usefixtures("as_a_user_calls")
def test_bad_arguments():
    model = model_of(rbf(GAMMA))
    for k in (0, M + 1):
        with pytest.raises(ValueError, match=f"k is {k}; the model has 12 support vectors"):
            contributions(model, X, k)
    with pytest.raises(ValueError, match="num_steps is 0; it must be at least 1"):
        integrated_gradients(model, X, BASELINE, num_steps=0)
    with pytest.raises(ValueError, match=r"baseline has shape \(5, 3\); .*row of x, \(3,\)"):
        integrated_gradients(model, X, X)
    with pytest.raises(ValueError, match="baseline holds NaN"):
        integrated_gradients(model, X, BASELINE.at[0].set(np.nan))
    with pytest.raises(ValueError, match=r"encoder maps \(5, 3\) to \(5,\); .*latents \(5, 3\)"):
        decision_gradient(model, X, lambda x: x[:, 0])


@pytest.mark.usefixtures("as_a_user_calls")
def test_a_precomputed_kernel_has_no_gradient():
    model = OCSVM(jnp.arange(3)[:, None], jnp.ones(3) / 3, jnp.asarray(0.1), Precomputed(7))
    for explain in (EXPLANATIONS["gradient"], EXPLANATIONS["integrated"]):
        with pytest.raises(ValueError, match="f is not a function of points"):
            explain(model, X)
    with pytest.raises(ValueError, match=r"x has shape \(5, 3\).*all 7 points of the fit"):
        contributions(model, X, 2)
