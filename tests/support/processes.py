"""The environment of Python processes that tests start."""

import os
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]


def environment(devices: int | None = None) -> dict[str, str]:
    """That of this process, for one on the CPU that imports the package and what is in tests/.

    Args:
      devices: how many devices XLA makes of the CPU; one if not given.
    """
    # A user may have asked for another number of devices than a test is about.
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in f]
    if devices is not None:
        flags.append(f"--xla_force_host_platform_device_count={devices}")
    return os.environ | {
        "XLA_FLAGS": " ".join(flags),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, (_TESTS.parent, _TESTS))),
    }
