"""The digits of scikit-learn: sizes, reproducibility, and what each corruption does to them."""

import numpy as np
import pytest
from sklearn import datasets

from ocsvm_jax.data import corruptions, digits, load

ALL = tuple(corruptions.CORRUPTIONS)


def read(corruption: str, split: str = "train") -> np.ndarray:
    """All images of a split, (n, 28, 28) int64 so that differences keep their sign."""
    source = digits.source()
    rows = np.arange(len(source.labels(corruption, split)))
    return source.images(corruption, split, rows)[..., 0].astype(np.int64)


def test_each_class_is_divided_70_to_30_without_loss():
    source = digits.source()
    train, test = (source.labels("identity", split) for split in ("train", "test"))
    total = np.bincount(datasets.load_digits().target)
    np.testing.assert_array_equal(np.bincount(train) + np.bincount(test), total)
    np.testing.assert_array_equal(np.bincount(train), np.ceil(0.7 * total))


def test_enlarging_keeps_the_digit():
    clean = read("identity")
    assert clean.max() == 255
    assert not clean[:, :2].any() and not clean[:, :, -2:].any()
    # Averaged back over 3 x 3 pixels, an enlarged digit is the original up to its smoothing.
    small, labels = datasets.load_digits(return_X_y=True)
    originals = {c: small[labels == c].reshape(-1, 8, 8) / 16 for c in range(10)}
    back = clean[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4)) / 255
    own = digits.source().labels("identity", "train")
    for c in range(10):
        mine = back[own == c]
        assert np.abs(mine - originals[c][: len(mine)]).mean() < 0.06


@pytest.mark.parametrize("corruption", ALL)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_image_is_uint8_with_contrast(corruption, split):
    source = digits.source()
    count = len(source.labels(corruption, split))
    images = source.images(corruption, split, np.arange(count))
    assert images.shape == (count, 28, 28, 1)
    assert images.dtype == np.uint8
    assert np.ptp(images, axis=(1, 2, 3)).min() > 60


def test_motion_blur_moves_light_and_keeps_its_amount():
    clean, blurred = read("identity"), read("motion_blur")
    sums = clean.sum(axis=(1, 2))
    np.testing.assert_allclose(blurred.sum(axis=(1, 2)), sums, rtol=0.005)
    # A smear that is at most 45 degrees steep takes more of the contrast along a row.
    across, down = (np.abs(np.diff(blurred, axis=a)).sum() for a in (2, 1))
    across_clean, down_clean = (np.abs(np.diff(clean, axis=a)).sum() for a in (2, 1))
    assert across / across_clean < 0.95 * down / down_clean < 0.95 * 0.85


def shift_of(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """The one shift (down, right) of at most 5 pixels that turns one image into the other."""
    found = [
        (dy, dx)
        for dy in range(-5, 6)
        for dx in range(-5, 6)
        if np.array_equal(np.pad(before, 5)[5 - dy : 33 - dy, 5 - dx : 33 - dx], after)
    ]
    assert len(found) == 1
    return found[0]


def test_translate_shifts_by_two_to_four_pixels():
    pairs = zip(read("identity")[:250], read("translate")[:250], strict=True)
    steps = (-4, -3, -2, 2, 3, 4)
    assert {shift_of(*pair) for pair in pairs} == {(dy, dx) for dy in steps for dx in steps}


def test_random_draws_stay_the_same_from_release_to_release():
    pairs = zip(read("identity", "test")[:6], read("translate", "test")[:6], strict=True)
    assert [shift_of(*pair) for pair in pairs] == [
        (-3, 3),
        (-2, -2),
        (-3, 3),
        (-3, -3),
        (4, 4),
        (3, -3),
    ]


def test_stripe_inverts_the_sides_and_nothing_else():
    clean, striped = read("identity"), read("stripe")
    np.testing.assert_array_equal(striped[:, :, 7:21], clean[:, :, 7:21])
    # Both are rounded from floats: half-way cases may differ by one grey value.
    np.testing.assert_allclose(striped[:, :, :7], 255 - clean[:, :, :7], atol=1)
    np.testing.assert_allclose(striped[:, :, 21:], 255 - clean[:, :, 21:], atol=1)


def test_brightness_saturates():
    clean, bright = read("identity"), read("brightness")
    np.testing.assert_allclose(bright, np.minimum(clean + 127.5, 255), atol=1)


def test_canny_edges_are_thin_and_binary():
    edges = read("canny_edges")
    assert set(np.unique(edges)) == {0, 255}
    share = (edges > 0).mean(axis=(1, 2))
    assert share.min() > 0.02 and share.max() < 0.35
    # No 3 x 3 block is all edge.
    blocks = np.lib.stride_tricks.sliding_window_view(edges > 0, (3, 3), axis=(1, 2))
    assert not blocks.all(axis=(3, 4)).any()


@pytest.mark.parametrize("corruption", ["motion_blur", "translate"])
def test_a_random_corruption_differs_between_images_and_splits(corruption):
    image = np.zeros((20, 28, 28))
    image[:, 10:18, 12:15] = 1
    seeds = (0, 0, 1)
    one, same, other = (
        corruptions.CORRUPTIONS[corruption](image, np.random.default_rng(s)) for s in seeds
    )
    np.testing.assert_array_equal(one, same)
    assert len(np.unique(one, axis=0)) > 10
    assert not np.array_equal(one, other)


def test_an_image_does_not_depend_on_what_else_is_loaded():
    wide = load("digits", train_corruptions=ALL, normal=(3, 5)).train
    narrow = load("digits", train_corruptions=["translate"]).train
    chosen = (wide.corruption == "translate") & (wide.classes == 3)
    np.testing.assert_array_equal(wide.images[chosen], narrow.images)


def test_default_task():
    data = load("digits")
    assert [len(part.images) for part in data[1:]] == [387, 318, 753]
    assert [int(part.anomalous.sum()) for part in data[1:]] == [0, 156, 366]


def test_a_directory_is_refused():
    with pytest.raises(ValueError, match="reads no directory, got dir='somewhere'"):
        load("digits", dir="somewhere")
