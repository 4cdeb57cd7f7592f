"""The cards and images that the benchmarks of training share."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from configs import mnistc  # noqa: E402


def card(name: str, data_dir: str = "") -> Any:
    """configs/mnistc.py for one method, in whose second phase both guidance routes are at work."""
    config: Any = mnistc.get_config()
    config.method.name, config.data.dir, config.train.epochs = name, data_dir, 2
    return config


def blobs(count: int) -> np.ndarray:
    """Smooth random images: latents, and so the duals, are not degenerate."""
    noise = np.random.default_rng(0).random((count, 7, 7, 1))
    return (255 * noise.repeat(4, 1).repeat(4, 2)).astype(np.uint8)
