"""Methods take their shapes from the arrays: vectors, and images of any size and channels."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import linen as nn
from support.small import built, dense

from ocsvm_jax.methods import METHODS
from ocsvm_jax.methods.turning import half_turn
from ocsvm_jax.networks import Encoder
from ocsvm_jax.networks.pair import Network, Pair, from_flax, stateless

BATCH, LATENT = 8, 3
VECTOR, IMAGE = (10,), (12, 20, 3)


def mlp(features: int, bias: bool) -> Pair:
    """Two layers, from vectors to vectors."""
    first, second = dense((16,), jnp.tanh, bias), dense((features,), lambda y: y, bias)

    def init(key, x):
        keys = jax.random.split(key)
        params, _ = first.init(keys[0], x)
        hidden, _ = first.apply(params, {}, x, False)
        return {"first": params, "second": second.init(keys[1], hidden)[0]}

    def apply(params, x):
        hidden, _ = first.apply(params["first"], {}, x, False)
        return second.apply(params["second"], {}, hidden, False)[0]

    return stateless(init, apply)


class Convolutions(nn.Module):
    """A quarter of the height and width, then a dense layer; with a batch norm."""

    features: int
    bias: bool

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(4, (3, 3), (4, 4), use_bias=self.bias, param_dtype=jnp.float32)(x)
        options = {"use_bias": self.bias, "use_scale": False, "param_dtype": jnp.float32}
        x = nn.BatchNorm(use_running_average=not train, **options)(x)
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.features, use_bias=self.bias, param_dtype=jnp.float32)(x)


class Transposed(nn.Module):
    """From latents to images of three channels."""

    @nn.compact
    def __call__(self, z, train):
        x = nn.Dense(3 * 5 * 4, param_dtype=jnp.float32)(z).reshape(-1, 3, 5, 4)
        return nn.sigmoid(nn.ConvTranspose(3, (4, 4), (4, 4), param_dtype=jnp.float32)(x))


def network(name: str, shape: tuple[int, ...]) -> Network:
    recipe = METHODS[name]
    features, bias = recipe.heads * LATENT, recipe.bias
    if shape == VECTOR:
        return Network(mlp(features, bias), mlp(VECTOR[0], True))
    return Network(from_flax(Convolutions(features, bias)), from_flax(Transposed()))


def batch(shape: tuple[int, ...]) -> jax.Array:
    """Of one direction of variation, with a little noise."""
    rng = np.random.default_rng(0)
    strength = rng.uniform(0, 1, (BATCH, *(1,) * len(shape)))
    made = (
        0.2 + 0.6 * strength * rng.uniform(0, 1, shape) + 0.02 * rng.uniform(0, 1, (BATCH, *shape))
    )
    return jnp.asarray(made, jnp.float32)


@pytest.mark.parametrize("shape", [VECTOR, IMAGE], ids=["vectors", "images"])
@pytest.mark.parametrize("name", ["ae", "ogae"])
@jax.numpy_rank_promotion("allow")  # Flax adds a bias (features,) to rows by broadcasting of ranks
def test_training(name, shape):
    method = built(name, network(name, shape), optax.sgd(0.1))
    x = batch(shape)
    state = method.init(x, jax.random.key(0))
    update = jax.jit(method.update)
    errors = []
    for epoch in range(6):
        state, parts = update(state, x, jnp.int32(epoch))
        errors.append(float(parts["reconstruction"]))
    assert errors[-1] < errors[0]
    assert method.encode(state, x).shape == (BATCH, LATENT)
    scores = method.score(state, x)
    assert {score.values.shape for score in scores.values()} == {(BATCH,)}
    mean = float(np.mean(scores["reconstruction"].values))
    if name == "ae":  # the others add to it
        assert float(method.loss(state, x)) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("shape", [VECTOR, IMAGE], ids=["vectors", "images"])
@pytest.mark.parametrize("name", METHODS)
def test_shapes(monkeypatch, name, shape):
    """Traced only; those that turn say that vectors have no upright."""
    method = built(name, network(name, shape), optax.sgd(0.1))
    x = jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)

    def step(x, key):
        state, parts = method.update(method.init(x, key), x, jnp.int32(0))
        return method.score(state, x), parts

    with jax.numpy_rank_promotion("allow"):
        if name in ("turned_ogae", "edited_ogae") and shape == VECTOR:
            monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
            with pytest.raises(ValueError, match=r"shape is \(8, 10\); only images \(b, h, w"):
                jax.eval_shape(step, x, jax.random.key(0))
            return
        scores, parts = jax.eval_shape(step, x, jax.random.key(0))
    assert {score.values.shape for score in scores.values()} == {(BATCH,)}
    assert {part.shape for part in parts.values()} == {()}


def test_half_turn_keeps_the_channels():
    x = np.asarray(batch(IMAGE))
    np.testing.assert_array_equal(half_turn(x), np.rot90(x, 2, axes=(1, 2)))


def test_the_encoder_of_the_experiments_names_its_size(monkeypatch):
    # Outside of this suite nothing checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    encoder = from_flax(Encoder(LATENT))
    with pytest.raises(ValueError, match=r"takes \(b, 28, 28, 1\)\. Pass a network of your own"):
        jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros((BATCH, *IMAGE), jnp.float32))
