"""Points far from 0, in JAX's default float32: centred before the cast, or a warning.

The oracle is NumPy's float64 on the differences, or the same points near 0.
"""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.float_modes import float32_mode, float64_mode

from ocsvm_jax import OCSVM, PrecisionWarning, gram, laplacian, linear, ocsvm_fit, rbf, scaled
from ocsvm_jax.arrays.casts import subtract_centre, two_parts
from ocsvm_jax.explain import contributions, decision_gradient, integrated_gradients
from ocsvm_jax.export import export_scoring
from ocsvm_jax.localized import fit_locations
from ocsvm_jax.path import ocsvm_path
from ocsvm_jax.sklearn import OneClassSVM

N = 100  # sizes and dimensions of test_model.py: every one is a compilation
RNG = np.random.default_rng(0)
NEAR, QUERIES = 30 * RNG.normal(size=(N, 3)), 40 * RNG.normal(size=(500, 3))


@pytest.fixture(autouse=True)
def as_a_user_calls(monkeypatch):
    """In JAX's default mode, and without the type checker of the test suite."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with float32_mode(), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.uint64])
@pytest.mark.parametrize("offset", [1.7e9, 2.0**53])
def test_time_stamps_and_identifiers(dtype, offset):
    """1.7e9 is the time in seconds, to 128 in float32; the estimator computes in float64."""

    def far_and_near(a):
        if dtype == np.float64:
            return offset + a, (offset + a) - offset
        return (np.round(a).astype(np.int64) + int(offset)).astype(dtype), np.round(a)

    (x, near), (z, queries) = far_and_near(NEAR), far_and_near(QUERIES)
    model = ocsvm_fit(x, 0.1)
    assert model.rho.dtype == np.float32
    estimator = OneClassSVM(nu=0.1, gamma=1 / (3 * np.var(near))).fit(near)
    expected = estimator.decision_function(queries) / (0.1 * N)
    f = np.asarray(model.decision_function(z))
    np.testing.assert_allclose(f, expected, rtol=0, atol=2e-5)
    assert np.mean(f < 0) == pytest.approx(np.mean(expected < 0), abs=2 / len(z))


@pytest.mark.parametrize(
    "kernel",
    [laplacian(0.02), scaled(rbf(0.5), jnp.full(3, 30, np.float32))],
    ids=["laplacian", "scaled"],
)
def test_other_kernels_of_differences(kernel):
    far = ocsvm_fit(1e9 + NEAR, 0.1, kernel)
    near = ocsvm_fit((1e9 + NEAR) - 1e9, 0.1, kernel)
    expected = near.decision_function((1e9 + QUERIES) - 1e9)
    np.testing.assert_allclose(far.decision_function(1e9 + QUERIES), expected, rtol=0, atol=2e-6)


def test_one_far_value_hides_nothing():
    """A code for missing, beside time stamps: the mean and the deviation would both be its own."""
    x = 1.7e9 + NEAR
    x[0] = -999_999
    model = ocsvm_fit(x, 0.1, rbf(1e-3))
    kernel = np.exp(-1e-3 * np.sum((x[:, None] - x[None]) ** 2, axis=-1))
    solution = OneClassSVM(kernel="precomputed", nu=0.1).fit(kernel)
    expected = (solution.score_samples(kernel) - solution.offset_) / (0.1 * N)
    np.testing.assert_allclose(model.decision_function(x), expected, rtol=0, atol=2e-5)


def plain(a, b):
    return jnp.exp(-1e-3 * jnp.sum((a - b) ** 2))


@pytest.mark.parametrize("kernel", [linear(), plain], ids=["linear", "a function"])
def test_what_can_not_be_centred_warns_with_the_figure(kernel):
    x = np.array([1.0, 1.0, 1.7e9]) + NEAR
    spread = np.median(np.abs(x[:, 2] - np.median(x[:, 2])))
    message = rf"float32 moves column 2 of the points by up to 6\d, .* its spread \({spread:.2g}\)"
    with pytest.warns(PrecisionWarning, match=message) as seen:
        model = ocsvm_fit(x, 0.1, kernel)
    assert len(seen) == 1
    assert model.centre is None
    with pytest.warns(PrecisionWarning, match="moves column 2"):
        model.decision_function(x)


def test_ordinary_points_are_kept_as_they_are():
    for x in (NEAR, 100 + NEAR, NEAR.astype(int), NEAR.astype(np.float16)):
        model = ocsvm_fit(x, 0.1, rbf(1e-3))
        rows = x[np.asarray(model.info.support)].astype(np.float32)
        np.testing.assert_array_equal(model.support_vectors, rows)
        model.decision_function(x)
    # A constant column, however large, is the same for all.
    ocsvm_fit(np.c_[NEAR[:, :2], np.full(N, 1.7e9 + 1)], 0.1, rbf(1e-3))


@pytest.fixture(scope="module")
def far():
    with float32_mode():
        return ocsvm_fit(1.7e9 + NEAR, 0.1, rbf(1e-3))


def test_a_centre_survives_everything(far, tmp_path):
    z = 1.7e9 + QUERIES
    expected = far.decision_function(z)
    far.save(tmp_path / "model.npz")
    np.testing.assert_array_equal(OCSVM.load(tmp_path / "model.npz").decision_function(z), expected)
    # float32 is all there is under jit, and 128 the distance of its numbers there.
    z = far.support_vectors + 128 * jnp.round(1.7e9 / 128)
    inside = jax.jit(OCSVM.decision_function)(far, z)
    np.testing.assert_allclose(inside, far.decision_function(np.float64(z)), rtol=0, atol=1e-6)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), far)
    both = jax.vmap(OCSVM.decision_function, in_axes=(0, None))(stacked, z)
    np.testing.assert_allclose(both, [inside, inside], rtol=0, atol=1e-6)


def test_explanations_of_a_model_with_a_centre(far):
    z = 1.7e9 + QUERIES[:5]
    near = z - np.sum(np.float64(far.centre), axis=0)
    moved = far.without_centre()
    np.testing.assert_allclose(
        decision_gradient(far, z), decision_gradient(moved, near), rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(
        contributions(far, z, 3).values, contributions(moved, near, 3).values
    )
    attributions = integrated_gradients(far, z, z[0])
    expected = integrated_gradients(moved, near, near[0])
    np.testing.assert_allclose(attributions.values, expected.values, rtol=1e-4, atol=1e-7)


def test_export_asks_for_the_centre_to_be_subtracted(far):
    with pytest.raises(ValueError, match=r"Export model\.without_centre\(\), and subtract"):
        export_scoring(far, platforms=["cpu"])
    z = 1.7e9 + QUERIES[:4]
    near = np.float32(z - np.sum(np.float64(far.centre), axis=0))
    out = export_scoring(far.without_centre(), platforms=["cpu"]).call(near, np.float32(0))
    np.testing.assert_allclose(out["f"], far.decision_function(z), rtol=0, atol=1e-6)


@pytest.mark.parametrize("offset", [1.7e9, 0.0])
def test_a_float64_model_is_loaded_without_float64(tmp_path, offset):
    x, z = offset + NEAR, offset + QUERIES
    path = tmp_path / "model.npz"
    with float64_mode():
        model = ocsvm_fit(x, 0.1, rbf(1e-3))
        assert model.centre is None
        expected = np.asarray(model.decision_function(z))
        model.save(path)
        line = ocsvm_fit(x, 0.1, linear())
        line.save(tmp_path / "line.npz")
        tiny = OCSVM(model.support_vectors, model.coefficients, model.rho, rbf(1e-50))
        tiny.save(tmp_path / "tiny.npz")
    loaded = OCSVM.load(path)  # not a word of JAX's on gamma either: warnings are errors
    assert loaded.kernel.gamma.dtype == loaded.rho.dtype == np.float32
    assert (loaded.centre is not None) == (offset > 0)
    np.testing.assert_allclose(loaded.decision_function(z), expected, rtol=0, atol=2e-5)
    if offset:
        with pytest.warns(PrecisionWarning, match="moves column"):
            OCSVM.load(tmp_path / "line.npz")
    else:
        OCSVM.load(tmp_path / "line.npz")
    with pytest.raises(ValueError, match=r"parameter of the kernel is 1e-50; .* in float32"):
        OCSVM.load(tmp_path / "tiny.npz")


def test_what_float32_can_not_hold():
    with pytest.raises(ValueError, match=r"x holds values up to .*e\+40; .* in float32"):
        ocsvm_fit(1e39 * NEAR, 0.1, rbf(1e-3))
    with pytest.raises(ValueError, match=r"parameter of the kernel is .*; .* in float32"):
        ocsvm_fit(1e25 * NEAR, 0.1)


@settings(deadline=None, max_examples=200)
@given(
    x=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    offset=st.integers(0, 2**63 - 1),
)
def test_differences_of_whole_numbers_are_rounded_once(x, offset):
    """Against Python's integers; float64 alone would round both first."""
    centre = two_parts(np.array([float(offset)]), np.float32)
    parts = [int(float(part[0])) for part in centre]
    for dtype in (np.uint64, np.int64):
        values = [v if dtype is np.uint64 else v - 2**63 for v in x]
        found = subtract_centre(np.array(values, dtype)[:, None], centre)[:, 0]
        exact = [float(v - sum(parts)) for v in values]
        np.testing.assert_allclose(found, exact, rtol=3e-16, atol=0)


def test_weights_count_by_their_ratios():
    """1e-300 is 0 in float32, and 1e300 infinite."""
    w = RNG.uniform(0.1, 1, N)
    w[:5] = 0
    x = jnp.asarray(NEAR, jnp.float32)
    expected = ocsvm_fit(x, 0.2, rbf(1e-3), sample_weight=w)
    for scale in (1e-300, 1e300, 1e-40):
        model = ocsvm_fit(x, 0.2, rbf(1e-3), sample_weight=scale * w)
        np.testing.assert_allclose(model.rho, expected.rho, rtol=1e-6)
        np.testing.assert_array_equal(model.info.support, expected.info.support)
        path = ocsvm_path(x, np.float32([0.2]), np.float32([1e-3]), sample_weight=scale * w)
        np.testing.assert_allclose(path.rho[0, 0], expected.rho, rtol=1e-5)


def test_gram_is_of_the_points_as_they_are():
    K = gram(rbf(1e-3), NEAR)
    assert K.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
@pytest.mark.parametrize("kernel", [rbf(1e-3), laplacian(0.02)], ids=["rbf", "laplacian"])
def test_gram_of_time_stamps(kernel, dtype):
    x, z = ((1.7e9 + np.rint(a)).astype(dtype) for a in (NEAR, QUERIES))
    near, queries = (np.rint(a) for a in (NEAR, QUERIES))
    np.testing.assert_allclose(gram(kernel, x), gram(kernel, near), rtol=1e-5)
    np.testing.assert_allclose(
        gram(kernel, x, z), gram(kernel, near, queries), rtol=1e-5, atol=1e-7
    )
    with pytest.warns(PrecisionWarning, match="moves column"):
        gram(linear(), x)


def test_locations_warn_with_the_figure():
    """Each has a place of its own: they are not centred, and say so."""
    z = np.stack([NEAR, 1.7e9 + NEAR])
    missing = np.zeros(z.shape[:2], bool)
    missing[:, 0], z[:, 0] = True, 3e9
    fit_locations(z[:1], ~missing[:1], nu=0.5, gamma=1e-3)
    with pytest.warns(PrecisionWarning, match=r"float32 moves column \d .*times its spread"):
        fit_locations(z, ~missing, nu=0.5, gamma=1e-3)


@pytest.mark.parametrize("shapes", [((0, 3), None), ((0, 3), (2, 3)), ((2, 3), (0, 3))])
def test_gram_of_no_points(shapes):
    x, y = (None if shape is None else np.zeros(shape) for shape in shapes)
    assert gram(rbf(1.0), x, y).shape == (shapes[0][0], (shapes[1] or shapes[0])[0])
