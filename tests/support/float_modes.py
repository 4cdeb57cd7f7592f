"""JAX as it comes, without float64, or with it, within a block."""

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.experimental

# Older JAX has it in jax.experimental alone, newer JAX in jax alone.
_HOME: Any = jax if hasattr(jax, "enable_x64") else jax.experimental


def float32_mode() -> AbstractContextManager:
    """What most people run; this suite has float64 enabled."""
    return _HOME.enable_x64(False)


def float64_mode() -> AbstractContextManager:
    return _HOME.enable_x64(True)
