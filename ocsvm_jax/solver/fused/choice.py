"""Where the fused programs serve: which platform, size, dtype and wish of the user.

They are offered to the compiler, which takes them where it compiles for CUDA; a computation that is
placed on another device gets the loops of plain JAX.
"""

import importlib.util
import os
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

Choice: TypeAlias = Literal["plain", "fused", "interpret"]

# The environment variable by which a user chooses.
_SETTING = "OCSVM_JAX_FUSED"
_WISHES = ("auto", "on", "off", "interpret")
# The most points of a problem: K must fit into the cache of one multiprocessor.
_LARGEST = 128
# Triton supports Ampere and newer GPUs.
_CAPABILITY = 8.0


def choice(n: Any, dtype: Any) -> Choice:
    """How to solve problems of n points: "plain", "fused" where compiled for CUDA, or "interpret".

    The environment variable OCSVM_JAX_FUSED decides when a function is traced: "auto" (the default)
    offers the fused programs if JAX's default backend is a GPU that they support, "on" always (to
    compile for a GPU on a machine without one), "off" never (to serialise with `jax.export`).
    "interpret" runs them operation by operation on any device, slowly, for tests.

    Args:
      n: number of points, symbolic under `jax.export` with symbolic shapes.
      dtype: of the solve.

    Raises:
      ValueError: if the variable has another value.
    """
    wish = os.environ.get(_SETTING, "") or "auto"
    if wish not in _WISHES:
        raise ValueError(f"{_SETTING} is {wish!r}; it must be one of {', '.join(_WISHES)}.")
    small = isinstance(n, int) and n <= _LARGEST and jnp.dtype(dtype).name in ("float32", "float64")
    if wish == "off" or not small:
        return "plain"
    if wish == "interpret":
        return "interpret"
    return "fused" if wish == "on" or _supported() else "plain"


def _supported() -> bool:
    """Whether JAX's default backend is a CUDA GPU for which this JAX has Triton."""
    if jax.default_backend() != "gpu":
        return False
    # JAX 0.12 announces that a later release will do without.
    if importlib.util.find_spec("jax.experimental.pallas.triton") is None:
        return False
    # ROCm has no such number; its GPUs have names such as "gfx90a".
    capability = str(getattr(jax.local_devices()[0], "compute_capability", ""))
    try:
        return float(capability) >= _CAPABILITY
    except ValueError:
        return False
