"""Edits against NumPy and SciPy, image by image, with the draws that leave one outcome."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ocsvm_jax.methods.edits import EDITS, edited
from ocsvm_jax.methods.random_convolutions import randomly_convolved

SHAPES = [(28, 28, 1), (9, 14, 3)]


def images(shape, n=8, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 1, (n, *shape)), jnp.float32)


def under(name, x, seed=0):
    (found,) = jax.jit(edited, static_argnums=2)(x, jax.random.key(seed), (name,))
    return np.asarray(found)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", EDITS)
def test_every_edit(name, shape):
    """Changes each image in its own way, within their range, and the same by the same key."""
    x = images(shape)
    found = under(name, x)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.min() >= 0
    assert found.max() <= 1
    changed = np.mean(found != x, axis=(1, 2, 3)) > 0.02
    # One permutation in 24 is the identity, and a shift may be 0.
    assert changed.sum() >= (6 if name in ("permuted", "displaced") else 8)
    np.testing.assert_array_equal(found, under(name, x))
    assert np.any(found != under(name, x, seed=1))
    # Eight copies of one image: each has a draw of its own.
    copies = under(name, jnp.repeat(x[:1], 8, axis=0))
    assert len(np.unique(copies.reshape(8, -1), axis=0)) >= 3


@pytest.mark.parametrize("shape", SHAPES)
def test_turned_images_are_symmetries_but_never_the_identity(shape):
    x = images(shape, n=40)
    square = shape[0] == shape[1]
    turns = range(4) if square else (0, 2)
    seen = set()
    for image, found in zip(np.asarray(x), under("turned", x), strict=True):
        views = {
            (k, mirrored): np.rot90(image[:, ::-1] if mirrored else image, k)
            for k, mirrored in itertools.product(turns, (False, True))
        }
        (view,) = [name for name, view in views.items() if np.array_equal(view, found)]
        seen.add(view)
    assert seen == set(views) - {(0, False)}


def test_an_erased_region_shows_the_background():
    """A bright square on a dark ground: pixels only lose brightness, and some lose all of it."""
    x = np.full((50, 28, 28, 1), 0.1, np.float32)
    x[:, 4:24, 4:24] = 0.9
    found = under("erased", jnp.asarray(x))
    assert np.all(found <= x + 1e-6)
    np.testing.assert_allclose(found[x == np.float32(0.1)], 0.1, atol=1e-6)
    assert np.median(found.min(axis=(1, 2, 3))) < 0.15
    gone = np.mean(found[:, 4:24, 4:24] < 0.5, axis=(1, 2, 3))
    # Half of the brightness is lost in ellipses with radii of 2 to 7 pixels, which mostly lie
    # inside of the square: pi 4.5^2 / 400 = .16 of it.
    assert 0.08 < np.mean(gone) < 0.2


@pytest.mark.parametrize("name", ["pasted", "displaced"])
def test_what_a_region_shows(name):
    """Each image of one grey value: another one's value where pasted, its own where displaced."""
    grey = np.linspace(0, 1, 5, dtype=np.float32)
    x = np.broadcast_to(grey[:, None, None, None], (5, 20, 20, 2))
    found = under(name, jnp.asarray(x))
    other = np.roll(grey, 1) if name == "pasted" else grey
    for image, own, foreign in zip(found, grey, other, strict=True):
        assert image.min() >= min(own, foreign) - 1e-6
        assert image.max() <= max(own, foreign) + 1e-6
        # Somewhere its own, somewhere nearly the other's.
        assert np.abs(image - own).min() < 0.01
        assert np.abs(image - foreign).min() < 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_quarters_change_places(shape):
    x = images(shape, n=60)
    h, w, _ = shape
    tall, wide = h // 2, w // 2
    places = [
        (slice(i, i + tall), slice(j, j + wide)) for i in (0, h - tall) for j in (0, w - wide)
    ]
    orders = set()
    for image, found in zip(np.asarray(x), under("permuted", x), strict=True):
        order = tuple(
            next(k for k, q in enumerate(places) if np.array_equal(image[q], found[p]))
            for p in places
        )
        assert sorted(order) == [0, 1, 2, 3]
        orders.add(order)
    assert len(orders) > 15  # of 24, in 60 draws


def test_bending_moves_smoothly():
    """Of channels that hold row and column: the field, which SciPy applies to another channel."""
    rows, columns = np.meshgrid(np.arange(28.0), np.arange(28.0), indexing="ij")
    noise = np.random.default_rng(1).uniform(0, 27, (28, 28))
    x = np.stack([rows, columns, noise], axis=-1)[None].astype(np.float32)
    found = under("bent", jnp.asarray(x), seed=3)[0]
    where = found[..., :2].transpose(2, 0, 1)
    # Where nothing was clipped at the border.
    inside = np.all((where > 0) & (where < 27), axis=0)
    expected = ndimage.map_coordinates(x[0, ..., 2], where, order=1, mode="nearest")
    np.testing.assert_allclose(found[..., 2][inside], expected[inside], atol=1e-2)
    moved = np.hypot(where[0] - rows, where[1] - columns)
    assert 1 < moved[inside].mean() < 9
    steps = np.abs(np.diff(where - np.stack([rows, columns]), axis=1))
    assert steps[:, inside[1:] & inside[:-1]].max() < 3


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="the images have 3 x 28 pixels; edits take 4 x 4"):
        edited(images((3, 28, 1)), jax.random.key(0), ("turned",))


def test_random_convolutions_are_convolutions():
    """An image of one bright pixel shows the filter, mixed with the image itself."""
    x = np.zeros((40, 9, 9, 1), np.float32)
    x[:, 4, 4] = 1
    found = np.asarray(randomly_convolved(jnp.asarray(x), jax.random.key(0), 1.0))[..., 0]
    assert found.min(axis=(1, 2)) == pytest.approx(0)
    assert found.max(axis=(1, 2)) == pytest.approx(1)
    outside = np.ones((9, 9), bool)
    outside[3:6, 3:6] = False
    for image in found:
        # What no pixel of the filter reaches is flat.
        np.testing.assert_allclose(image[outside], image[0, 0], atol=1e-6)
    assert len(np.unique(found.round(4).reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)])
def test_a_share_of_the_images_is_convolved(share, least, most):
    x = images((6, 6, 2), n=200)
    found = np.asarray(randomly_convolved(x, jax.random.key(1), share))
    changed = np.any(found != x, axis=(1, 2, 3)).sum()
    assert least <= changed <= most
