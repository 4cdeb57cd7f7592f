"""OCSVM: a fitted one-class SVM as a pytree; score, save, load. `ocsvm_fit` makes it."""

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from ocsvm_jax import forks, model_file
from ocsvm_jax.arrays.arguments import as_float, as_numbers
from ocsvm_jax.arrays.points import query_points
from ocsvm_jax.arrays.pytrees import pytree
from ocsvm_jax.arrays.summary import counted, shown, shown_range
from ocsvm_jax.calibrated import CalibratedOCSVM
from ocsvm_jax.kernel_sums import kernel_sum
from ocsvm_jax.kernels import Precomputed
from ocsvm_jax.solver.solution import describe_status

# What decides in `predict` is a difference of numbers rounded by about this many units.
_ROUNDING_UNITS = 64


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

    def __repr__(self) -> str:
        vectors = counted((np.shape(self.support) or (0,))[-1], "support vector")
        ranges = (shown_range(name, getattr(self, name)) for name in ("gap", "num_steps"))
        return f"FitInfo({vectors}, {', '.join(ranges)}, {describe_status(self.status)})"


@pytree(data_fields=["support_vectors", "coefficients", "rho", "kernel", "centre"])
@dataclasses.dataclass(frozen=True, repr=False)
class OCSVM:
    """A fitted one-class SVM: f(z) = sum_j coefficients_j k(support_vectors_j, z) - rho.

    Attributes:
      support_vectors: (m, d) the points with alpha > 0; of a precomputed kernel, (m, 1) their rows.
      coefficients: (m,) their alpha, summing to 1.
      rho: () offset, in units of the kernel.
      kernel: the kernel, itself a pytree; a plain function is wrapped to be a static part of it.
      centre: None; or (2, d), where the dtype could not hold points so far from 0 (time stamps in
        float32): the support vectors are the points less centre[0] + centre[1], and queries are
        moved likewise, those of NumPy before they are cast.
      info: how the fit ended. It is no part of the pytree: a model that comes out of a
        transformation, or was made by hand, has None.
    """

    # A model may be stacked, for `vmap`, as any pytree.
    support_vectors: Float[Array, "*batch m d"] | Int[Array, "*batch m 1"]
    coefficients: Float[Array, "*batch m"]
    rho: Float[Array, "*batch"]
    kernel: Any
    centre: Float[Array, "*batch 2 d"] | None = None
    info: FitInfo | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        *batch, m, d = np.shape(self.support_vectors) or (0, 0)
        stack = f"{'x'.join(map(str, batch))} models of " if batch else ""
        of_dims = "" if isinstance(self.kernel, Precomputed) else f" of {counted(d, 'dim')}"
        parts = [
            f"{stack}{counted(m, 'support vector')}{of_dims}",
            shown(self.kernel),
            shown_range("rho", self.rho),
        ]
        if self.info is not None:
            parts.append(describe_status(self.info.status))
        return f"OCSVM({', '.join(parts)})"

    def decision_function(self, x: Num[ArrayLike, "q d"]) -> Float[Array, " q"]:
        """The decision value of each row of x, positive inside and negative outside.

        No matrix of all rows with all support vectors is formed. x is cast to the dtype of the
        model. Of a model of a precomputed kernel, x is (q, n): the kernel with all n points.

        Warns:
          PrecisionWarning: where that cast moves NumPy's rows by more than 1e-3 of the spread of
            the support vectors.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        return self.kernel_expansion(x) - self.rho

    def kernel_expansion(self, x: Num[ArrayLike, "q d"]) -> Float[Array, " q"]:
        """The decision function without its offset rho: sum_j coefficients_j k(z_j, x).

        It ranks points far from all support vectors, where the difference to rho rounds away.
        """
        if isinstance(self.kernel, Precomputed):
            return self._precomputed_expansion(x)
        forks.refuse("OCSVM")
        x = self.in_coordinates(x)
        return kernel_sum(self.kernel, self.support_vectors, self.coefficients, x)

    def predict(self, x: Num[ArrayLike, "q d"]) -> Int[Array, " q"]:
        """+1 inside and -1 outside: (q,) int32, as scikit-learn's.

        A point on the boundary, whose decision value is 0 but for rounding and the gap of the fit,
        counts as inside: the free support vectors lie there. The boundary promises no rate of false
        alarms on new points; `calibrate` does.
        """
        expansion = self.kernel_expansion(x)
        rounding = _ROUNDING_UNITS * jnp.finfo(expansion.dtype).eps
        slack = rounding * (jnp.abs(expansion) + jnp.abs(self.rho))
        if self.info is not None:
            slack += jnp.maximum(self.info.gap, 0).astype(expansion.dtype)
        return jnp.where(expansion - self.rho >= -slack, jnp.int32(1), jnp.int32(-1))

    def calibrate(
        self,
        x_calibration: Num[ArrayLike, "n d"],
        false_alarm: float = 0.05,
        *,
        confidence: float | None = None,
    ) -> CalibratedOCSVM:
        """The model with a threshold of a guaranteed false-alarm rate, by split conformal.

            detector = model.calibrate(x_calibration, false_alarm=0.05)
            detector.flagged(x_new)  # true for at most 5% of normal points

        Args:
          x_calibration: (n, d) normal points that the model was *not* fitted on, as the new ones.
          false_alarm: the wanted share of normal points flagged, in (0, 1).
          confidence: None promises the rate on average over calibration sets; a number in (0, 1)
            promises it for this calibration set, with that probability.

        Raises:
          ValueError: as `ocsvm_jax.conformal.conformal_threshold`, which says more; too few points
            are one reason.
        """
        f = self.decision_function(x_calibration)
        return CalibratedOCSVM.of(self, f, false_alarm, confidence)

    def in_coordinates(self, x: Num[ArrayLike, "q d"]) -> Float[Array, "q d"]:
        """Points as the support vectors are kept: in their dtype, less the centre if there is one.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        x = as_numbers(x, "x")
        d = self.support_vectors.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x has shape {x.shape}; this model was fitted on points (n, {d}).")
        return query_points(x, self.support_vectors, self.centre)

    def without_centre(self) -> "OCSVM":
        """The model of points that `in_coordinates` has moved already."""
        return dataclasses.replace(self, centre=None).with_info(self.info)

    def _precomputed_expansion(self, x: Num[ArrayLike, "q n"]) -> Float[Array, " q"]:
        k_query = as_float(x, "x").astype(self.coefficients.dtype)
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
          FileNotFoundError: if the folder does not exist.
          ValueError: if the kernel is not made of those of ocsvm_jax.kernels.
        """
        model_file.write(path, self.kernel, self.arrays())

    @staticmethod
    def load(path: str | os.PathLike) -> "OCSVM":
        """Reads what `save` wrote; never executes anything it finds in the file.

        float64 arrays become float32 where JAX's float64 is not enabled: support vectors far from
        0 are then centred, as in `ocsvm_fit`, if the kernel depends on differences alone.

        Warns:
          PrecisionWarning: where the kernel does not, and float32 moves the support vectors by more
            than 1e-3 of their spread.

        Raises:
          OSError: if the file cannot be read, FileNotFoundError among them.
          ValueError: on any other or damaged file, or numbers that float32 cannot hold.
        """
        return OCSVM._of(model_file.read(path))

    @staticmethod
    def load_calibrated(path: str | os.PathLike) -> CalibratedOCSVM:
        """Reads what `CalibratedOCSVM.save` wrote, as `load` does, which reads its model alone.

        Raises:
          OSError, ValueError: as `load`; ValueError also on a model without a calibration.
        """
        saved = model_file.read(path)
        if saved.promise is None:
            raise ValueError(
                f"{os.fspath(path)} holds a model without a calibration; OCSVM.load reads it."
            )
        f, threshold = saved.arrays["calibration"], saved.arrays["threshold"]
        return CalibratedOCSVM(OCSVM._of(saved), f, threshold, **saved.promise)

    @staticmethod
    def _of(saved: model_file.Saved) -> "OCSVM":
        arrays = saved.arrays
        own = {name: arrays[name] for name in (*model_file.ARRAYS, "centre") if name in arrays}
        # A parameter of the kernel is JAX's, as in a model that was never saved.
        model = OCSVM(kernel=jax.tree.map(jnp.asarray, saved.kernel), **own)
        if "support" not in arrays:
            return model
        return model.with_info(FitInfo(*(arrays[name] for name in FitInfo._fields)))

    def arrays(self) -> dict[str, Any]:
        """What a file holds beside the kernel."""
        arrays = {name: getattr(self, name) for name in model_file.ARRAYS}
        centre = {} if self.centre is None else {"centre": self.centre}
        return arrays | centre | ({} if self.info is None else self.info._asdict())
