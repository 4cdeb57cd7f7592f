"""Paths, leave-one-out and model choice against LIBSVM, literal refits and labels."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracles import differences, libsvm

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, laplacian, rbf
from ocsvm_jax.path import (
    batches,
    choose_model,
    leave_one_out,
    mass_volume_area,
    ocsvm_path,
    uniform_in_ball,
    uniform_outlier_error,
)
from ocsvm_jax.solver import Status, ocsvm_solve

N = 30
NUS = jnp.array([0.07, 0.22, 0.5])
GAMMAS = jnp.array([0.5, 3.0])
# Compiling takes longer than running here.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
unseen = quick_jit(leave_one_out)
LIBSVM_NOISE = 2e-7  # LIBSVM keeps K in float32


def crescent(n, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.15 * rng.normal(size=(n, 2))
    return jnp.asarray(libsvm.representable(x))


X, QUERIES = crescent(N), 1.5 * crescent(20, seed=1)


@pytest.fixture
def without_type_checks(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def path():
    return quick_jit(ocsvm_path)(X, NUS, GAMMAS)


def test_every_pair_is_that_of_libsvm(path):
    assert path.alpha.shape == (2, 3, N)
    assert np.all(path.status == Status.CONVERGED)
    K = jax.vmap(lambda gamma: gram(rbf(gamma), QUERIES, X))(GAMMAS)
    f = jax.vmap(jax.vmap(decision_function, in_axes=(0, None)))(path, K)
    for i, gamma in enumerate(GAMMAS.tolist()):
        for j, nu in enumerate(NUS.tolist()):
            expected = libsvm.solve_rbf(X, nu, gamma, QUERIES)
            np.testing.assert_allclose(f[i, j], expected.decision, rtol=0, atol=LIBSVM_NOISE)
            np.testing.assert_allclose(path.rho[i, j], expected.rho, rtol=0, atol=LIBSVM_NOISE)


def test_another_kernel_and_weights():
    w = np.tile([0.0, 1.0, 2.0], N // 3)
    path = ocsvm_path(X, NUS[:1], GAMMAS[1:], kernel=laplacian, sample_weight=jnp.asarray(w))
    K = np.asarray(gram(laplacian(float(GAMMAS[1])), X))
    expected = libsvm.solve(libsvm.representable(K), float(NUS[0]), w)
    np.testing.assert_allclose(path.alpha[0, 0], expected.alpha, rtol=0, atol=1e-6)


@pytest.mark.parametrize("k", [1, 4, 6, 7])
@pytest.mark.parametrize("at_most", [None, 3])
def test_batches_hold_no_more_than_memory(monkeypatch, k, at_most):
    monkeypatch.setattr(batches, "_NUMBERS_AT_ONCE", 4 * 10**2)
    sizes = []

    def run(indices):
        sizes.append(indices.size)
        return {"square": indices**2}

    indices = jnp.arange(k, 0, -1)
    out = batches.map_in_batches(run, indices, num_points=10, at_most=at_most)
    np.testing.assert_array_equal(out["square"], indices**2)
    assert max(sizes) <= (3 if at_most else 4)


# nu (n - 1) a whole number at the second: with a gamma so small no alpha is free there.
@pytest.mark.parametrize(("nu", "gamma"), [(0.15, 3.0), (3 / (N - 1), 1e-3), (0.6, 0.5)])
def test_leave_one_out_is_a_refit_without_the_row(nu, gamma):
    result = unseen(gram(rbf(gamma), X), nu)
    assert np.all(result.status == Status.CONVERGED)
    for i in range(N):
        others = np.delete(np.asarray(X), i, axis=0)
        expected = libsvm.solve_rbf(others, nu, gamma, X[i : i + 1]).decision[0]
        np.testing.assert_allclose(result.decision[i], expected, rtol=0, atol=LIBSVM_NOISE)


def test_leave_one_out_rejects_at_most_the_support_vectors():
    K, nu = gram(rbf(3.0), X), 0.15
    rejected = np.flatnonzero(unseen(K, nu).decision < 0)
    support = np.flatnonzero(libsvm.solve(np.asarray(K), nu * (N - 1) / N).alpha)
    assert 0 < len(rejected) < N
    assert set(rejected) <= set(support)


def test_gradients_of_a_validation_loss():
    """d/dgamma and d/dnu of a smooth loss on held-out points, against central differences."""

    def loss(log_gamma, nu):
        kernel = rbf(jnp.exp(log_gamma))
        f = decision_function(ocsvm_solve(gram(kernel, X), nu), gram(kernel, QUERIES, X))
        return jnp.mean(jax.nn.softplus(-f / 0.05))

    at = jnp.log(2.0), jnp.asarray(0.26)
    compiled = quick_jit(jax.value_and_grad(loss, argnums=(0, 1)))
    actual = compiled(*at)[1]
    by_gamma = differences.directional(lambda h: compiled(at[0] + h, at[1])[0], 1e-5)
    by_nu = differences.directional(lambda h: compiled(at[0], at[1] + h)[0], 1e-5)
    assert abs(by_gamma) > 0.01
    assert abs(by_nu) > 0.01
    np.testing.assert_allclose(actual, [by_gamma, by_nu], rtol=1e-6)


@pytest.fixture(scope="module")
def uniform():
    return uniform_in_ball(X, 500, jax.random.key(0))


def test_gradients_of_the_leave_one_out_criterion(uniform):
    def loss(log_gamma, nu):
        kernel = rbf(jnp.exp(log_gamma))
        K = gram(kernel, X)
        f_uniform = decision_function(ocsvm_solve(K, nu), gram(kernel, uniform, X))
        f_points = leave_one_out(K, nu).decision
        return uniform_outlier_error(f_points, f_uniform, temperature=0.05)

    at = jnp.log(2.0), jnp.asarray(0.26)
    compiled = quick_jit(jax.value_and_grad(loss, argnums=(0, 1)))
    actual = compiled(*at)[1]
    by_gamma = differences.directional(lambda h: compiled(at[0] + h, at[1])[0], 1e-5)
    by_nu = differences.directional(lambda h: compiled(at[0], at[1] + h)[0], 1e-5)
    assert abs(by_gamma) > 1e-3
    np.testing.assert_allclose(actual, [by_gamma, by_nu], rtol=1e-5)


def test_uniform_points_fill_a_ball_around_all_points():
    x = jax.random.normal(jax.random.key(1), (50, 3), jnp.float32)
    u = np.asarray(uniform_in_ball(x, 4000, jax.random.key(2), stretch=1.5))
    assert u.dtype == np.float32
    x = np.asarray(x)
    centre = np.mean(x, axis=0)
    largest = np.max(np.linalg.norm(x - centre, axis=1))
    r = np.linalg.norm(u - centre, axis=1) / (1.5 * largest)
    # The share within r is r^3, the direction is even.
    assert np.max(r) <= 1 + 1e-6
    for radius in (0.5, 0.8):
        share = radius**3
        assert np.mean(r < radius) == pytest.approx(share, abs=4 * np.sqrt(share / 4000))
    np.testing.assert_allclose(np.mean(u - centre, axis=0) / largest, 0, atol=0.05)


def test_uniform_outlier_error_by_hand():
    f_points, f_uniform = jnp.array([-1.0, 0.0, 2.0, 3.0]), jnp.array([-1.0, -2.0, 0.0, -3.0, 1.0])
    assert uniform_outlier_error(f_points, f_uniform) == pytest.approx(0.5 * 1 / 4 + 0.5 * 2 / 5)
    weighted = uniform_outlier_error(f_points, f_uniform, weight=0.1)
    assert weighted == pytest.approx(0.9 * 1 / 4 + 0.1 * 2 / 5)
    # Cold, the smooth steps count, one half where f = 0.
    cold = uniform_outlier_error(f_points, f_uniform, temperature=1e-3)
    assert cold == pytest.approx(0.5 * 1.5 / 4 + 0.5 * 1.5 / 5)


def test_mass_volume_area_by_definition():
    rng = np.random.default_rng(0)
    f_points, f_uniform = rng.normal(size=40) + 1, rng.normal(size=300)
    volumes = []
    for held in range(36, 41):  # 90 % of 40 points, and more
        level = np.sort(f_points)[::-1][held - 1]
        volumes.append(np.mean(f_uniform >= level))
    given = jnp.asarray(f_points), jnp.asarray(f_uniform)
    assert mass_volume_area(*given) == pytest.approx(np.mean(volumes))
    # It ranks: neither the offset nor the scale of f counts.
    other = mass_volume_area(3 * given[0] + 5, 3 * given[1] + 5)
    assert other == pytest.approx(np.mean(volumes))
    smooth = [mass_volume_area(*given, temperature=t) for t in (1e-1, 1e-2, 1e-5)]
    errors = np.abs(np.asarray(smooth) - np.mean(volumes))
    assert errors[2] < errors[0]
    assert errors[2] < 1e-2


def test_the_choice_is_nearly_the_best_by_labels():
    nus, gammas = jnp.array([0.05, 0.3]), jnp.array([0.01, 2.0, 300.0])
    x = crescent(N, seed=3)
    choice = quick_jit(choose_model)(x, nus, gammas, jax.random.key(0))
    # Labels, which the choice does not see: fresh points against uniform ones.
    fresh, outliers = crescent(2000, seed=4), uniform_in_ball(x, 2000, jax.random.key(1))
    errors = np.empty((3, 2))
    for i, gamma in enumerate(gammas.tolist()):
        for j, nu in enumerate(nus.tolist()):
            inside = libsvm.solve_rbf(x, nu, gamma, fresh).decision >= 0
            accepted = libsvm.solve_rbf(x, nu, gamma, outliers).decision >= 0
            errors[i, j] = 0.5 * np.mean(~inside) + 0.5 * np.mean(accepted)
    i, j = gammas.tolist().index(choice.gamma), nus.tolist().index(choice.nu)
    assert errors[i, j] <= np.min(errors) + 0.01
    assert np.max(errors) > np.min(errors) + 0.1
    np.testing.assert_allclose(choice.error, errors, rtol=0, atol=0.15)
    np.testing.assert_allclose(choice.error, 0.5 * (choice.rejected + choice.accepted), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ocsvm_path(X, 0.1, GAMMAS), r"nus has shape \(\); it is a one-dimensional"),
        (lambda: ocsvm_path(X, NUS, jnp.zeros((0,))), r"gammas has shape \(0,\)"),
        (lambda: ocsvm_path(X, [0.1, 1.5], GAMMAS), r"nu is 1.5; it must lie in \(0, 1\]"),
        (lambda: ocsvm_path(X, NUS, [1.0, -2.0]), r"gammas holds -2.0; each must be positive"),
        (lambda: ocsvm_path(X[0], NUS, GAMMAS), r"received \(2,\)"),
        (lambda: leave_one_out(X, 0.1), r"K has shape \(30, 2\); leave_one_out takes"),
        (lambda: leave_one_out(jnp.eye(1), 0.1), "at least 2 points"),
        (lambda: leave_one_out(jnp.eye(3), 0.0), "nu is 0.0"),
        (lambda: leave_one_out(jnp.full((3, 3), jnp.nan), 0.5), "K holds NaN"),
        (lambda: uniform_outlier_error(X[0], X[0], weight=1.0), "weight is 1.0"),
        (lambda: uniform_outlier_error(X[0], X[0], temperature=0.0), "temperature is 0.0"),
        (lambda: mass_volume_area(X[0], X[0], mass=1.0), r"mass is 1.0; it must lie in \[0, 1\)"),
    ],
)
@pytest.mark.usefixtures("without_type_checks")
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
