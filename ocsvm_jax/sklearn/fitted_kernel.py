"""The kernel of a fit, kept as plain numbers, which any file format can hold without a class."""

from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from ocsvm_jax import kernels
from ocsvm_jax.sklearn.inputs import resolved_gamma
from ocsvm_jax.sklearn.parameters import is_kernel_object

_WITH_GAMMA = ("poly", "rbf", "sigmoid", "laplacian")


class FittedKernelMixin:
    """The kernel of an estimator's last fit."""

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        # Version 0.1.0 kept only the kernel.
        if hasattr(state.get("_kernel"), "gamma"):
            self.gamma_ = float(state["_kernel"].gamma)

    @property
    def _gamma(self) -> float:
        """`gamma_` under the name that converters of scikit-learn models look for."""
        return getattr(self, "gamma_", 0.0)

    @property
    def _kernel(self) -> Any:
        """The kernel of the fit, even if parameters have been set since."""
        if "_fitted_kernel" in self.__dict__:
            return _make(self._fitted_kernel)
        return self.__dict__["_kernel"]  # from a pickle of version 0.1.0

    def _resolve_kernel(self, x: Any, w: np.ndarray) -> None:
        self._fitted_kernel = _describe(self, x, w)
        self.__dict__.pop("gamma_", None)
        gamma = _gamma_of(self._fitted_kernel)
        if gamma is not None:
            self.gamma_ = gamma


def _describe(estimator: Any, x: Any, w: np.ndarray) -> dict[str, Any]:
    """A description from which `_make` rebuilds the kernel of a fit."""
    kernel = estimator.kernel
    if is_kernel_object(kernel):
        return {"object": kernel}
    # A callable gives kernel matrices, which are then treated as "precomputed".
    described: dict[str, Any] = {"name": kernel if isinstance(kernel, str) else "precomputed"}
    if kernel in _WITH_GAMMA:
        described["gamma"] = float(resolved_gamma(estimator.gamma, x, w))
    if kernel in ("poly", "sigmoid"):
        described["coef0"] = float(estimator.coef0)
    if kernel == "poly":
        described["degree"] = int(estimator.degree)
    return described


def _gamma_of(described: dict[str, Any]) -> float | None:
    """The value of gamma, or None if the kernel has no gamma."""
    found = described.get("gamma", getattr(described.get("object"), "gamma", None))
    return None if found is None else float(found)


def _make(described: dict[str, Any]) -> Any:
    """The kernel of this package that a description stands for."""
    if "object" in described:
        # jit takes arrays only, so a function becomes a static part of the pytree.
        static = lambda leaf: Partial(leaf) if callable(leaf) else leaf  # noqa: E731
        return jax.tree.map(static, described["object"])
    numbers = {key: value for key, value in described.items() if key != "name"}
    makers = {
        "linear": kernels.linear,
        "poly": kernels.polynomial,
        "rbf": kernels.rbf,
        "sigmoid": kernels.sigmoid,
        "laplacian": kernels.laplacian,
        "precomputed": kernels.precomputed,
    }
    return makers[described["name"]](**numbers)
