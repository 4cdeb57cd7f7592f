"""Packages that come with an extra of the installation, and the error that names the extra."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

# Name in `import` -> name in `pip install`, for every package that an extra installs.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "array_record": "array_record",
    "flatbuffers": "flatbuffers",
    "importlib_resources": "importlib_resources",
    "joblib": "joblib",
    "matplotlib": "matplotlib",
    "ml_collections": "ml_collections",
    "nibabel": "nibabel",
    "nilearn": "nilearn",
    "orbax": "orbax-checkpoint",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tqdm": "tqdm",
}


class MissingExtraError(ModuleNotFoundError):
    """A package of an extra is not installed; the message holds the command that installs it."""


@contextmanager
def needed_by(user: str, extra: str, *, script: bool = False) -> Iterator[None]:
    """Failed imports in this context raise an error that says how to install the extra.

        with extras.needed_by("ocsvm_jax.sklearn", "sklearn"):
            from sklearn.base import BaseEstimator

    Args:
      user: what needs the packages; the message begins with it.
      extra: the extra in pyproject.toml that installs them.
      script: print the message and exit with code 2 instead of raising, as scripts do for all
        errors that their user can fix.

    Raises:
      MissingExtraError: a package in `DISTRIBUTIONS` is missing. Other errors pass unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in DISTRIBUTIONS:
            raise
        message = (
            f"{user} needs {DISTRIBUTIONS[package]}, which is not installed: "
            f"pip install 'ocsvm_jax[{extra}]'"
        )
        if script:
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        raise MissingExtraError(message, name=error.name) from error


def load(module: str, user: str, extra: str) -> ModuleType:
    """Imports a module of an extra on first use; see `needed_by`.

    Raises:
      MissingExtraError: the extra is not installed.
    """
    with needed_by(user, extra):
        return importlib.import_module(module)
