"""What the library wants to know about the devices that it runs on."""

import jax


def on_cpu() -> bool:
    """Whether what is being traced will run on a CPU, judged by the default backend.

    A computation placed on another device is still right, only slower.
    """
    return jax.default_backend() == "cpu"
