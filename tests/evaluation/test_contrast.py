import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.evaluation.contrast import Units, Views, log_views
from ocsvm_jax.methods.turning import half_turn, stretch


def test_half_turn_is_two_quarter_turns():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), np.uint8)
    np.testing.assert_array_equal(half_turn(images), np.rot90(images, 2, axes=(1, 2)))
    np.testing.assert_array_equal(half_turn(jnp.asarray(images)), half_turn(images))
    np.testing.assert_array_equal(half_turn(half_turn(images)), images)


def test_stretch():
    images = np.random.default_rng(0).uniform(0.3, 0.5, (4, 6, 6, 1))
    out = np.asarray(stretch(jnp.asarray(images)))
    np.testing.assert_allclose(out.min(axis=(1, 2, 3)), 0)
    np.testing.assert_allclose(out.max(axis=(1, 2, 3)), 1)
    # Neither brightness nor contrast of an image changes what comes out, nor does a second time.
    np.testing.assert_allclose(stretch(jnp.asarray(0.1 + 0.5 * images)), out, atol=1e-12)
    np.testing.assert_allclose(stretch(jnp.asarray(out)), out, atol=1e-12)
    # It acts on each image alone.
    np.testing.assert_array_equal(stretch(jnp.asarray(images[:1])), out[:1])


def test_stretch_of_a_constant_image_is_zero():
    np.testing.assert_array_equal(stretch(jnp.full((1, 4, 4, 1), 0.7)), np.zeros((1, 4, 4, 1)))


def test_what_moves_both_views_cancels():
    rng = np.random.default_rng(0)
    upright, turned = rng.standard_normal((2, 100))
    offset = rng.standard_normal(100)
    moved = Views(upright + offset, turned + offset)
    np.testing.assert_allclose(moved.contrast, upright - turned, atol=1e-12)


def test_of_errors_the_contrast_is_that_of_their_ratio():
    rng = np.random.default_rng(0)
    errors = Views(*rng.uniform(0.1, 1, (2, 50)))
    np.testing.assert_allclose(
        np.exp(log_views(errors).contrast), errors.upright / errors.turned, rtol=1e-12
    )
    assert np.isfinite(log_views(Views(np.zeros(1), np.ones(1))).contrast).all()


def test_training_units():
    rng = np.random.default_rng(0)
    train = Views(*rng.standard_normal((2, 200)))
    own = Units.of(train).express(train)
    assert np.mean(own) == pytest.approx(0, abs=1e-12)
    assert np.std(own) == pytest.approx(1)
    new = Views(*rng.standard_normal((2, 30)))
    scaled = Views(*(3 * part for part in train)), Views(*(3 * part for part in new))
    expected = Units.of(train).express(new)
    np.testing.assert_allclose(Units.of(scaled[0]).express(scaled[1]), expected)
    constant = Views(np.ones(5), np.ones(5))
    np.testing.assert_array_equal(Units.of(constant).express(constant), np.zeros(5))
