"""The brain experiment in small, to see every part of it work: no result.

    python train.py --config=configs/brain_quick.py

One 96 x 96 crop of a slice of 8 synthetic subjects; under 2 minutes on 2 CPU cores.
"""

from ml_collections import ConfigDict

from configs import brain


def get_config() -> ConfigDict:
    """See the module docstring."""
    config = brain.get_config()
    config.seeds = (0,)
    config.methods = ("ogae", "sae", "darkness", "minus_z", "mahalanobis")
    config.data.profile = "ci"
    config.train.epochs = 2
    config.train.steps = 50
    config.eval.resamples = 200
    return config
