"""`OCSVM`, a fitted one-class SVM as a pytree: score, save, load. `ocsvm_fit` returns one."""

import dataclasses
import os
from io import BufferedIOBase
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

# `predict` compares numbers whose rounding error is about this many units.
_ROUNDING_UNITS = 64


class FitInfo(NamedTuple):
    """How a fit ended.

    Attributes:
      support: (m,) rows of the support vectors in the points of the fit.
      gap: () the KKT gap reached, in units of the kernel.
      num_steps: () number of steps taken (rounds, for more than 1,024 points).
      status: () one of `Status`; check it.
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
      support_vectors: (m, d) the points with alpha > 0; for a precomputed kernel, (m, 1) their
        rows.
      coefficients: (m,) their alpha, summing to 1.
      rho: () offset, in units of the kernel.
      kernel: the kernel, itself a pytree; a plain function is wrapped to be a static part of it.
      centre: None, or (2, d) if the dtype cannot hold points so far from 0 (time stamps in
        float32). The support vectors are then the points minus centre[0] + centre[1], and queries
        are moved in the same way, NumPy arrays before they are cast.
      info: how the fit ended. It is not part of the pytree: it is None in a model that comes out of
        a transformation or was made by hand.
    """

    # Models may be stacked for `vmap`, like any pytree.
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

        x is cast to the dtype of the model. The (q, m) kernel matrix is never formed as a whole.
        For a model with a precomputed kernel, x is (q, n), the kernel of each query with all n
        points.

        Warns:
          PrecisionWarning: if the cast moves rows of a NumPy array by more than 1e-3 of the spread
            of the support vectors.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        return self.kernel_expansion(x) - self.rho

    def kernel_expansion(self, x: Num[ArrayLike, "q d"]) -> Float[Array, " q"]:
        """The decision function without its offset rho: sum_j coefficients_j k(z_j, x).

        It also ranks points far from all support vectors, where subtracting rho rounds the
        differences away.
        """
        if isinstance(self.kernel, Precomputed):
            return self._precomputed_expansion(x)
        forks.refuse("OCSVM")
        x = self.in_coordinates(x)
        return kernel_sum(self.kernel, self.support_vectors, self.coefficients, x)

    def predict(self, x: Num[ArrayLike, "q d"]) -> Int[Array, " q"]:
        """+1 inside and -1 outside, (q,) int32, as in scikit-learn.

        A point on the boundary, whose decision value is 0 up to rounding and the gap of the fit,
        counts as inside: the free support vectors lie there. The boundary promises no false-alarm
        rate on new points; `calibrate` does.
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
        """The model with a threshold that guarantees a false-alarm rate, by split conformal.

            detector = model.calibrate(x_calibration, false_alarm=0.05)
            detector.flagged(x_new)  # true for at most 5% of normal points

        Args:
          x_calibration: (n, d) normal points that the model was *not* fitted on, drawn as the new
            points are.
          false_alarm: wanted share of normal points that are flagged, in (0, 1).
          confidence: None promises the rate on average over calibration sets; a number in (0, 1)
            promises it for this calibration set, with that probability.

        Raises:
          ValueError: as `ocsvm_jax.conformal.conformal_threshold`, for example if there are too few
            points; see there for details.
        """
        f = self.decision_function(x_calibration)
        return CalibratedOCSVM.of(self, f, false_alarm, confidence)

    def in_coordinates(self, x: Num[ArrayLike, "q d"]) -> Float[Array, "q d"]:
        """Points in the dtype of the support vectors, minus the centre if there is one.

        Raises:
          ValueError: if x does not hold points (q, d) of the model's dimension.
        """
        x = as_numbers(x, "x")
        d = self.support_vectors.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x has shape {x.shape}; this model was fitted on points (n, {d}).")
        return query_points(x, self.support_vectors, self.centre)

    def without_centre(self) -> "OCSVM":
        """The model for points that `in_coordinates` has already moved."""
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
        """A copy of the model with another `info`."""
        model = dataclasses.replace(self)
        object.__setattr__(model, "info", info)
        return model

    def save(self, path: str | os.PathLike | BufferedIOBase) -> None:
        """Writes an `.npz` file atomically and without pickle, or into a file that is open.

        Raises:
          FileNotFoundError: if the folder does not exist.
          ValueError: if the kernel is not composed of kernels of ocsvm_jax.kernels.
        """
        model_file.write(path, self.kernel, self.arrays())

    @staticmethod
    def load(path: str | os.PathLike | BufferedIOBase) -> "OCSVM":
        """Reads a file written by `save`; never executes anything in the file.

        float64 arrays become float32 unless JAX's float64 is enabled. Support vectors far from 0
        are then centred, as in `ocsvm_fit`, if the kernel depends on differences alone.

        Warns:
          PrecisionWarning: if the kernel does not, and float32 moves the support vectors by more
            than 1e-3 of their spread.

        Raises:
          OSError: if the file cannot be read, for example FileNotFoundError.
          ValueError: if the file is damaged or not a saved model, or holds numbers out of the range
            of float32.
        """
        return OCSVM._of(model_file.read(path))

    @staticmethod
    def load_calibrated(path: str | os.PathLike) -> CalibratedOCSVM:
        """Reads a file written by `CalibratedOCSVM.save`, with its calibration.

        `load` reads such a file too, but returns the model without the calibration.

        Raises:
          OSError, ValueError: as `load`; ValueError also if the model has no calibration.
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
        # Kernel parameters become JAX arrays, as in a model that was never saved.
        model = OCSVM(kernel=jax.tree.map(jnp.asarray, saved.kernel), **own)
        if "support" not in arrays:
            return model
        return model.with_info(FitInfo(*(arrays[name] for name in FitInfo._fields)))

    def arrays(self) -> dict[str, Any]:
        """The arrays that a file holds, besides the kernel."""
        arrays = {name: getattr(self, name) for name in model_file.ARRAYS}
        centre = {} if self.centre is None else {"centre": self.centre}
        return arrays | centre | ({} if self.info is None else self.info._asdict())
