"""How public functions look at their arguments: one float dtype, and errors before long work."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def as_float(x: Any) -> jax.Array:
    """Integers become the default float, half precision float32; float32 and float64 stay."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(jnp.result_type(float))
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def is_concrete(x: Any) -> bool:
    """Whether the value can be looked at now, that is, is not being traced."""
    return not isinstance(x, Tracer)
