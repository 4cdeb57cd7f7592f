"""What a recipe asks of the network, on the network of the experiments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.small import SETTINGS

from ocsvm_jax.experiments import config as experiment
from ocsvm_jax.methods import METHODS

WITHOUT_BIAS = {"deep_svdd", "soft_deep_svdd", "dspsvdd", "dvaesvdd"}
NORMS = {f"['norm{i}']['bias']" for i in (0, 1)}
TWO_HEADS = {"vae", "dvaesvdd"}
BATCH, LATENT = 4, 5


def method(name, pretrain=0.5):
    some = SETTINGS | {"pretrain": pretrain, "name": name, "latent_dim": LATENT}
    return experiment.method_of(some, 1e-3)


def shapes(name):
    images = jax.ShapeDtypeStruct((BATCH, 28, 28, 1), jnp.float32)
    return method(name), jax.eval_shape(method(name).init, images, jax.random.key(0)), images


def paths(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize("name", METHODS)
def test_networks_without_biases(name):
    """Of the layers; the batch norms keep their shift."""
    _, state, _ = shapes(name)
    layers = {
        "encoder": {"['dense']['bias']"},
        "decoder": {"['dense']['bias']", "['conv2']['bias']"},
    }
    for part, own in layers.items():
        biases = {path for path in paths(state.params[part]) if "bias" in path}
        assert biases == NORMS | (set() if name in WITHOUT_BIAS else own)
    assert METHODS[name].bias == (name not in WITHOUT_BIAS)


@pytest.mark.parametrize("name", METHODS)
def test_heads(name):
    built, state, images = shapes(name)
    kernel = state.params["encoder"]["dense"]["kernel"]
    assert kernel.shape == (392, LATENT * (2 if name in TWO_HEADS else 1))
    assert state.params["decoder"]["dense"]["kernel"].shape == (LATENT, 392)
    assert jax.eval_shape(built.encode, state, images).shape == (BATCH, LATENT)


def test_without_biases_a_black_image_is_encoded_as_zero_at_first():
    """The centre is never there; in training the shift of a batch norm may move it away."""
    black = jnp.zeros((BATCH, 28, 28, 1), jnp.float32)
    built = method("deep_svdd", pretrain=0.0)
    z = jax.jit(lambda key: built.encode(built.init(black, key), black))(jax.random.key(0))
    np.testing.assert_array_equal(z, np.zeros((BATCH, LATENT)))
