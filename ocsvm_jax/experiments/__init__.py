"""The experiments: cards, working directories, and the runs that cards describe."""

from ocsvm_jax import extras

with extras.needed_by(__name__, "train"):
    import ml_collections  # noqa: F401 a probe: the rest of the extra is installed with it
