"""The effective number of dimensions against NumPy's eigenvalues, on the host and traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.arrays.dimensions import effective_dimensions


def by_eigenvalues(z):
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(np.asarray(z, np.float64).T)))
    return values.sum() ** 2 / (values**2).sum()


def points(d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((200, d)) @ rng.standard_normal((d, d)) + 3


@pytest.mark.parametrize("d", [1, 2, 8])
@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_against_eigenvalues(d, size):
    """In float32 the squares of a covariance of this size would be 0 or infinite."""
    z = size * points(d)
    assert effective_dimensions(z) == pytest.approx(by_eigenvalues(z), rel=1e-10)
    assert isinstance(effective_dimensions(z), float)
    traced = jax.jit(effective_dimensions)(jnp.asarray(z, jnp.float32))
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, by_eigenvalues(z), rtol=1e-4)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
def test_known_values(make):
    rng = np.random.default_rng(0)
    assert effective_dimensions(make(rng.standard_normal((2000, 8)))) == pytest.approx(8, abs=0.2)
    line = rng.standard_normal((2000, 1)) * np.arange(1, 9)[None, :]
    assert effective_dimensions(make(line + 5)) == pytest.approx(1)
    assert effective_dimensions(make(np.ones((10, 8)))) == 0
    assert np.isnan(effective_dimensions(make(np.full((10, 8), np.nan))))
