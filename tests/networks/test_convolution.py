"""The rewritten convolutions against the ordinary one, in value and in both derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.networks.convolution import convolve, max_pool

TOLERANCE = {jnp.float32: 2e-6, jnp.float64: 1e-14}
# (h, w, in, out, upsampling) of the five convolutions of the autoencoder.
LAYERS = [
    (28, 28, 1, 4, 1),
    (14, 14, 4, 8, 1),
    (7, 7, 8, 8, 2),
    (14, 14, 8, 4, 2),
    (28, 28, 4, 1, 1),
]


def problem(seed, b, h, w, c, o, s, sides=(5, 5), dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.normal(keys[0], (b, h, w, c), dtype)
    kernel = jax.random.normal(keys[1], (*sides, c, o), dtype)
    return x, kernel, jax.random.normal(keys[2], (b, s * h, s * w, o), dtype)


@partial(jax.jit, static_argnums=(0, 4))
def value_and_gradients(form, x, kernel, cotangent, s):
    value, pullback = jax.vjp(lambda x, k: convolve(x, k, upsampling=s, form=form), x, kernel)
    return value, *pullback(cotangent)


def assert_close(actual, desired, tolerance):
    for a, b in zip(actual, desired, strict=True):
        assert a.dtype == b.dtype
        assert jnp.max(jnp.abs(a - b)) <= tolerance * (1 + jnp.max(jnp.abs(b)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("layer", LAYERS)
def test_forms_agree_on_the_layers_of_the_autoencoder(layer, dtype):
    x, kernel, cotangent = problem(0, 3, *layer, dtype=dtype)
    expected = value_and_gradients("lax", x, kernel, cotangent, layer[-1])
    actual = value_and_gradients("banded", x, kernel, cotangent, layer[-1])
    assert_close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("layer", "sides"),
    [
        ((1, 1, 1, 1, 1), (5, 5)),  # the kernel reaches beyond the image on every side
        ((2, 9, 3, 1, 2), (5, 3)),
        ((9, 1, 1, 4, 3), (7, 5)),
        ((5, 4, 2, 3, 1), (1, 7)),
        ((3, 5, 4, 2, 3), (3, 1)),
        ((4, 6, 2, 2, 2), (1, 1)),
    ],
)
def test_forms_agree_on_any_shape(layer, sides):
    x, kernel, cotangent = problem(8, 2, *layer, sides=sides)
    expected = value_and_gradients("lax", x, kernel, cotangent, layer[-1])
    actual = value_and_gradients("banded", x, kernel, cotangent, layer[-1])
    assert_close(actual, expected, TOLERANCE[jnp.float64])


@pytest.mark.parametrize("form", ["lax", "banded"])
def test_convolution_is_the_sum_of_its_definition(form):
    x, kernel, _ = problem(1, 2, 4, 6, 2, 3, 1)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    desired = np.zeros((2, 4, 6, 3))
    for i, j in np.ndindex(4, 6):
        window = padded[:, i : i + 5, j : j + 5]
        desired[:, i, j] = np.einsum("bhwc,hwco->bo", window, kernel)
    np.testing.assert_allclose(convolve(x, kernel, form=form), desired, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", ["lax", "banded"])
def test_upsampling_repeats_every_pixel(form):
    x, kernel, _ = problem(2, 2, 3, 4, 2, 3, 2)
    repeated = jnp.asarray(np.kron(x, np.ones((1, 2, 2, 1))))
    np.testing.assert_allclose(
        convolve(x, kernel, upsampling=2, form=form),
        convolve(repeated, kernel, form="lax"),
        rtol=1e-12,
        atol=1e-12,
    )


def test_many_kernels_at_once_and_forward_mode():
    x, kernel, _ = problem(3, 2, 6, 6, 2, 3, 2)
    kernels = jnp.stack([kernel, -2 * kernel, kernel**2])
    ordinary = jax.jit(lambda k: convolve(x, k, upsampling=2, form="lax"))
    auto = jax.jit(lambda k: convolve(x, k, upsampling=2))
    for k, y in zip(kernels, jax.jit(jax.vmap(auto))(kernels), strict=True):
        np.testing.assert_allclose(y, ordinary(k), atol=1e-12)
    # Linear in the kernel: the derivative along a direction is the convolution with it.
    _, tangent = jax.jvp(auto, (kernel,), (kernels[2],))
    np.testing.assert_allclose(tangent, ordinary(kernels[2]), atol=1e-12)


# One convolution or product for the value and each gradient. A CPU also builds the banded matrix,
# and the gradient in the kernel, by a product each, or two if the image is upsampled; a GPU by
# sums, without a launch for each.
@pytest.mark.parametrize(
    ("platform", "convolutions", "products", "for_matrices"),
    [("cpu", 0, 3, 2), ("cuda", 0, 3, 0), ("rocm", 3, 0, 0), ("tpu", 3, 0, 0)],
)
@pytest.mark.parametrize(("upsampling", "models"), [(1, None), (2, None), (2, 4)])
def test_auto_lowers_one_form_per_platform(
    platform, convolutions, products, for_matrices, upsampling, models
):
    inputs = problem(4, 2, 6, 6, 2, 3, upsampling, dtype=jnp.float32)

    def function(x, k, t):
        return value_and_gradients("auto", x, k, t, upsampling)

    if models:
        function = jax.vmap(function)
        inputs = tuple(jnp.stack([a] * models) for a in inputs)
    text = jax.jit(function).trace(*inputs).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions
    assert text.count("stablehlo.dot_general") == products + upsampling * for_matrices


def test_refuses_unknown_forms_and_even_kernels():
    x, kernel, _ = problem(5, 1, 4, 4, 1, 1, 1)
    # With the annotations checked, as in this suite, the type checker may refuse first.
    with pytest.raises(Exception, match="dense"):
        convolve(x, kernel, form="dense")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"odd sides.*\(4, 5\)"):
        convolve(x, kernel[:4])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_max_pool_agrees_with_xla(dtype):
    x = jax.random.normal(jax.random.key(6), (3, 6, 8, 2), dtype)
    cotangent = jax.random.normal(jax.random.key(7), (3, 3, 4, 2), dtype)

    def reference(x):
        lowest = np.asarray(-np.inf, dtype)
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(x, lowest, jax.lax.max, window, window, "VALID")

    for actual, desired in zip(
        (lambda v, p: (v, *p(cotangent)))(*jax.vjp(max_pool, x)),
        (lambda v, p: (v, *p(cotangent)))(*jax.vjp(reference, x)),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, desired)


def test_max_pool_gives_ties_to_the_first_in_reading_order():
    # Windows, read left to right: all equal; a tie of right above and left below; of both below.
    windows = jnp.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 2.0, 1.0], [0.0, 1.0, 3.0, 3.0]])
    x = windows.reshape(3, 2, 2, 1)
    gradient = jax.grad(lambda x: max_pool(x).sum())(x).reshape(3, 4)
    np.testing.assert_array_equal(gradient, np.eye(4)[[0, 1, 2]])


@pytest.mark.parametrize("position", range(4))
def test_max_pool_keeps_nan(position):
    x = jnp.arange(4.0).at[position].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x)).all()


def test_max_pool_refuses_odd_sizes():
    with pytest.raises(ValueError, match="even height and width, got 4 x 5"):
        max_pool(jnp.zeros((1, 4, 5, 1)))
