"""What the library wants to know about the devices that it runs on."""

from typing import Any

import jax


def on_cpu() -> bool:
    """Whether what is being traced will run on a CPU, judged by the default backend.

    A computation placed on another device is still right, only slower.
    """
    return jax.default_backend() == "cpu"


def memory(device: Any) -> int | None:
    """Bytes of memory that JAX may use on a device; None if the device does not say."""
    return (device.memory_stats() or {}).get("bytes_limit")
