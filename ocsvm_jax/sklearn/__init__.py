"""Estimators with scikit-learn's interface, solved by this package. NumPy in, NumPy out."""

from ocsvm_jax import extras

with extras.needed_by(__name__, "sklearn"):
    from ocsvm_jax.sklearn.one_class import OneClassSVM
    from ocsvm_jax.sklearn.svdd import SVDD

# Pickles and skops files refer to the public path, whichever file holds the class.
for _estimator in (OneClassSVM, SVDD):
    _estimator.__module__ = __name__

__all__ = ["SVDD", "OneClassSVM"]
