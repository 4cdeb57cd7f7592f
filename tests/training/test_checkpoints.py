"""Checkpoints whose arrays are not those that a program of today expects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ocsvm_jax.training.checkpoints import Checkpoints

STATE = {"dense": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "steps": jnp.int32(4)}


@pytest.fixture
def kept(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, STATE)
    return tmp_path


def restore(directory, like):
    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.restore(jax.eval_shape(lambda: like))


def test_the_same_arrays(kept):
    found = restore(kept, STATE)
    assert jax.tree.structure(found) == jax.tree.structure(STATE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(STATE), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("dense", "named"),
    [
        ({"kernel": jnp.ones((2, 3))}, r"dense\.bias"),
        (STATE["dense"] | {"scale": jnp.ones(3)}, r"dense\.scale"),
    ],
    ids=["fewer", "more"],
)
def test_other_arrays(kept, dense, named):
    """As those of a method whose network has lost its biases since."""
    message = (
        rf"(?s)checkpoint in .* Another version of this program wrote it.* difference: .*{named}"
    )
    with pytest.raises(ValueError, match=message):
        restore(kept, STATE | {"dense": dense})
