"""The paper's first experiment: digit 3 against 8 of MNIST-C, under corruptions not trained on.

    python train.py --config=configs/mnistc.py --config.data.dir=PATH_TO_MNIST_C

Add --config.method.name=ae for the plain autoencoder. One seed takes less than 2 minutes on 2 CPU
cores. For results over five seeds see docs/table1.md, for the time they took
benchmarks/results/table1.md.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    """See the module docstring; all other fields are those of configs/digits.py."""
    config: Any = digits.get_config()
    config.data.name = "mnist_c"
    config.data.dir = ""  # folder, mnist_c.zip or prepared TFDS directory; empty: TFDS's default

    config.train.epochs = 20
    config.train.batch_size = 100
    config.train.patience = 5  # epochs
    config.train.checkpoint_every = 1  # epochs
    return config
