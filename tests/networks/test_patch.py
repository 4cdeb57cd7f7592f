"""The patch network, its dense twin and the convolutions below them, against SciPy."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.signal
import scipy.special

from ocsvm_jax.networks.convolution_valid import convolve_valid, expand_valid
from ocsvm_jax.networks.patch import (
    LATENT_DIM,
    PATCH,
    RADIUS,
    PatchDecoder,
    PatchEncoder,
    encode_slices,
    pad_slices,
    patch_at,
)

# (h, w, in, out, side, stride, dilation)
CONVOLUTIONS = {
    "first layer": (15, 15, 1, 3, 5, 1, 1),
    "third layer": (9, 9, 4, 5, 3, 3, 1),
    "last layer": (3, 3, 5, 4, 3, 1, 1),
    "last layer, dense": (9, 11, 3, 2, 3, 1, 3),
    "rows and columns left over": (8, 9, 2, 3, 3, 2, 1),
    "stride above the side": (10, 8, 1, 2, 2, 3, 1),
    "one tap": (4, 6, 2, 2, 1, 2, 1),
    "stride and dilation": (9, 10, 2, 1, 3, 2, 2),
    "wide": (4, 40, 1, 2, 3, 1, 1),
}
# (h, w, in, out, side, stride)
EXPANSIONS = {
    "from one pixel": (1, 1, 4, 5, 3, 1),
    "side by side": (3, 3, 5, 4, 3, 3),
    "overlapping": (4, 5, 2, 3, 3, 2),
    "stride 1": (5, 4, 3, 2, 5, 1),
    "with gaps": (3, 4, 1, 2, 2, 3),
    "wide": (2, 40, 1, 2, 3, 2),
}
ONE_FORM = ("last layer, dense", "stride and dilation", "wide")  # whatever is asked for


def in_both_forms(cases):
    return [(n, f) for n in cases for f in (("auto",) if n in ONE_FORM else ("lax", "banded"))]


@pytest.fixture
def as_a_user_calls(monkeypatch):
    """Without the type checker of the test suite, which speaks first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def scipy_convolve(x, kernel, stride=1, dilation=1):
    """By channels, with the kernel spread out, and of every place only those asked for."""
    k, _, c, o = kernel.shape
    spread = np.zeros((*[dilation * (k - 1) + 1] * 2, c, o))
    spread[::dilation, ::dilation] = kernel
    channels = [
        [
            sum(
                scipy.signal.correlate2d(image[..., i], spread[..., i, j], "valid")
                for i in range(c)
            )
            for j in range(o)
        ]
        for image in x
    ]
    return np.moveaxis(channels, 1, -1)[:, ::stride, ::stride]


def scipy_expand(x, kernel, stride):
    (b, h, w, c), o = x.shape, kernel.shape[-1]
    spread = np.zeros((b, stride * (h - 1) + 1, stride * (w - 1) + 1, c))
    spread[:, ::stride, ::stride] = x
    channels = [
        [
            sum(scipy.signal.convolve2d(image[..., i], kernel[..., i, j]) for i in range(c))
            for j in range(o)
        ]
        for image in spread
    ]
    return np.moveaxis(channels, 1, -1)


def loop_gradients(x, kernel, cotangent, stride, dilation):
    """Of <cotangent, convolution>, one product at a time."""
    dx, dkernel = np.zeros_like(x), np.zeros_like(kernel)
    for i, j, u, v in np.ndindex(*cotangent.shape[1:3], *kernel.shape[:2]):
        at = np.s_[:, stride * i + dilation * u, stride * j + dilation * v]
        dx[at] += cotangent[:, i, j] @ kernel[u, v].T
        dkernel[u, v] += x[at].T @ cotangent[:, i, j]
    return dx, dkernel


def assert_close(actual, expected, tolerance, dtype=None):
    assert actual.shape == np.shape(expected)
    assert dtype is None or actual.dtype == dtype
    error = np.max(np.abs(np.asarray(actual, np.float64) - expected))
    assert error <= tolerance * (1 + np.max(np.abs(expected)))


@partial(jax.jit, static_argnums=(0, 1))
def value_and_gradients(function, options, x, kernel, cotangent):
    value, pullback = jax.vjp(lambda x, k: function(x, k, **dict(options)), x, kernel)
    return value, *pullback(cotangent)


@pytest.mark.parametrize(("name", "form"), in_both_forms(CONVOLUTIONS))
def test_convolution_and_its_gradients(name, form):
    h, w, c, o, k, stride, dilation = CONVOLUTIONS[name]
    x, kernel = normal(0, 2, h, w, c), normal(1, k, k, c, o)
    expected = scipy_convolve(x, kernel, stride, dilation)
    cotangent = normal(2, *expected.shape)
    options = (("stride", stride), ("dilation", dilation), ("form", form))
    actual = value_and_gradients(convolve_valid, options, x, kernel, cotangent)
    gradients = loop_gradients(x, kernel, cotangent, stride, dilation)
    for a, e in zip(actual, (expected, *gradients), strict=True):
        assert_close(a, e, 1e-13, jnp.float64)


@pytest.mark.parametrize(("name", "form"), in_both_forms(EXPANSIONS))
def test_transposed_convolution_and_its_gradients(name, form):
    h, w, c, o, k, stride = EXPANSIONS[name]
    x, kernel = normal(3, 2, h, w, c), normal(4, k, k, c, o)
    expected = scipy_expand(x, kernel, stride)
    cotangent = normal(5, *expected.shape)
    options = (("stride", stride), ("form", form))
    value, dx, dkernel = value_and_gradients(expand_valid, options, x, kernel, cotangent)
    assert_close(value, expected, 1e-13, jnp.float64)
    # A transposed convolution is the gradient of a convolution, and the other way round.
    swapped = kernel.swapaxes(2, 3)
    assert_close(dx, scipy_convolve(cotangent, swapped, stride), 1e-13)
    _, expected = loop_gradients(cotangent, swapped, x, stride, 1)
    assert_close(dkernel, expected.swapaxes(2, 3), 1e-13)


@pytest.mark.parametrize("form", ["lax", "banded"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_transposed_convolution_is_the_adjoint(stride, form):
    x, kernel = normal(6, 2, 3 * stride + 3, 2 * stride + 3, 2), normal(7, 3, 3, 2, 4)
    y = normal(8, 2, 4, 3, 4)

    @jax.jit
    def products(x, y, kernel):
        forward = convolve_valid(x, kernel, stride=stride, form=form)
        backward = expand_valid(y, kernel.swapaxes(2, 3), stride=stride, form=form)
        return jnp.vdot(y, forward), jnp.vdot(backward, x)

    a, b = products(x, y, kernel)
    np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize("form", ["lax", "banded"])
def test_convolutions_in_float32(form):
    for name, function in (("third layer", convolve_valid), ("side by side", expand_valid)):
        h, w, c, o, k, stride = (CONVOLUTIONS | EXPANSIONS)[name][:6]
        x, kernel = normal(9, 2, h, w, c), normal(10, k, k, c, o)
        oracle = scipy_convolve if function is convolve_valid else scipy_expand
        actual = function(
            jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), stride=stride, form=form
        )
        assert_close(actual, oracle(x, kernel, stride), 1e-6, jnp.float32)


@pytest.mark.parametrize(("platform", "banded"), [("cpu", True), ("cuda", True), ("tpu", False)])
@pytest.mark.parametrize(
    ("function", "shape", "options", "dense"),
    [
        (convolve_valid, (1, 9, 9, 2), {"stride": 3}, True),
        (expand_valid, (1, 3, 3, 2), {"stride": 2}, True),
        (convolve_valid, (1, 9, 9, 2), {"dilation": 3}, False),
        (convolve_valid, (1, 9, 40, 2), {}, False),
        (expand_valid, (1, 3, 40, 2), {}, False),
    ],
)
def test_auto_lowers_one_form_per_platform(function, shape, options, dense, platform, banded):
    x, kernel = jnp.ones(shape, jnp.float32), jnp.ones((3, 3, 2, 2), jnp.float32)
    traced = jax.jit(lambda x, k: function(x, k, **options)).trace(x, kernel)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    products = banded and dense
    assert text.count("stablehlo.convolution") == (0 if products else 1)
    assert ("stablehlo.dot_general" in text) == products


def test_convolutions_say_what_they_cannot_do(as_a_user_calls):
    x = jnp.ones((1, 5, 6, 2))
    for function in (convolve_valid, expand_valid):
        for options in ({}, {"form": "banded"}):
            with pytest.raises(ValueError, match="square, got 3 x 2"):
                function(x, jnp.ones((3, 2, 2, 1)), **options)
            with pytest.raises(ValueError, match="reads 3 channels, the images have 2"):
                function(x, jnp.ones((3, 3, 3, 1)), **options)
        for wide in (x, jnp.ones((1, 5, 40, 2))):  # where the form makes no difference as well
            with pytest.raises(ValueError, match=r"form must be.*got 'dense'"):
                function(wide, jnp.ones((3, 3, 2, 1)), form="dense")
    with pytest.raises(ValueError, match=r"6 pixels \(side 6, dilation 1\).*images of 5 x 6"):
        convolve_valid(x, jnp.ones((6, 6, 2, 1)))
    with pytest.raises(ValueError, match=r"7 pixels \(side 3, dilation 3\).*images of 5 x 6"):
        convolve_valid(x, jnp.ones((3, 3, 2, 1)), dilation=3)


class Moved(NamedTuple):
    """An encoder in float64 after a training step: no batch norm is the identity any more."""

    encoder: PatchEncoder
    before: dict
    after: dict
    patches: np.ndarray  # that the step saw, (locations, subjects, 15, 15, 1)
    latents: np.ndarray  # that it saw them as


def random_variables(module, *arguments):
    """Every parameter random, those of the batch norms too: nothing of it is 0 or 1."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    rng = np.random.default_rng(11)

    def draw(path, leaf):
        scale = 3 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.3
        offset = 1 if path[-1].key in ("scale", "var") else 0
        return jnp.asarray(offset + scale * rng.uniform(-1, 1, leaf.shape))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module", params=["activation_norm", "norm_activation"])
def moved(request):
    encoder = PatchEncoder(order=request.param, dtype=jnp.float64)
    patches = np.random.default_rng(12).random((4, 3, PATCH, PATCH, 1))
    before = random_variables(encoder, jnp.asarray(patches))
    step = jax.jit(lambda v, x: encoder.apply(v, x, True, mutable=["batch_stats"]))
    latents, stats = step(before, patches)
    return Moved(encoder, before, {**before, **stats}, patches, latents)


def reference(variables, patches, order, train=False):
    """The encoder in NumPy and SciPy: its latents and each batch norm's (mean, variance)."""
    y, moments = patches.reshape(-1, PATCH, PATCH, 1), []
    variables = jax.tree.map(np.asarray, variables)
    for i, stride in enumerate((1, 1, 3, 1)):
        p = variables["params"][f"layers_{i}"]
        stats = variables["batch_stats"][f"layers_{i}"]["norm"]
        y = scipy_convolve(y, p["kernel"], stride) + p["bias"]
        for step in order.split("_"):
            if step == "activation":
                y = y * scipy.special.ndtr(y)
                continue
            moments.append((y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))))
            mean, var = moments[-1] if train else (stats["mean"], stats["var"])
            y = (y - mean) / np.sqrt(var + 1e-5) * p["norm"]["scale"] + p["norm"]["bias"]
    return y.reshape(*patches.shape[:-3], LATENT_DIM), moments


def test_weights_of_the_convolutions(moved):
    layers = moved.before["params"].values()
    assert sum(layer[name].size for layer in layers for name in ("kernel", "bias")) == 2378
    assert [layer["kernel"].shape for layer in layers] == [
        (5, 5, 1, 3),
        (3, 3, 3, 4),
        (3, 3, 4, 12),
        (3, 3, 12, 16),
    ]


def test_batch_norm_over_locations_and_subjects(moved):
    """The statistics are those over both axes, and the running ones move a tenth of the way."""
    expected, moments = reference(moved.before, moved.patches, moved.encoder.order, train=True)
    assert_close(moved.latents, expected, 1e-12, jnp.float64)
    before, after = (v["batch_stats"] for v in (moved.before, moved.after))
    for i, batch in enumerate(moments):
        for name, value in zip(("mean", "var"), batch, strict=True):
            old, new = (stats[f"layers_{i}"]["norm"][name] for stats in (before, after))
            np.testing.assert_allclose(new, 0.9 * old + 0.1 * value, rtol=1e-11, atol=1e-13)


def test_dense_twin_is_the_encoder_of_every_patch(moved):
    """At every pixel, those at the borders with their patches reaching out into the background."""
    order, stats = moved.encoder.order, {"batch_stats": moved.after["batch_stats"]}
    slices = np.random.default_rng(13).random((2, 5, 6))
    padded = np.pad(slices, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))
    patches = np.ascontiguousarray(windows[..., None])
    one_by_one = jax.jit(moved.encoder.apply)(moved.after, patches)
    assert_close(one_by_one, reference(moved.after, patches, order)[0], 1e-12, jnp.float64)

    def dense(dtype):
        encoder, cast = moved.encoder.clone(dtype=dtype), partial(jnp.asarray, dtype=dtype)
        arguments = jax.tree.map(cast, (moved.after["params"], stats, slices))
        return jax.jit(partial(encode_slices, encoder))(*arguments)

    expected = np.asarray(one_by_one)
    assert_close(dense(jnp.float64), expected, 1e-10, jnp.float64)
    assert_close(dense(jnp.float32), expected, 1e-5, jnp.float32)
    # The comparison would fail for any other pixel's latent.
    assert np.min(np.std(expected, axis=(0, 1, 2))) > 0.01


def test_decoder_against_scipy():
    decoder = PatchDecoder(dtype=jnp.float64)
    z = normal(14, 3, LATENT_DIM)
    variables = random_variables(decoder, jnp.asarray(z))
    y, held = z.reshape(3, 1, 1, LATENT_DIM), jax.tree.map(np.asarray, variables)
    for i, stride in ((3, 1), (2, 3), (1, 1), (0, 1)):
        p = held["params"][f"layers_{i}"]
        y = scipy_expand(y, p["kernel"], stride) + p["bias"]
        if i:
            norm, stats = p["norm"], held["batch_stats"][f"layers_{i}"]["norm"]
            y = y * scipy.special.ndtr(y)
            y = (y - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    actual = jax.jit(decoder.apply)(variables, z)
    assert_close(actual, scipy.special.expit(y), 1e-12, jnp.float64)


@pytest.mark.parametrize(("conv", "convolutions"), [("lax", 4), ("banded", 0)])
@pytest.mark.parametrize(
    ("network", "shape"), [(PatchEncoder, (2, PATCH, PATCH, 1)), (PatchDecoder, (2, LATENT_DIM))]
)
def test_form_is_handed_down(network, shape, conv, convolutions):
    module, x = network(conv=conv), jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    text = jax.jit(module.apply).lower(variables, x).as_text()
    assert text.count("stablehlo.convolution") == convolutions


def test_patches_lie_around_their_location():
    volumes = np.random.default_rng(15).random((3, 2, 8, 9))
    padded = pad_slices(jnp.asarray(volumes))
    np.testing.assert_array_equal(padded, np.pad(volumes, [(0, 0)] * 2 + [(RADIUS, RADIUS)] * 2))
    for z, x, y in ((0, 0, 0), (1, 7, 8), (1, 3, 5)):
        patch = np.asarray(patch_at(padded, tuple(jnp.asarray(i) for i in (z, x, y))))
        np.testing.assert_array_equal(patch[:, RADIUS, RADIUS], volumes[:, z, x, y])
        np.testing.assert_array_equal(patch, padded[:, z, x : x + PATCH, y : y + PATCH])
        assert np.sum(patch[0] > 0) == np.prod(
            [min(i + RADIUS, n - 1) - max(i - RADIUS, 0) + 1 for i, n in ((x, 8), (y, 9))]
        )


def test_encoder_says_what_it_takes(moved, as_a_user_calls):
    # 30 x 15 pixels hold two patches' worth of numbers, and are none.
    for shape in ((2, 30, 15, 1), (2, 15, 15), (15, 15, 3)):
        with pytest.raises(ValueError, match=r"patches are \(\.\.\., 15, 15, 1\)") as error:
            moved.encoder.apply(moved.after, jnp.ones(shape))
        assert str(shape) in str(error.value)
    for shape in ((2, 20, 14), (20, 20)):
        with pytest.raises(ValueError, match="at least 15 x 15 pixels") as error:
            moved.encoder.apply(moved.after, jnp.ones(shape), method=PatchEncoder.dense)
        assert str(shape) in str(error.value)
