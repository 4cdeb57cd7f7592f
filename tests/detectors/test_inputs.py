"""How inputs are scaled, and which are refused before anything is compiled."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from ocsvm_jax.detectors import AE, EditedOgAE, TurnedOgAE
from ocsvm_jax.detectors.inputs import Scaling

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(50, 4)) * [1e-3, 1.0, 1e4, 0.0] + [0, 1e6, 0, 7]
BYTES = RNG.integers(0, 200, (20, 6, 5, 3)).astype(np.uint8)
TINY = {"epochs": 1, "batch_size": 8}


def test_standard():
    scaling = Scaling.fit(TABLE, "vectors", "standard")
    expected = StandardScaler().fit(TABLE)
    new = TABLE + 1
    scaled = scaling.apply(new)
    assert scaled.dtype == np.float32
    # A constant column is centred, and a new value there shows in its own units.
    np.testing.assert_allclose(scaled, expected.transform(new), rtol=1e-6)
    np.testing.assert_allclose(scaled[:, 3], 1.0)


def test_robust_is_not_moved_by_outliers():
    table = TABLE.copy()
    scaling = Scaling.fit(table, "vectors", "robust")
    table[:5] = 1e9
    moved = Scaling.fit(table, "vectors", "robust")
    np.testing.assert_allclose(moved.centre[:3], scaling.centre[:3], atol=0.5 * np.std(TABLE[:, 2]))
    assert np.all(moved.scale[:3] < 2 * scaling.scale[:3])
    # Of normal columns it is the standard deviation.
    np.testing.assert_allclose(scaling.scale[:3], np.std(TABLE, axis=0)[:3], rtol=0.35)


def test_robust_where_the_middle_half_is_constant():
    column = np.where(np.arange(50) < 5, 9.0, 0.0)[:, None]
    scaling = Scaling.fit(column, "vectors", "robust")
    np.testing.assert_allclose(scaling.scale, np.std(column), rtol=1e-12)


def test_none():
    np.testing.assert_array_equal(
        Scaling.fit(TABLE, "vectors", "none").apply(TABLE), TABLE.astype(np.float32)
    )


def test_values_that_float32_does_not_hold():
    far = Scaling.fit(TABLE, "vectors", "standard").apply(np.full((1, 4), 1e300))
    np.testing.assert_array_equal(far, np.float32(1e15))


def test_offsets_keep_their_digits():
    """Time stamps: float32 holds no digit of these differences."""
    stamps = 1.7e9 + RNG.normal(size=(30, 1))
    scaled = Scaling.fit(stamps, "vectors", "standard").apply(stamps)
    expected = (stamps - stamps.mean()) / stamps.std()
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "low", "high"),
    [
        (BYTES, 0, 255),
        (BYTES.astype(np.uint16) * 20, 0, 20 * int(BYTES.max())),
        (BYTES / 255, 0, 1),
        (BYTES / 255 * 4 - 2, None, None),
        (BYTES > 100, 0, 1),
    ],
    ids=["uint8", "uint16", "unit", "floats", "bool"],
)
def test_images(x, low, high):
    x = x.astype(np.float32) if x.dtype == bool else x
    scaling = Scaling.fit(x, "images", "standard")
    scaled = scaling.apply(x)
    if x.dtype == np.uint8:
        np.testing.assert_array_equal(scaled, x)  # divided by 255 on the device
        return
    low, high = (x.min(), x.max()) if low is None else (low, high)
    np.testing.assert_allclose(scaled, (x - low) / (high - low), rtol=1e-5, atol=1e-6)
    assert scaled.min() >= 0
    assert scaled.max() <= 1


def test_series_are_scaled_by_channel():
    x = RNG.normal(size=(30, 10, 2)) * [1, 100] + [5, 0]
    scaled = Scaling.fit(x, "series", "standard").apply(x)
    np.testing.assert_allclose(scaled.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1)), 1, rtol=1e-5)
    assert Scaling.fit(x[..., 0], "series", "standard").shape == (10, 1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(5), "Expected 2D array, got 1D array"),
        (np.zeros((5, 2, 2, 2, 2)), "Found array with dim 5"),
        (np.zeros((3, 2)), "n_samples = 3; AE needs at least 4"),
        (np.zeros((3, 8, 8, 3)), "n_samples = 3; AE needs at least 4"),
        (np.full((9, 8, 8), np.nan), "Input X contains NaN"),
        (np.full((9, 2), np.inf), "Input X contains infinity"),
        (np.moveaxis(BYTES, -1, 1), r"channels first; AE takes \(n, h, w, c\): pass np.moveaxis"),
        (np.full((9, 6, 6), "a"), "numeric|could not convert"),
    ],
    ids=["1d", "5d", "few rows", "few images", "nan", "inf", "channels first", "text"],
)
def test_what_can_not_be_fitted(x, message):
    with pytest.raises(ValueError, match=message):
        AE(**TINY).fit(x)


@pytest.mark.parametrize("cls", [TurnedOgAE, EditedOgAE])
def test_vectors_can_not_be_turned(cls):
    with pytest.raises(ValueError, match=rf"{cls.__name__} compares images.*OgAE takes both"):
        cls(**TINY).fit(TABLE)


def test_series_need_their_own_axes():
    with pytest.raises(ValueError, match=r"AE takes series \(n, t\) or \(n, t, c\)"):
        AE(**TINY, network="series").fit(BYTES)


@pytest.fixture(scope="module")
def of_bytes():
    import jax

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return AE(**TINY).fit(BYTES)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (BYTES / 255, "X holds float64 images from 0 to .*fitted to uint8 images from 0 to 255"),
        (BYTES.astype(np.uint16) * 20, "X holds uint16 images from 0 to .*uint8 images from 0"),
        (BYTES[:, :5], r"X has shape \(20, 5, 5, 3\); this AE was fitted to images \(n, 6, 5, 3\)"),
        (BYTES[..., 0], r"X has shape \(20, 6, 5\); this AE was fitted to images \(n, 6, 5, 3\)"),
        (TABLE, r"X has shape \(50, 4\); AE takes images"),
    ],
    ids=["floats", "uint16", "height", "channels", "table"],
)
def test_new_images_of_another_kind(of_bytes, x, message):
    with pytest.raises(ValueError, match=message):
        of_bytes.score_samples(x)


def test_the_same_values_in_another_integer_type(of_bytes):
    expected = of_bytes.score_samples(BYTES)
    np.testing.assert_array_equal(of_bytes.score_samples(BYTES.astype(np.int64)), expected)
