"""The choice between two forms of a convolution, shared by all convolutions."""

import jax
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


EQUATIONS = {  # with the shapes of its operands
    "drt,iju,tuco->dicrjo": ((3, 2, 5), (4, 8, 5), (5, 5, 2, 3)),
    "iju,tuco->ticjo": ((4, 8, 5), (5, 5, 2, 3)),
    "pui,tuco->ticpo": ((4, 3, 7), (3, 3, 2, 3)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_sum_of_a_gpu_is_the_einsum_and_has_its_derivatives(equation):
    rng = np.random.default_rng(1)
    *selections, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in EQUATIONS[equation])
    one_sum, products = (
        lambda k, how=how: how(*selections, k, equation=equation)
        for how in (forms._einsum_by_one_sum, forms._einsum_by_products)
    )
    actual, back = jax.vjp(one_sum, kernel)
    expected, expected_back = jax.vjp(products, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
    cotangent = jnp.asarray(rng.normal(size=expected.shape))
    np.testing.assert_allclose(back(cotangent)[0], expected_back(cotangent)[0], rtol=1e-12)
    stack = jnp.stack([kernel, 2 * kernel])
    np.testing.assert_allclose(jax.vmap(one_sum)(stack)[1], 2 * expected, rtol=1e-12, atol=1e-13)
