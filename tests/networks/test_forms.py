"""The choice between two forms of a convolution, shared by all convolutions."""

import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.networks import forms


def plus(x, kernel, *, amount):
    return x + kernel + amount


def minus(x, kernel, *, amount):
    return x - kernel - amount


@pytest.mark.parametrize(("form", "expected"), [("auto", 6.0), ("banded", 6.0), ("lax", -4.0)])
def test_the_form_that_was_asked_for_is_applied(form, expected):
    one, two = jnp.asarray(1.0), jnp.asarray(2.0)
    assert forms.in_form(form, one, two, banded=plus, ordinary=minus, amount=3) == expected


def test_one_function_object_per_set_of_options():
    # Outside jit, new objects would be compiled again at each call.
    assert forms._bound(plus, amount=1) is forms._bound(plus, amount=1)
    assert forms._bound(plus, amount=1) is not forms._bound(plus, amount=2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_bands_hold_the_entries_of_the_kernel_exactly(dtype):
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4, 5)), dtype)
    taps = np.eye(2, 6, k=1, dtype=bool)[None]  # tap t meets pixel t + 1
    matrices = forms.bands(kernel, "pui,tuco->ticpo", taps)
    assert matrices.dtype == dtype
    np.testing.assert_array_equal(matrices[:, 1, :, 0], kernel[:, 0])
    np.testing.assert_array_equal(matrices[:, 2, :, 0], kernel[:, 1])
    assert not jnp.any(matrices[:, 3:])
