"""Table I for several pairs of digits: the table of every pair, and ranks over the pairs.

    python train.py --config=configs/mnistc_pairs.py --config.data.dir=PATH_TO_MNIST_C

One directory per pair, such as 3-8, with the files of a table; above them the report of all pairs.
To continue a killed call, repeat the command; to add pairs, name only the new ones. A pair takes as
long as the table of configs/mnistc_table1.py. With --config.data.name=digits and --config.quick all
of it is small and means nothing.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnistc_table1


def get_config() -> ConfigDict:
    """See the module docstring; all other fields are those of configs/mnistc_table1.py."""
    config: Any = mnistc_table1.get_config()
    # (normal digit, anomalous digit); they take the place of data.normal and data.anomalies. In the
    # first two an 8 looks the same when turned by 180 degrees, in the last a 0 does.
    config.pairs = ((3, 8), (8, 3), (5, 6), (7, 1), (0, 6))
    return config
