"""One one-class SVM per location, against LIBSVM location by location.

Eager calls of `fit_locations` share one compilation of the solver for each shape and dtype.
"""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracles import libsvm, optimality
from oracles.differences import directional
from scipy.spatial.distance import cdist

from ocsvm_jax import localized
from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.localized import (
    fit_locations,
    log_score_locations,
    score_locations,
)
from ocsvm_jax.solver import Status, ocsvm_solve

score, log_score = jax.jit(score_locations), jax.jit(log_score_locations)

V, N, D, M = 3, 24, 4, 20
NU = 0.2
# Of each location: different scales and offsets, so that none could take another's model.
SCALE, OFFSET = np.array([1.0, 0.5, 3.0]), np.array([0.0, 2.0, -5.0])


def points(seed, n, spread=1.0):
    x = np.random.default_rng(seed).normal(size=(V, n, D)) * spread
    return x * SCALE[:, None, None] + OFFSET[:, None, None]


Z, QUERIES = points(0, N), points(1, M, 1.5)


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def model():
    return fit_locations(jnp.asarray(Z), nu=NU, gamma=0.3)


def missing(seed, count):
    """`count` points missing at every location, others at each."""
    order = np.random.default_rng(seed).random((V, N)).argsort(axis=1)
    return order >= count


def assert_is_libsvm(model, z, queries, present, gamma, standardize):
    scores = score(model, queries)
    assert np.all(model.status == Status.CONVERGED)
    for i in range(V):
        x, q = z[i][present[i]], queries[i]
        if standardize:
            mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
            x, q = (x - mean) / std, (q - mean) / std
        expected = libsvm.solve_rbf(x, NU, gamma, q)
        # LIBSVM keeps its kernel in float32.
        np.testing.assert_allclose(model.alpha[i][present[i]], expected.alpha, rtol=0, atol=1e-5)
        np.testing.assert_allclose(model.rho[i] + 1, expected.rho, rtol=0, atol=1e-6)
        np.testing.assert_allclose(scores[i], -expected.decision, rtol=0, atol=1e-6)
        assert np.ptp(expected.decision) > 0.01


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("gamma", [0.3, "scale", "auto"])
def test_against_libsvm(gamma, standardize):
    model = fit_locations(jnp.asarray(Z), nu=NU, gamma=gamma, standardize=standardize)
    assert_is_libsvm(model, Z, QUERIES, np.ones((V, N), bool), gamma, standardize)


@pytest.mark.parametrize(
    ("gamma", "standardize"), [(0.3, False), ("scale", False), ("scale", True)]
)
def test_a_missing_subject_is_as_if_left_out(gamma, standardize):
    present = missing(2, 5)
    fits = {}
    for name, garbage in (("zero", 0), ("NaN", np.nan), ("infinite", np.inf), ("huge", -1e30)):
        z = jnp.asarray(np.where(present[..., None], Z, garbage))
        fits[name] = fit_locations(
            z, jnp.asarray(present), nu=NU, gamma=gamma, standardize=standardize
        )
    assert_is_libsvm(fits["NaN"], Z, QUERIES, present, gamma, standardize)
    assert not np.any(fits["NaN"].alpha[~present])
    for fit in fits.values():
        jax.tree.map(np.testing.assert_array_equal, fit, fits["NaN"])


def test_a_missing_subject_takes_no_part_to_the_last_digit():
    """Beyond LIBSVM's float32: optimal, which only one alpha is, for those that are there."""
    present = missing(3, 5)
    z = jnp.asarray(np.where(present[..., None], Z, np.nan))
    model = fit_locations(z, jnp.asarray(present), nu=NU, gamma=0.3)
    bounds = optimality.upper_bounds(N - 5, NU)
    for i, p in enumerate(present):
        K = np.exp(-0.3 * cdist(Z[i][p], Z[i][p], "sqeuclidean"))
        alpha = np.asarray(model.alpha[i])[p]
        np.testing.assert_allclose(np.sum(alpha), 1, rtol=1e-13)
        assert optimality.gap(K, alpha, bounds) < 1e-12
        lower, upper = optimality.rho_interval(K, alpha, bounds)
        np.testing.assert_allclose(model.rho[i] + 1, [lower, upper], rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("v", [6, 7])
def test_an_accelerator_takes_locations_in_parts(v, missing, monkeypatch):
    """With and without a last part to fill up; model and scores are those of all at once."""
    rng = np.random.default_rng(v)
    z, queries = (jnp.asarray(rng.normal(size=(v, n, 2))) for n in (9, 4))
    present = jnp.asarray(rng.random((v, 9)) < 0.8) if missing else None

    def results():
        model = fit_locations(z, present, nu=0.3, gamma=0.2)
        return model, score_locations(model, queries), log_score_locations(model, queries)

    expected = results()
    monkeypatch.setattr(localized.devices, "on_cpu", lambda: False)
    monkeypatch.setattr(localized, "_AT_ONCE", 3)
    jax.clear_caches()
    found = results()
    jax.clear_caches()
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


def test_where_all_are_missing():
    present = np.ones((V, N), bool)
    present[1] = False
    partial = fit_locations(jnp.asarray(Z), jnp.asarray(present), nu=NU, gamma=0.3)
    assert list(partial.status) == [Status.CONVERGED, Status.INVALID, Status.CONVERGED]
    for function in (score, log_score):
        scores = np.asarray(function(partial, QUERIES))
        assert np.all(np.isnan(scores[1]))
        assert np.all(np.isfinite(scores[[0, 2]]))


@pytest.fixture(scope="module")
def close_points():
    """Latents of small spread far from 0, gamma 1e-4: all of K lies within 1e-5 of 1."""
    rng = np.random.default_rng(4)
    # sd .1 around 30: the centre of what is not there must not cost the digits either.
    z, queries = (rng.normal(size=(2, n, 16)) * s + 30 for n, s in ((N, 0.1), (M, 0.13)))
    present = rng.random((2, N)) < 0.8
    z, queries = (jnp.asarray(x, jnp.float32) for x in (z, queries))
    return jnp.where(present[..., None], z, jnp.nan), present, queries


NEARLY_ONE = 1e-4


def of_spread(actual, expected):
    """The largest error at a location in units of the spread of its scores."""
    error = np.max(np.abs(np.asarray(actual, np.float64) - expected), axis=1)
    return np.max(error / np.ptp(expected, axis=1))


def plain_score(z, present, queries):
    """The same location by way of `gram`, `ocsvm_solve` and `decision_function`."""
    kernel, z = rbf(NEARLY_ONE), jnp.where(present[:, None], z, 30)
    solution = ocsvm_solve(gram(kernel, z), NU, sample_weight=present.astype(z.dtype))
    return -decision_function(solution, gram(kernel, queries, z))


def test_float32_where_the_kernel_is_nearly_one(close_points):
    expected, expected_log = [], []
    for z, present, queries in zip(*close_points, strict=True):
        z, queries = np.asarray(z[present], np.float64), np.asarray(queries, np.float64)
        # LIBSVM keeps K in float32 and would lose it too: it is given (k - 1) / gamma.
        K, k = (np.expm1(-NEARLY_ONE * cdist(a, z, "sqeuclidean")) for a in (z, queries))
        assert K.min() > -2e-4
        reference = libsvm.solve(K / NEARLY_ONE, NU)
        rho, total = NEARLY_ONE * reference.rho, k @ reference.alpha
        expected.append(rho - total)
        expected_log.append(np.log1p(rho) - np.log1p(total))

    z, present, queries = (jnp.asarray(x) for x in close_points)
    model = fit_locations(z, present, nu=NU, gamma=NEARLY_ONE)
    scores, log_scores = score(model, queries), log_score(model, queries)
    assert scores.dtype == log_scores.dtype == jnp.float32
    assert of_spread(scores, np.stack(expected)) < 1e-4
    assert of_spread(log_scores, np.stack(expected_log)) < 1e-4
    for a, b in zip(scores, log_scores, strict=True):
        np.testing.assert_array_equal(np.argsort(a), np.argsort(b))
    # What k - 1 is for: with k itself in float32 a tenth of a per cent is not to be had.
    plain = jax.vmap(plain_score)(z, present, queries)
    assert of_spread(plain, np.stack(expected)) > 1e-3


def test_log_score_is_what_it_says(model):
    """And ranks as -f at every location, whether the sum is taken as such or by logarithms."""
    queries = [QUERIES, points(5, M, 4)]
    scores, log_scores = (
        np.concatenate([f(model, q) for q in queries], axis=1) for f in (score, log_score)
    )
    for i, q in enumerate(np.concatenate(queries, axis=1)):
        total = np.exp(-0.3 * cdist(q, Z[i], "sqeuclidean")) @ np.asarray(model.alpha[i])
        rho = 1 + float(model.rho[i])
        np.testing.assert_allclose(log_scores[i], np.log(rho) - np.log(total), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scores[i], rho - total, rtol=1e-9, atol=1e-12)
        assert np.all(np.diff(log_scores[i][np.argsort(-total)]) > 0)
    # Both ways of taking the sum were needed.
    near = scores < model.rho[:, None] + 0.5
    assert np.any(near) and np.any(~near)


def test_scores_are_zero_at_free_support_vectors(model):
    alpha = np.asarray(model.alpha)[:, :M]
    free = (alpha > 1e-6) & (alpha < (1 - 1e-6) / (NU * N))
    assert np.all(free.sum(axis=1) >= 2)
    for function in (score, log_score):
        scores = np.asarray(function(model, Z[:, :M]))
        np.testing.assert_allclose(scores[free], 0, rtol=0, atol=1e-9)
        assert np.all(scores[alpha == 0] < 0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_log_score_grows_where_the_score_has_ended(model, dtype):
    floats = {k: x for k, x in model._asdict().items() if k != "status"}
    model = model._replace(**{k: x.astype(dtype) for k, x in floats.items()})
    distance = np.geomspace(20, 1e6, M)
    direction = np.array([0.6, 0.0, 0.8, 0.0])
    queries = Z.mean(axis=1)[:, None] + distance[:, None] * direction
    scores, log_scores = (np.asarray(f(model, queries)) for f in (score, log_score))
    assert not np.any(np.diff(scores, axis=1))
    np.testing.assert_allclose(scores[:, 0], 1 + model.rho, rtol=1e-5)
    assert np.all(np.isfinite(log_scores)) and np.all(np.diff(log_scores, axis=1) > 0)
    # Far away it is gamma times the squared distance.
    np.testing.assert_allclose(log_scores[:, -1], 0.3e12, rtol=1e-4)


def test_a_number_for_gamma_may_be_traced_and_must_be_one(as_a_user_calls):
    for gamma in (0, -0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be a positive number") as error:
            fit_locations(Z, nu=NU, gamma=gamma)
        assert f"gamma is {gamma}" in str(error.value)
    with pytest.raises(ValueError, match=r"gamma is 'scal'; .*\"scale\" or \"auto\""):
        fit_locations(Z, nu=NU, gamma="scal")
    with pytest.raises(ValueError, match=r"gamma is of shape \(3,\)"):
        fit_locations(Z, nu=NU, gamma=np.ones(V))
    traced = jax.eval_shape(lambda g: fit_locations(Z, nu=NU, gamma=g), 0.3)
    assert traced.alpha.shape == (V, N)


WRONG = {
    "one location": ((Z[0],), {}, r"z has shape \(24, 4\).*\(locations, points, dimensions\)"),
    "too few present": (
        (Z, np.ones((V, N - 1), bool)),
        {},
        r"present has shape \(3, 23\).*\(3, 24\)",
    ),
    "nu of 0": ((Z,), {"nu": 0.0}, r"nu is 0\.0"),
    "nu above 1": ((Z,), {"nu": 1.5}, r"nu is 1\.5"),
    "many nu": ((Z,), {"nu": np.full(V, 0.5)}, r"nu has shape \(3,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_fit_says_what_was_received(name, as_a_user_calls):
    arguments, keywords, text = WRONG[name]
    with pytest.raises(ValueError, match=text):
        fit_locations(*arguments, **({"nu": NU, "gamma": 0.3} | keywords))


@pytest.mark.parametrize("function", [score_locations, log_score_locations])
@pytest.mark.parametrize("shape", [(V, D), (V - 1, M, D), (V, M, D + 1), (1, M, D)])
def test_scores_say_what_was_received(function, shape, model, as_a_user_calls):
    with pytest.raises(ValueError, match=r"must be \(3, m, 4\)") as error:
        function(model, np.ones(shape))
    assert str(shape) in str(error.value)


def test_integers_and_lists(as_a_user_calls):
    """Become the default float; a score has the dtype of the model."""
    z, present = np.rint(10 * Z).astype(int), np.ones((V, N), int).tolist()
    fit = fit_locations(z, present, nu=NU, gamma=0.01)
    scores = score(fit, QUERIES.astype(np.float32))
    assert fit.z.dtype == scores.dtype == jnp.float64
    assert np.all(np.isfinite(scores))


def objective(z, present, queries, standardize, gamma):
    z, present = jnp.asarray(z), jnp.asarray(present)
    fit = fit_locations(z, present, nu=NU, gamma=gamma, standardize=standardize)
    weight = jnp.asarray(np.random.default_rng(6).normal(size=(V, M)))
    scores = score(fit, queries) + 0.1 * log_score(fit, queries)
    return jnp.sum(weight * scores), fit


@pytest.mark.parametrize(("standardize", "gamma"), [(False, 0.3), (True, "scale")])
def test_gradient_against_central_differences(standardize, gamma):
    """With missing points, and where all is standardised with a latent that is dead."""
    present, start, queries = missing(7, 3), Z.copy(), QUERIES.copy()
    directions = np.random.default_rng(8).normal(size=(3, V, N, D))
    if standardize:  # the deviation of a constant has no square root to differentiate
        start[..., 1], queries[..., 1], directions[..., 1] = 0.25, 0.25, 0
    z = np.where(present[..., None], start, np.nan)
    rest = present, queries, standardize, gamma
    gradient, fit = jax.grad(objective, has_aux=True)(z, *rest)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[~present])
    for direction in directions:

        def along(t, direction=direction):
            value, moved = objective(z + t * direction, *rest)
            # Only where the active set is held is there a derivative to compare with.
            np.testing.assert_array_equal(moved.alpha > 0, fit.alpha > 0)
            return float(value)

        expected = directional(along, 2e-5)
        np.testing.assert_allclose(np.vdot(gradient, direction), expected, rtol=1e-6)
