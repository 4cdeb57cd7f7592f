"""The experiments: cards, working directories, and what a card runs."""

from ocsvm_jax import extras

with extras.needed_by(__name__, "train"):
    import ml_collections  # noqa: F401 the first of many; the rest of the extra comes with it
