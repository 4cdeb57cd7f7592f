"""A pytest plugin: the tests it runs find this package's OneClassSVM where scikit-learn's was."""

import sklearn.svm
import sklearn.svm._classes

from ocsvm_jax.sklearn import OneClassSVM

# Before the tests, or what they test, import it by name.
sklearn.svm.OneClassSVM = OneClassSVM
sklearn.svm._classes.OneClassSVM = OneClassSVM
