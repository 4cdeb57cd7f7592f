"""The autoencoder: its parameters, its two modes, its forms, and PyTorch's conventions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ocsvm_jax.networks import Autoencoder, Decoder, Encoder

FLOAT64 = {"dtype": jnp.float64, "param_dtype": jnp.float64}
ENCODER = {
    "conv0/kernel": (5, 5, 1, 4),
    "norm0/scale": (4,),
    "norm0/bias": (4,),
    "conv1/kernel": (5, 5, 4, 8),
    "norm1/scale": (8,),
    "norm1/bias": (8,),
    "dense/kernel": (392, 32),
    "dense/bias": (32,),
}
DECODER = {
    "dense/kernel": (32, 392),
    "dense/bias": (392,),
    "conv0/kernel": (5, 5, 8, 8),
    "norm0/scale": (8,),
    "norm0/bias": (8,),
    "conv1/kernel": (5, 5, 8, 4),
    "norm1/scale": (4,),
    "norm1/bias": (4,),
    "conv2/kernel": (5, 5, 4, 1),
    "conv2/bias": (1,),
}


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (6, 28, 28, 1))


@pytest.fixture(scope="module")
def default_variables(images):
    return jax.jit(Autoencoder().init)(jax.random.key(3), images)


def some_variables(model, x, seed=0):
    """Variables of the model's structure, filled so that no layer is trivial."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name = path[-1].key
        if name == "kernel":
            value = rng.normal(scale=np.prod(leaf.shape[:-1]) ** -0.5, size=leaf.shape)
        elif name in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            value = rng.normal(scale=0.1, size=leaf.shape)
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(model.init, jax.random.key(0), x))


@partial(jax.jit, static_argnames=("model", "method"))
def evaluate(model, variables, x, method=None):
    return model.apply(variables, x, method=method)


def shapes(params):
    return {f"{layer}/{name}": a.shape for layer, p in params.items() for name, a in p.items()}


@partial(jax.jit, static_argnums=0)
def train_step(model, variables, x):
    """(loss, gradient, new statistics) of the mean squared error."""

    def loss(params):
        (_, x_hat), new = model.apply(
            {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(x.astype(x_hat.dtype) - x_hat)), new["batch_stats"]

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, gradient, statistics


@pytest.mark.parametrize("conv", ["auto", "lax", "banded"])
def test_parameters_are_those_of_the_ordinary_network(conv, images):
    params = jax.eval_shape(Autoencoder(conv=conv).init, jax.random.key(0), images)["params"]
    assert shapes(params["encoder"]) == ENCODER
    assert shapes(params["decoder"]) == DECODER
    assert sum(a.size for a in jax.tree.leaves(params)) == 28_961
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))


def test_shapes_and_ranges(images):
    model = Autoencoder(latent_dim=5)
    variables = some_variables(model, images)
    z, x_hat = evaluate(model, variables, images)
    assert z.shape == (6, 5) and x_hat.shape == images.shape
    assert z.dtype == x_hat.dtype == jnp.float32
    assert x_hat.min() > 0 and x_hat.max() < 1


def test_encode_and_decode_are_the_halves(images):
    model = Autoencoder()
    variables = some_variables(model, images)
    z, x_hat = evaluate(model, variables, images)
    np.testing.assert_array_equal(evaluate(model, variables, images, method="encode"), z)
    np.testing.assert_array_equal(evaluate(model, variables, z, method="decode"), x_hat)
    for part, name, entry, result in (
        (Encoder(), "encoder", images, z),
        (Decoder(), "decoder", z, x_hat),
    ):
        alone = {collection: entries[name] for collection, entries in variables.items()}
        np.testing.assert_array_equal(evaluate(part, alone, entry), result)


@pytest.mark.parametrize(("options", "tolerance"), [({}, 1e-5), (FLOAT64, 1e-13)])
def test_forms_agree_in_a_training_step(options, tolerance, images):
    variables = some_variables(Autoencoder(**options), images)
    desired, actual = (
        train_step(Autoencoder(conv=conv, **options), variables, images)
        for conv in ("lax", "auto" if jax.default_backend() == "cpu" else "banded")
    )
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert a.dtype == b.dtype == options.get("dtype", jnp.float32)
        assert jnp.max(jnp.abs(a - b)) <= tolerance * (1 + jnp.max(jnp.abs(b)))


def test_gradient_agrees_with_central_differences(images):
    model = Autoencoder(**FLOAT64)
    variables = some_variables(model, images)
    _, gradient, _ = train_step(model, variables, images)

    def loss(params):
        return train_step(model, {**variables, "params": params}, images)[0]

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        # Along the gradient of one leaf, a step too short to cross a kink of the network.
        step = 1e-6 / float(jnp.linalg.norm(leaf))

        def shifted(sign, path=path, leaf=leaf, step=step):
            return jax.tree_util.tree_map_with_path(
                lambda p, a: a + sign * step * leaf if p == path else a, variables["params"]
            )

        difference = (loss(shifted(1)) - loss(shifted(-1))) / (2 * step)
        np.testing.assert_allclose(difference, jnp.vdot(leaf, leaf), rtol=1e-4, err_msg=str(path))


def test_training_updates_the_running_statistics(images):
    model = Autoencoder(momentum=0.75, **FLOAT64)
    variables = some_variables(model, images)
    kernel = variables["params"]["encoder"]["conv0"]["kernel"]
    y = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    _, _, statistics = train_step(model, variables, images)
    for name, value in (("mean", y.mean((0, 1, 2))), ("var", y.var((0, 1, 2)))):
        found = statistics["encoder"]["norm0"][name]
        before = variables["batch_stats"]["encoder"]["norm0"][name]
        np.testing.assert_allclose(found, 0.75 * before + 0.25 * value, rtol=1e-10)
    assert jax.tree.map(jnp.shape, statistics) == jax.tree.map(jnp.shape, variables["batch_stats"])


def test_evaluation_treats_every_image_alone_and_training_does_not(images):
    model = Autoencoder(**FLOAT64)
    variables = some_variables(model, images)
    z, _ = evaluate(model, variables, images)
    alone, _ = evaluate(model, variables, images[:1])
    np.testing.assert_allclose(z[:1], alone, atol=1e-12)
    (in_batch, _), _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert jnp.abs(in_batch - z).max() > 1e-2


def without_layer_biases(shapes):
    return {k: v for k, v in shapes.items() if k.startswith("norm") or "bias" not in k}


def test_without_biases_only_the_batch_norms_shift(images):
    model = Autoencoder(use_bias=False)
    variables = some_variables(model, images)
    for part, full in (("encoder", ENCODER), ("decoder", DECODER)):
        assert shapes(variables["params"][part]) == without_layer_biases(full)
        # Without the shifts, zero maps to zero, with the statistics of this batch: the running mean
        # is additive too, but not trained. The decoder ends in a sigmoid.
        for norm in ("norm0", "norm1"):
            shift = variables["params"][part][norm]
            shift["bias"] = jnp.zeros_like(shift["bias"])
    black = (jnp.zeros_like(images), jnp.zeros((6, 32), jnp.float32))
    for method, x, expected in zip(("encode", "decode"), black, (0, 0.5), strict=True):
        y, _ = model.apply(variables, x, True, method=method, mutable=["batch_stats"])
        np.testing.assert_array_equal(y, jnp.full(y.shape, expected, y.dtype))


def test_a_shift_of_the_batch_norms_reaches_the_latents(images):
    """What the authors' Deep SVDD encoders have, and those of Ruff et al. have not."""
    model = Autoencoder(use_bias=False)
    variables = some_variables(model, images)
    z, _ = model.apply(
        variables, jnp.zeros_like(images), True, method="encode", mutable=["batch_stats"]
    )
    assert jnp.abs(z).max() > 1e-2


@pytest.mark.parametrize(
    ("path", "fan"),
    [
        ("encoder/conv0/kernel", 25),
        ("encoder/conv1/kernel", 100),
        ("encoder/dense/kernel", 392),
        ("encoder/dense/bias", 392),
        ("decoder/dense/kernel", 32),
        ("decoder/dense/bias", 32),
        # PyTorch counts the output channels of a transposed convolution.
        ("decoder/conv0/kernel", 200),
        ("decoder/conv1/kernel", 100),
        ("decoder/conv2/kernel", 25),
    ],
)
def test_initial_values_are_uniform_within_one_over_root_fan(path, fan, default_variables):
    leaf = default_variables["params"]
    for name in path.split("/"):
        leaf = leaf[name]
    scaled = np.asarray(leaf, np.float64).ravel() * np.sqrt(fan)
    assert np.abs(scaled).max() <= 1 + 1e-6
    # Mean 0 and variance 1/3, within five standard errors (variance of u^2: 1/5 - 1/9 = 4/45).
    assert abs(scaled.mean()) < 5 * np.sqrt(1 / 3 / scaled.size)
    assert abs(np.mean(scaled**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / scaled.size)


def test_initialisers_and_slope_can_be_chosen(images):
    model = Autoencoder(kernel_init=nn.initializers.ones, bias_init=nn.initializers.zeros)
    params = jax.jit(model.init)(jax.random.key(0), images)["params"]
    for layer in (*params["encoder"].values(), *params["decoder"].values()):
        if "kernel" in layer:
            assert (layer["kernel"] == 1).all() and not layer.get("bias", jnp.zeros(1)).any()
    variables = some_variables(Autoencoder(), images)
    a, b = (evaluate(Autoencoder(negative_slope=s), variables, images)[1] for s in (0.01, 0.5))
    assert jnp.abs(a - b).max() > 1e-3


def test_many_models_at_once(images):
    model = Autoencoder(**FLOAT64)
    several = [some_variables(model, images, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    together = jax.jit(jax.vmap(lambda v: train_step(model, v, images)))(stacked)
    for i, variables in enumerate(several):
        alone = train_step(model, variables, images)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-12)
