"""The networks that inputs get by default: shapes of all sizes, and strided convolutions."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from ocsvm_jax.networks import default_latent_dim, default_network
from ocsvm_jax.networks.patched import (
    by_convolution,
    by_products,
    folded,
    stages_of,
    unfolded,
)

SHAPES = [
    ("vectors", (1,)),
    ("vectors", (300,)),
    ("images", (1, 1, 1)),
    ("images", (3, 4, 2)),
    ("images", (8, 8, 1)),
    ("images", (9, 7, 3)),
    ("images", (5, 1, 1)),
    ("images", (33, 100, 12)),
    ("series", (4, 1)),
    ("series", (50, 3)),
]


@pytest.mark.parametrize(("kind", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("heads", [1, 2])
@jax.numpy_rank_promotion("allow")
def test_shapes(kind, shape, heads):
    network = default_network(kind, shape, 3, heads=heads, bias=heads == 1)
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    z = jax.ShapeDtypeStruct((2, 3), jnp.float32)

    def both(x, z, key):
        found = []
        for half, given in zip(network, (x, z), strict=True):
            params, stats = half.init(key, given)
            found.append((half.apply(params, stats, given, True)[0], params))
        return found

    (latents, _), (outputs, params) = jax.eval_shape(both, x, z, jax.random.key(0))
    assert latents.shape == (2, 3 * heads)
    assert outputs.shape == (2, *shape)
    assert latents.dtype == outputs.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")  # which Flax's norms need
def test_half_precision_is_of_the_arithmetic_alone():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)
    found = {}
    for dtype in ("float32", "bfloat16"):
        encoder = default_network("images", (8, 8, 1), 3, dtype=jnp.dtype(dtype)).encoder
        params, stats = encoder.init(jax.random.key(0), x)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        found[dtype] = encoder.apply(params, stats, x, False)[0]
        assert found[dtype].dtype == jnp.float32
    np.testing.assert_allclose(found["bfloat16"], found["float32"], atol=0.03)
    assert np.any(found["bfloat16"] != found["float32"])


@pytest.mark.parametrize(("kind", "shape"), [("images", (8, 8)), ("vectors", (0,))], ids=str)
def test_shapes_that_do_not_exist(kind, shape):
    with pytest.raises(ValueError, match="is not one of"):
        default_network(kind, shape, 3)


def test_an_unknown_kind(monkeypatch):
    # Outside of this suite nothing checks annotations.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="kind is 'table'; it must be one of"):
        default_network("table", (3,), 3)  # pyright: ignore[reportArgumentType]


def test_latent_dimensions():
    found = [default_latent_dim(shape) for shape in [(1,), (5,), (13,), (300,), (28, 28, 1)]]
    assert found == [2, 2, 6, 32, 32]


@pytest.mark.parametrize("sizes", [(8, 6), (9, 7), (5, 10)], ids=str)
def test_folding_and_a_product_are_a_strided_convolution(sizes):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *sizes, 3)))
    kernel = jnp.asarray(rng.normal(size=(2, 2, 3, 4)))
    found = folded(x, (2, 2)) @ kernel.reshape(12, 4)
    ends = [(0, size % 2) for size in sizes]
    dimensions = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, kernel, (2, 2), ends, dimension_numbers=dimensions)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("space", [(7, 5), (6,), (1, 4)], ids=str)
def test_both_forms_of_the_convolution(space):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *space, 3)))
    kernel = jnp.asarray(rng.normal(size=(*(3,) * len(space), 3, 4)))
    expected = np.zeros((2, *space, 4))
    for place in np.ndindex(*space):
        for tap in np.ndindex(*kernel.shape[:-2]):
            other = tuple(p + t - 1 for p, t in zip(place, tap, strict=True))
            if all(0 <= o < n for o, n in zip(other, space, strict=True)):
                expected[:, *place] += np.asarray(x)[:, *other] @ np.asarray(kernel)[tap]
    for form in (by_products, by_convolution):
        np.testing.assert_allclose(form(x, kernel), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("factors", [(2, 2), (1, 2), (4, 1)], ids=str)
def test_unfolding_is_the_reverse(factors):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 6, 3)))
    np.testing.assert_array_equal(unfolded(folded(x, factors), factors, (9, 6)), x)


def test_stages():
    found = [(s.larger, s.smaller, s.channels) for s in stages_of((64, 30), 8)]
    assert found == [((64, 30), (16, 15), 16), ((16, 15), (8, 8), 32), ((8, 8), (4, 4), 64)]
    assert [s.smaller for s in stages_of((100, 3), 8)] == [(25, 3), (13, 3), (7, 3), (4, 3)]
    assert stages_of((4, 4), 8) == []
