"""The final one-class SVM, fitted to the latents of all training images, and what it is called."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.arrays.scaling import standardized
from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.kernels import Kernel, is_shift_invariant, log_gram, resolve_gamma, scaled
from ocsvm_jax.methods.kernel_names import kernel_named
from ocsvm_jax.model import OCSVM
from ocsvm_jax.path import choose_model, robust_defaults

# The scores that use a final one-class SVM; a name such as "contrast gamma=0.1 ..." says which.
FINAL_SCORES = ("ocsvm", "ocsvm-log", "contrast", "contrast+error")
# Rules for gamma beyond those of `resolve_gamma`, which compare the points.
RULES: dict[str, Callable[..., Any]] = {"neighbours": robust_defaults, "chosen": choose_model}
_ROUND = 1024


class Final(NamedTuple):
    """Settings of a final one-class SVM.

    Attributes:
      nu: in (0, 1].
      gamma: of the kernel: a positive number; of the RBF kernel also "scale" or "auto", and the
        rules of `ocsvm_jax.path`, "neighbours" (`robust_defaults`) or "chosen" (`choose_model`).
        The linear kernel has none.
      standardize: whether latents are divided by their standard deviation first.
      kernel: "rbf", "laplacian" or "linear".
    """

    nu: float = 0.03
    gamma: float | str = 0.01
    standardize: bool = True
    kernel: str = "rbf"

    @property
    def name(self) -> str:
        """A name such as "gamma=0.1 nu=0.03 standardize=True", of an RBF kernel."""
        fields = self._asdict()
        left_out = {"rbf": "kernel", "linear": "gamma"}.get(self.kernel)
        return " ".join(f"{k}={value}" for k, value in sorted(fields.items()) if k != left_out)

    def kernel_for(self, z: Float[Array, "n d"]) -> Kernel:
        """The kernel; a rule for gamma is applied to the points z."""
        gamma = self.gamma
        if gamma in RULES:
            gamma = RULES[gamma](np.asarray(z)).gamma  # pyright: ignore[reportArgumentType]
        elif self.kernel == "rbf":
            gamma = resolve_gamma(gamma, z)
        return kernel_named(self.kernel, gamma)  # pyright: ignore[reportArgumentType]


def finals_of(grid: Mapping[str, Sequence]) -> dict[str, Final]:
    """All settings of a grid with the axes nu, gamma and standardize (RBF kernels), by their names.

    Raises:
      ValueError: if it has other axes.
    """
    axes = ("nu", "gamma", "standardize")
    if sorted(grid) != sorted(axes):
        raise ValueError(f"the grid of finals has the axes {list(grid)}; it needs {axes}.")
    points = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return {final.name: final for final in (Final(**point) for point in points)}


def family(name: str) -> str:
    """The score that a name such as "ocsvm gamma=0.1 nu=0.03 standardize=True" is a variant of."""
    return name.split(" ", 1)[0]


def final_of(name: str) -> str | None:
    """The final one-class SVM in such a name; None for a score that uses none."""
    _, _, final = name.partition(" ")
    return final or None


def score_name(score: str, final: str | None) -> str:
    """The name of a score; `final` is that of the final one-class SVM it uses, if it uses one."""
    return score if final is None else f"{score} {final}"


def fit_latents(z: Float[np.ndarray, "n d"], settings: Final) -> OCSVM:
    """Fits one one-class SVM to the latents of all training images (the paper's final score).

    Raises:
      ValueError: if a latent is not finite.
    """
    if not np.all(np.isfinite(z)):
        raise ValueError(
            "the latents hold NaN or infinite values: training has diverged. Lower the learning "
            "rate or the guidance weight."
        )
    points = jnp.asarray(z)
    if not settings.standardize:
        return ocsvm_fit(points, settings.nu, settings.kernel_for(points))
    scale = standardized(points).std
    kernel = scaled(settings.kernel_for(points / scale[None, :]), scale)
    return ocsvm_fit(points, settings.nu, kernel)


def ocsvm_score(ocsvm: OCSVM, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Minus the decision function at each latent, added up in float64 on the host (see `Score`).

    Latents go through in blocks of one size: a score does not depend on how many others there are.
    """
    expansion = in_blocks(_rounded_up(ocsvm).kernel_expansion, [z], block=_ROUND)
    return float(ocsvm.rho) - expansion.astype(np.float64)


def ocsvm_log_score(ocsvm: OCSVM, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"] | None:
    """log(rho) - log(f + rho) at each latent: in the order of -f, and without its saturation.

    Far from all support vectors f + rho is 0 in float32 and -f is rho, whatever the distance; this
    score still grows with it. None for a kernel without a logarithm.
    """
    if not is_shift_invariant(ocsvm.kernel):
        return None
    log_expansion = in_blocks(partial(_log_expansion, _rounded_up(ocsvm)), [z], block=_ROUND)
    return float(np.log(ocsvm.rho)) - log_expansion.astype(np.float64)


@jax.jit
def _log_expansion(ocsvm: OCSVM, z: Float[Array, "n d"]) -> Float[Array, " n"]:
    log_k = log_gram(ocsvm.kernel, ocsvm.in_coordinates(z), ocsvm.support_vectors)
    return jax.nn.logsumexp(log_k, b=ocsvm.coefficients[None, :], axis=1)


def _rounded_up(ocsvm: OCSVM) -> OCSVM:
    """The same function with a round number of support vectors: few shapes, few compilations."""
    more = -len(ocsvm.coefficients) % _ROUND
    return dataclasses.replace(
        ocsvm,
        # Copies of a real one, of coefficient 0.
        support_vectors=jnp.pad(ocsvm.support_vectors, ((0, more), (0, 0)), mode="edge"),
        coefficients=jnp.pad(ocsvm.coefficients, (0, more)),
    )
