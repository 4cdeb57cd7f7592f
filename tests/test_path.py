"""Paths, leave-one-out and model choice against LIBSVM, literal refits and labels."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracles import differences, libsvm
from sklearn.metrics import roc_auc_score

from ocsvm_jax import OCSVM, ocsvm_fit
from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, laplacian, rbf
from ocsvm_jax.path import (
    batches,
    choose_model,
    finest_gamma,
    leave_folds_out,
    leave_one_out,
    mass_volume_area,
    ocsvm_ensemble,
    ocsvm_path,
    robust_defaults,
    rows,
    uniform_in_ball,
    uniform_outlier_error,
)
from ocsvm_jax.solver import Status, ocsvm_solve

N = 30
NUS = jnp.array([0.07, 0.22, 0.5])
GAMMAS = jnp.array([0.5, 3.0])
# Compiling takes longer than running here.
unseen = jax.jit(leave_one_out)
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
    return jax.jit(ocsvm_path)(X, NUS, GAMMAS)


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
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
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
    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
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


def test_the_finest_gamma_by_hand():
    gammas = np.array([1.0, 10.0, 100.0, 1000.0])
    # Half way between .55 and .65, on a logarithmic scale.
    assert finest_gamma(gammas, np.array([0.5, 0.55, 0.65, 1.0]), 0.6) == (
        pytest.approx(10**1.5),
        True,
    )
    # The last crossing counts, and NaN is too many.
    several = np.array([0.65, 0.5, np.nan, 1.0])
    assert finest_gamma(gammas, several, 0.6) == (10.0, True)
    assert finest_gamma(gammas, np.full(4, 0.7), 0.6) == (1.0, False)
    assert finest_gamma(gammas, np.full(4, 0.5), 0.6) == (1000.0, False)


def test_folds_are_refits_without_their_points():
    w = np.tile([1.0, 1.0, 2.0], N // 3)
    fold, nu, gamma = np.arange(N) % 3, 0.4, 3.0
    result = jax.jit(leave_folds_out, static_argnums=3)(
        gram(rbf(gamma), X), nu, jnp.asarray(fold), 3, sample_weight=jnp.asarray(w)
    )
    assert np.all(result.status == Status.CONVERGED)
    K = libsvm.representable(np.asarray(gram(rbf(gamma), X)))
    for k in range(3):
        others = fold != k
        solved = libsvm.solve(K[np.ix_(others, others)], nu, w[others])
        expected = K[np.ix_(~others, others)] @ solved.alpha - solved.rho
        np.testing.assert_allclose(result.decision[~others], expected, rtol=0, atol=1e-6)


def anisotropic(n, d, seed=0):
    """Three groups of unlike covariance in d dimensions, embedded in 20; and anomalies."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, d)) * 2
    roots = rng.normal(size=(3, d, d)) * np.geomspace(1, 0.1, d) / np.sqrt(d)
    group = rng.integers(3, size=n)
    x = centres[group] + np.einsum("nij,nj->ni", roots[group], rng.normal(size=(n, d)))
    far = x[rng.integers(n, size=n // 2)] + rng.normal(size=(n // 2, d)) * 0.7
    # Columns of zeros change no distance, and every d runs the same program.
    return tuple(np.pad(part, ((0, 0), (0, 20 - d))) for part in (x, far))


@pytest.mark.parametrize("d", [2, 4, 8, 20])
def test_the_choice_ranks_better_than_most_of_its_grid(d):
    normal, anomalies = anisotropic(400, d)
    x, tests = normal[:80], np.concatenate([normal[80:], anomalies])
    y = np.arange(len(tests)) >= 320
    nus, gammas = [0.02, 0.1, 0.5], [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    choice = choose_model(x, nus, gammas, gamma_unit="scale")
    np.testing.assert_allclose(choice.gammas, np.asarray(gammas) / (20 * np.var(x)), rtol=1e-12)
    scores = np.empty((6, 3))
    for i, gamma in enumerate(choice.gammas):
        for j, nu in enumerate(nus):
            scores[i, j] = roc_auc_score(y, -libsvm.solve_rbf(x, nu, gamma, tests).decision)
    chosen = scores[list(choice.gammas).index(choice.gamma), nus.index(choice.nu)]
    assert np.max(scores) - np.median(scores) > 0.02
    assert chosen > 0.5 * (np.median(scores) + np.max(scores))


def test_the_choice_counts_as_libsvm_does():
    x = anisotropic(80, 4)[0]
    choice = choose_model(x, gammas=[0.1, 0.5, 2.0, 500.0], key=jax.random.key(3))
    fold = rows.deal(x, 5, jax.random.split(jax.random.key(3))[1])
    assert np.all(np.bincount(fold) == 16)
    for gamma, rejected in zip(choice.gammas[:3], choice.rejected[:3], strict=True):
        outside = 0
        for k in range(5):
            f = libsvm.solve_rbf(x[fold != k], 0.5, gamma, x[fold == k]).decision
            outside += np.sum(f < 0)
        assert rejected == pytest.approx(outside / 80)
    assert 0.45 < choice.coarsest < 0.6
    assert choice.limit == pytest.approx(1 - 0.8 * (1 - max(choice.coarsest, 0.5)))
    # No need to look at kernels finer than that.
    assert choice.rejected[3] > 0.8 or np.isnan(choice.rejected[3])
    assert (choice.nu, choice.num_points) == (0.5, 80)
    assert choice.inside
    assert choice.gammas[0] < choice.crossing < choice.gammas[3]


def test_weights_of_a_choice_are_repetitions():
    x = anisotropic(80, 4)[0]
    x[1] = x[0]  # repetitions of the shapes in use: 70 rows, ten of them twice
    w = np.where(np.arange(80) < 70, 1.0, 0.0) + (np.arange(80) < 10)
    x[70:] = 1e20
    repeated = np.concatenate([x[:70], x[:10]])
    weighted = choose_model(x, sample_weight=1e-200 * w)
    assert robust_defaults(x, w) == pytest.approx(robust_defaults(repeated))
    expected = choose_model(repeated)
    np.testing.assert_allclose(weighted.gammas, expected.gammas, rtol=1e-12)
    np.testing.assert_allclose(weighted.rejected, expected.rejected, rtol=0, atol=1e-12)
    assert weighted.gamma == expected.gamma


def test_the_robust_gamma_by_definition():
    x = anisotropic(80, 3)[0]
    x[:25] = x[0]  # more copies than a fifth: the nearest different point counts
    squares = np.sum((x[:, None] - x[None]) ** 2, axis=2)
    reach = []
    for row in squares:
        fifth = np.sort(row)[79 // 5]  # the 16th smallest of 80, itself the first
        reach.append(fifth if fifth > 0 else np.min(row[row > 0]))
    nu, gamma = robust_defaults(x)
    assert nu == 0.5
    assert gamma == pytest.approx(1 / np.sort(reach)[39])
    assert robust_defaults(100 * x + 1e6).gamma == pytest.approx(gamma / 1e4, rel=1e-6)
    # One far value moves "scale" by orders of magnitude.
    far = np.concatenate([x, np.full((1, 20), 1e6)])
    assert robust_defaults(far).gamma == pytest.approx(gamma, rel=0.5)
    assert robust_defaults(x, max_points=40).gamma == pytest.approx(gamma, rel=0.5)
    assert isinstance(ocsvm_fit(x, **robust_defaults(x)._asdict()), OCSVM)


def test_more_points_than_looked_at():
    x = anisotropic(300, 4)[0]
    few, many = (
        choose_model(x, max_points=80),
        choose_model(x, max_points=80, key=jax.random.key(1)),
    )
    assert few.num_points == 80
    assert np.any(few.rejected != many.rejected)
    assert few.crossing == pytest.approx(many.crossing, rel=1)


def test_progress_is_told():
    told = []
    choice = choose_model(anisotropic(80, 4)[0], callback=told.append)
    looked_at = np.sum(~np.isnan(choice.rejected))
    assert [p.done for p in told] == list(range(1, looked_at + 1))
    assert all(p.seconds_left >= 0 for p in told)
    assert told[-1].seconds_left == 0
    assert told[-1].done == told[-1].total
    assert "1 of 13 in" in str(told[0])
    assert "s left: gamma" in str(told[0])

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        choose_model(anisotropic(80, 4)[0], callback=stop)


@pytest.fixture(scope="module")
def ensemble():
    told = []
    out = ocsvm_ensemble(anisotropic(80, 4)[0], [0.2, 1.0], nu=0.4, callback=told.append)
    assert [p.done for p in told] == list(range(1, 13))
    return out


def test_an_ensemble_is_the_mean_of_the_logarithms(ensemble):
    x, tests = anisotropic(80, 4)
    expected = []
    for gamma in (0.2, 1.0):
        solved = libsvm.solve_rbf(x, 0.4, gamma, tests)
        expected.append(np.log(solved.decision + solved.rho))
    actual = ensemble.score_samples(tests)
    np.testing.assert_allclose(actual, np.mean(expected, axis=0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(ensemble.decision_function(tests), actual - ensemble.offset)
    # Where every kernel underflows, the nearest support vector decides.
    far = ensemble.score_samples(np.array([[1e4] * 20, [2e4] * 20]))
    assert far[1] < far[0] < -1e7


def test_an_ensemble_knows_how_many_new_points_it_flags(ensemble):
    new = anisotropic(2000, 4)[0][80:]
    assert ensemble.held_out.shape == (80,)
    flagged = np.mean(ensemble.decision_function(new) < 0)
    assert 0 < flagged < 0.15
    p = ensemble.p_values(new)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    np.testing.assert_array_equal(ensemble.decision_function(new) < 0, p <= 0.05)


def test_an_ensemble_is_a_pytree(ensemble):
    tests = jnp.asarray(anisotropic(80, 4)[1])
    f = jax.jit(lambda model, x: model.decision_function(x))(ensemble, tests)
    np.testing.assert_allclose(f, ensemble.decision_function(tests), rtol=1e-12)


def test_an_ensemble_that_chooses_its_gammas():
    x = anisotropic(80, 4)[0]
    ensemble = ocsvm_ensemble(x)
    crossing = choose_model(x, key=jax.random.split(jax.random.key(0))[0]).crossing
    np.testing.assert_allclose(ensemble.gammas / crossing, 10 ** np.linspace(-1, 1, 5), rtol=1e-9)


def graded(x, y, seed):
    """AUROCs of a grid, and of its cell that `choose_model` takes, fitted to 100 normal rows."""
    nus, multiples = [0.01, 0.05, 0.1, 0.5], np.array([0.03, 0.1, 0.3, 1.0, 3.0])
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    count = min(100, int(0.6 * len(normal)))
    train, test = normal[:count], np.concatenate([normal[count:], np.flatnonzero(y == 1)])
    mean, std = x[train].mean(0), x[train].std(0)
    x = (x - mean)[:, std > 0] / std[std > 0]
    # Columns of zeros change no distance, and tables of one size share a program.
    padded = np.pad(x[train], ((0, 0), (0, 40 - x.shape[1])))
    choice = choose_model(padded, nus, multiples / x.shape[1], jax.random.key(seed))
    grid = np.empty((5, 4))
    for i, gamma in enumerate(choice.gammas):
        for j, nu in enumerate(nus):
            f = libsvm.solve_rbf(x[train], nu, gamma, x[test], tol=1e-4).decision
            grid[i, j] = roc_auc_score(y[test], -f)
    return grid, grid[list(choice.gammas).index(choice.gamma), nus.index(choice.nu)]


@pytest.mark.slow
def test_the_choice_on_real_tables():
    """The goals that benchmarks/choice.py measures, in small; needs its folder of tables."""
    folder = os.environ.get("OCSVM_JAX_TABLES")
    if folder is None:
        pytest.skip("OCSVM_JAX_TABLES names no folder of tables")
    grids, chosen = [], []
    for file in sorted(Path(folder).glob("*.npz")):
        with np.load(file) as table:
            x, y = table["X"].astype(np.float64), table["y"]
        # One split alone is noise: over five, the median and the choice are means.
        splits = [graded(x, y, seed) for seed in range(5)]
        grids.append(np.mean([grid for grid, _ in splits], axis=0))
        chosen.append(np.mean([score for _, score in splits]))
    medians, bests = np.median(grids, axis=(1, 2)), np.max(grids, axis=(1, 2))
    assert np.sum(chosen > medians) >= 13 / 16 * len(grids)
    assert np.mean(chosen) >= 0.5 * np.mean(medians + bests)
    assert np.mean(chosen) > np.mean([grid[3, 3] for grid in grids])  # scikit-learn's default


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
        (lambda: leave_folds_out(jnp.eye(3), 0.5, jnp.zeros(3, int), 1), "num_folds is 1"),
        (lambda: choose_model(X, [0.0, 0.5]), r"nu is 0.0"),
        (lambda: choose_model(X, gammas=0.1), r"gammas has shape \(\)"),
        (lambda: choose_model(X, gamma_unit="scale"), "no gammas to multiply"),
        (lambda: choose_model(X, gammas=[1.0], gamma_unit="var"), "gamma is 'var'"),
        (lambda: choose_model(X, kernel=laplacian), "pass gammas for this kernel"),
        (lambda: choose_model(X, keep=1.0), r"keep is 1.0; it must lie in \(0, 1\)"),
        (lambda: choose_model(X, num_folds=1), "num_folds is 1"),
        (lambda: choose_model(X, max_points=1), "max_points is 1"),
        (lambda: choose_model(X[0]), r"x has shape \(2,\); choose_model takes points"),
        (lambda: choose_model(X.at[0, 0].set(jnp.nan)), "x holds NaN"),
        (lambda: choose_model(jnp.ones((5, 2))), "x has 5 rows of positive weight, and no two"),
        (lambda: choose_model(X, sample_weight=jnp.ones(3)), r"sample_weight has shape \(3,\)"),
        (lambda: jax.jit(choose_model)(X), "choose_model needs the values of the points"),
        (lambda: robust_defaults(X, -jnp.ones(N)), "negative"),
        (lambda: ocsvm_ensemble(X, [1.0], nu=0.0), "nu is 0.0"),
        (lambda: ocsvm_ensemble(X, [-1.0]), "gammas holds -1.0"),
    ],
)
@pytest.mark.usefixtures("without_type_checks")
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
