"""A small brain experiment that exercises every part; its values are not results.

    python train.py --config=configs/brain_quick.py

One 96 x 96 crop of one slice of 8 synthetic subjects; under 2 minutes on 2 CPU cores.
"""

from ml_collections import ConfigDict

from configs import brain


def get_config() -> ConfigDict:
    """See the module docstring."""
    config = brain.get_config()
    changes = {
        "seeds": (0,),
        "methods": ("ogae", "sae", "darkness", "minus_z", "mahalanobis"),
        "data": {"profile": "ci"},
        "train": {"epochs": 2, "steps": 50},
        "eval": {"resamples": 200},
    }
    config.update(changes)
    return config
