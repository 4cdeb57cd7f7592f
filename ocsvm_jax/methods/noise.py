"""Keys of methods that draw in every step.

The state holds key data, because checkpoints cannot hold keys.
"""

import jax
from jaxtyping import Array


def key_of_step(noise: Array) -> Array:
    """The key for this step.

    Args:
      noise: key data, as `jax.random.key_data` gives them.
    """
    return _split(noise)[1]


def next_noise(noise: Array) -> Array:
    """The key data for the next step."""
    return jax.random.key_data(_split(noise)[0])


def _split(noise: Array) -> tuple[Array, Array]:
    """The key for all further steps, and the key for this one."""
    further, this = jax.random.split(jax.random.wrap_key_data(noise))
    return further, this
