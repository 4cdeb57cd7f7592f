"""OCSVM: a fitted one-class SVM as a pytree; score, save, load. `ocsvm_fit` makes it."""

import dataclasses
import os
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ocsvm_jax import model_file
from ocsvm_jax.arguments import as_float
from ocsvm_jax.kernel_sums import kernel_sum
from ocsvm_jax.kernels import Precomputed
from ocsvm_jax.pytrees import pytree


class FitInfo(NamedTuple):
    """How a fit ended.

    Attributes:
      support: (m,) which rows of the points fitted the support vectors were.
      gap: () the KKT gap reached, in units of the kernel.
      num_steps: () how many steps (rounds, beyond 1,024 points) it took.
      status: () one of `Status`; look at it.
    """

    support: Int[Array, " m"]
    gap: Float[Array, ""]
    num_steps: Int[Array, ""]
    status: Int[Array, ""]


@pytree(data_fields=["support_vectors", "coefficients", "rho", "kernel"])
@dataclasses.dataclass(frozen=True)
class OCSVM:
    """A fitted one-class SVM: f(z) = sum_j coefficients_j k(support_vectors_j, z) - rho.

    Attributes:
      support_vectors: (m, d) the points with alpha > 0; of a precomputed kernel, (m, 1) their rows.
      coefficients: (m,) their alpha, summing to 1.
      rho: () offset, in units of the kernel.
      kernel: the kernel, itself a pytree; a plain function is wrapped to be a static part of it.
      info: how the fit ended. It is no part of the pytree: a model that comes out of a
        transformation, or was made by hand, has None.
    """

    # A model may be stacked, for `vmap`, as any pytree.
    support_vectors: Float[Array, "*batch m d"] | Int[Array, "*batch m 1"]
    coefficients: Float[Array, "*batch m"]
    rho: Float[Array, "*batch"]
    kernel: Any
    info: FitInfo | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def decision_function(self, x: Float[Array, "q d"]) -> Float[Array, " q"]:
        """The decision value of each row of x, positive inside and negative outside.

        No matrix of all rows with all support vectors is formed. x is cast to the dtype of the
        model. Of a model of a precomputed kernel, x is (q, n): the kernel with all n points.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        return self.kernel_expansion(x) - self.rho

    def kernel_expansion(self, x: Float[Array, "q d"]) -> Float[Array, " q"]:
        """The decision function without its offset rho: sum_j coefficients_j k(z_j, x).

        It ranks points far from all support vectors, where the difference to rho rounds away.
        """
        x = as_float(x).astype(self.coefficients.dtype)
        if isinstance(self.kernel, Precomputed):
            return self._precomputed_expansion(x)
        d = self.support_vectors.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x has shape {x.shape}; this model was fitted on points (n, {d}).")
        return kernel_sum(self.kernel, self.support_vectors, self.coefficients, x)

    def _precomputed_expansion(self, k_query: Float[Array, "q n"]) -> Float[Array, " q"]:
        n = self.kernel.num_points
        if k_query.ndim != 2 or k_query.shape[1] != n:
            raise ValueError(
                f"x has shape {k_query.shape}; this model was fitted on a precomputed ({n}, {n}) "
                f"kernel matrix and takes the kernel of each query with those points, (q, {n})."
            )
        return jnp.matmul(
            k_query[:, self.support_vectors[:, 0]],
            self.coefficients,
            precision=lax.Precision.HIGHEST,
        )

    def with_info(self, info: FitInfo | None) -> "OCSVM":
        """The same model with another `info`."""
        model = dataclasses.replace(self)
        object.__setattr__(model, "info", info)
        return model

    def save(self, path: str | os.PathLike) -> None:
        """Writes an `.npz` without pickle, whole or not at all.

        Raises:
          ValueError: if the kernel is not made of those of ocsvm_jax.kernels.
        """
        arrays = {name: getattr(self, name) for name in model_file.ARRAYS}
        info = {} if self.info is None else self.info._asdict()
        model_file.write(path, self.kernel, arrays | info)

    @staticmethod
    def load(path: str | os.PathLike) -> "OCSVM":
        """Reads what `save` wrote; never executes anything it finds in the file.

        float64 arrays become float32 where JAX's float64 is not enabled.

        Raises:
          OSError: if the file can not be read, FileNotFoundError among them.
          ValueError: on any other or damaged file.
        """
        kernel, arrays = model_file.read(path)
        model = OCSVM(kernel=kernel, **{name: arrays.pop(name) for name in model_file.ARRAYS})
        return model.with_info(FitInfo(**arrays)) if arrays else model
