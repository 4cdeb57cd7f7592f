"""Trees packed into a vector per dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.arrays.packing import packed


def tree(*leading):
    rng = np.random.default_rng(0)
    return {
        "a": jnp.asarray(rng.normal(size=(*leading, 2, 3)), jnp.float32),
        "b": (jnp.asarray(rng.integers(9, size=leading), jnp.int32), None),
        "c": jnp.asarray(rng.random((*leading, 4)) < 0.5),
        "d": jnp.asarray(rng.normal(size=leading), jnp.float32).at[...].set(np.nan),
        "e": jnp.zeros((*leading, 0, 2), jnp.float32),
    }


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("leading", [(), (5,), (5, 2)])
def test_unpacked_is_what_was_packed(leading):
    it = packed(tree(*leading), leading=len(leading))
    assert [v.shape for v in it.vectors] == [(*leading, 7), (*leading, 1), (*leading, 4)]
    assert_same(it.unpacked(), tree(*leading))


def test_rows_of_a_packed_ring_are_packed_records():
    ring, record = packed(tree(5), leading=1), jax.tree.map(lambda a: a[3] + a[1], tree(5))
    ring = jax.tree.map(lambda kept, new: kept.at[2].set(new), ring, packed(record))
    expected = jax.tree.map(lambda kept, new: kept.at[2].set(new), tree(5), record)
    assert_same(ring.unpacked(), expected)


def test_other_trees_have_other_layouts():
    # As the layout is static, a compiled function is not run for a tree of another form.
    a, b = (
        packed({"x": jnp.zeros(2), "y": jnp.ones(1)}),
        packed({"x": jnp.zeros(1), "y": jnp.ones(2)}),
    )
    assert jax.tree.structure(a) != jax.tree.structure(b)
    unpack = jax.jit(lambda it: it.unpacked())
    assert [leaf.shape for leaf in jax.tree.leaves(unpack(a))] == [(2,), (1,)]
    assert [leaf.shape for leaf in jax.tree.leaves(unpack(b))] == [(1,), (2,)]


def test_a_scan_stacks_packed_scalars_and_vmap_batches_them():
    def step(carry, x):
        return carry, packed({"square": x**2, "sign": x < 0})

    x = jnp.arange(-3.0, 5.0).reshape(2, 4)
    _, parts = jax.vmap(lambda row: jax.lax.scan(step, None, row))(x)
    assert_same(parts.unpacked(), {"square": x**2, "sign": x < 0})
