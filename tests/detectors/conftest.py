"""What the tests of the detectors share."""

import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def as_users_train():
    """Optax's Adam and Flax's convolutions do not keep to the strict promotion of this suite."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def vectors():
    """(60, 5) points near a plane, in columns of different units, and 6 points far from it."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(60, 5))
    units = np.array([1e-3, 1.0, 1e3, 5.0, 0.2])
    far = points[:6] + 4 * rng.normal(size=(6, 5))
    return (points + 3) * units, (far + 3) * units


@pytest.fixture(scope="session")
def images():
    """(24, 9, 7) images of two bars, in [0, 1]."""
    rng = np.random.default_rng(1)
    made = 0.1 * rng.uniform(size=(24, 9, 7))
    made[:, 2:4] += rng.uniform(0.2, 0.8, (24, 1, 1))
    return made
