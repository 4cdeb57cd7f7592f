"""Networks of every form as pairs of functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from ocsvm_jax.networks.pair import Pair, from_nnx, pair_of

X = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4)), jnp.float32)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, param_dtype=jnp.float32)(x)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train, param_dtype=jnp.float32)(x)
        return nn.Dense(3, param_dtype=jnp.float32)(x)


class OfNNX(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(4, rngs=rngs, param_dtype=jnp.float32)
        self.dense = nnx.Linear(4, 3, rngs=rngs, param_dtype=jnp.float32)

    def __call__(self, x):
        return self.dense(self.norm(x))


def functions():
    return (
        lambda key, x: jax.random.normal(key, (x.shape[1], 3), jnp.float32),
        lambda weights, x: x @ weights,
    )


FORMS = {"linen": Plain, "linen, train": Normed, "functions": functions}
FORMS["nnx"] = lambda: OfNNX(nnx.Rngs(0))


@pytest.mark.parametrize("form", FORMS)
@jax.numpy_rank_promotion("allow")
def test_every_form(form):
    pair = pair_of(FORMS[form]())
    params, stats = jax.jit(pair.init)(jax.random.key(0), X)
    apply = jax.jit(pair.apply, static_argnums=3)
    y, same = apply(params, stats, X, False)
    assert y.shape == (12, 3)
    jax.tree.map(np.testing.assert_array_equal, same, stats)
    _, moved = apply(params, stats, X, True)
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
    gradient = jax.grad(lambda p: jnp.sum(pair.apply(p, stats, X, False)[0]))(params)
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))
    assert pair_of(pair) is pair


@jax.numpy_rank_promotion("allow")
def test_statistics_of_nnx():
    """Batch norm by hand: of the batch in training, of the running statistics otherwise."""
    module = OfNNX(nnx.Rngs(0))
    pair = from_nnx(module)
    params, stats = pair.init(None, X)
    y, moved = pair.apply(params, stats, X, True)
    x = np.asarray(X, np.float64)
    normed = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    kernel = np.asarray(module.dense.kernel[...], np.float64)
    np.testing.assert_allclose(y, normed @ kernel, rtol=1e-4, atol=1e-5)
    # nnx keeps 0.99 of the old mean, 0.
    means = [leaf for leaf in jax.tree.leaves(moved) if np.allclose(leaf, 0.01 * x.mean(0), 1e-3)]
    assert len(means) == 1
    y, _ = pair.apply(params, stats, X, False)
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5) @ kernel, rtol=1e-4, atol=1e-5)


def test_nnx_with_dropout_is_refused():
    with pytest.raises(ValueError, match="Dropout holds random state"):
        from_nnx(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("half", [3, "mlp", (1, 2), (len,), None], ids=str)
def test_what_is_no_network(half):
    with pytest.raises(TypeError, match="it must be a Flax Linen module, an nnx module, a pair"):
        pair_of(half)
    assert isinstance(pair_of(Plain()), Pair)
