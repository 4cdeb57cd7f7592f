"""`ocsvm_fit`: fits a one-class SVM to any number of points and returns a model."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Num

from ocsvm_jax.fit_arguments import FitArguments, checked_fit, checked_limits
from ocsvm_jax.fit_large import fit_large
from ocsvm_jax.kernels import Kernel, Precomputed, gram
from ocsvm_jax.model import OCSVM, FitInfo
from ocsvm_jax.solver import OCSVMSolution, Status, ocsvm_solve
from ocsvm_jax.solver.solution import ConvergenceWarning

# Up to this number of points the Gram matrix is formed.
_DENSE_POINTS = 1024


class Progress(NamedTuple):
    """Progress of a fit, for `callback`; the gap falls to tol, but not steadily."""

    num_steps: int
    gap: float
    tol: float


def ocsvm_fit(
    x: Num[ArrayLike, "n d"],
    nu: float,
    kernel: Kernel | None = None,
    *,
    gamma: Any = "scale",
    sample_weight: Num[ArrayLike, " n"] | None = None,
    tol: float | None = None,
    max_steps: int | None = None,
    start: OCSVM | None = None,
    callback: Callable[[Progress], Any] | None = None,
) -> OCSVM:
    """Fits a one-class SVM to points.

    Up to 1,024 points the dual is solved on the Gram matrix; larger problems are solved without it.

    A host-level function: the number of support vectors is a shape, so it cannot be traced. Inside
    jit use `ocsvm_solve`. With more than 1,024 points it returns to Python between rounds, where
    Ctrl-C ends it cleanly.

    It computes in the float dtype of x, or in float32 if JAX's float64 is not enabled. NumPy points
    that float32 would round noticeably (time stamps, identifiers) are first moved near 0, if the
    kernel is known to depend on differences alone; see `OCSVM.centre`.

    Args:
      x: (n, d) points; for the kernel `precomputed()`, the (n, n) Gram matrix.
      nu: in (0, 1].
      kernel: any function of two points; by default `rbf(resolve_gamma(gamma, x, sample_weight))`.
      gamma: for the default kernel: a positive number, "scale" or "auto".
      sample_weight: (n,) non-negative weights: numbers of repetitions, up to a common factor.
      tol: bound on the KKT gap, in units of K. Up to 1,024 points the default is that of
        `ocsvm_solve`. Beyond that it is LIBSVM's, 1e-3 / (nu * n) relative to the scale of the
        kernel, but not below the rounding error of a sum over nu * n support vectors,
        (4 + sqrt(nu * n) / 4) eps. In float64, 1e-9 and less can be reached.
      max_steps: bound on the steps: two-variable steps up to 1,024 points (by default
        10,000 + 100 n), rounds beyond that (by default 10,000).
      start: a model of the same rows to start from if there are more than 1,024 points, such as
        that of a nearby nu or kernel; it changes the time, not the solution.
      callback: called with a `Progress` now and then; an exception that it raises ends the fit.

    Returns:
      The model; check the `status` and the `gap` of its `info`.

    Warns:
      ConvergenceWarning: if the fit did not end as CONVERGED.
      PrecisionWarning: if the cast of x moves it by more than 1e-3 of the spread of a column.

    Raises:
      TypeError: if an argument is not an array of numbers, a number or a kernel as required, or
        the function is called inside jit, vmap or grad.
      ValueError: if points or kernel values are NaN or infinite, nu is outside (0, 1], weights are
        negative or all zero, tol or max_steps are not positive, or shapes do not fit.

    Example:
      >>> import numpy as np
      >>> from ocsvm_jax import ocsvm_fit
      >>> x = np.random.default_rng(0).normal(size=(100, 2))
      >>> model = ocsvm_fit(x, nu=0.1, gamma=0.1)
      >>> (model.decision_function([[0.0, 0.0], [9.0, 9.0]]) > 0).tolist()
      [True, False]
    """
    given = checked_fit(x, nu, kernel, gamma, sample_weight)
    limits = checked_limits(tol, max_steps)
    solution = _solved(given, limits, start, callback)
    model = _as_model(given, solution)
    _report(solution, limits[0])
    return model


def _solved(
    given: FitArguments,
    limits: tuple[float | None, int | None],
    start: OCSVM | None,
    callback: Callable[[Progress], Any] | None,
) -> OCSVMSolution:
    """Solves the dual on the Gram matrix or by working sets, depending on the number of points."""
    kernel, x, nu, w = given.kernel, given.x, given.nu, given.weights
    n = x.shape[0]
    tol, max_steps = limits
    if n <= _DENSE_POINTS:
        solution = _fit_dense(kernel, x, nu, w, tol, max_steps)
    else:
        if tol is None:
            # LIBSVM's tolerance, relative to the scale of the kernel; see `large.Settings`. Below
            # the floor, rounding in a sum over at least nu n support vectors hides the gap.
            floor = (4 + 0.25 * (float(nu) * n) ** 0.5) * float(jnp.finfo(x.dtype).eps)
            tol = -max(1e-3 / (float(nu) * n), floor)
        C = w / (nu * jnp.sum(w))
        report = None if callback is None else lambda *reached: callback(Progress(*reached))
        solution = fit_large(kernel, x, C, tol, max_steps or 10_000, start, report)
    if solution.status == Status.INVALID:
        raise ValueError("the kernel gives NaN or infinite values on these points.")
    return solution


def _as_model(given: FitArguments, solution: OCSVMSolution) -> OCSVM:
    # On the host: JAX would compile a gather for each number of support vectors.
    alpha = np.asarray(solution.alpha)
    rows = np.flatnonzero(alpha > 0)
    support = jnp.asarray(rows, jnp.int32)
    of_rows = isinstance(given.kernel, Precomputed)
    model = OCSVM(
        support_vectors=support[:, None] if of_rows else jnp.asarray(np.asarray(given.x)[rows]),
        coefficients=jnp.asarray(alpha[rows]),
        rho=solution.rho,
        kernel=given.kernel,
        centre=None if given.centre is None else jnp.asarray(given.centre),
    )
    return model.with_info(FitInfo(support, solution.gap, solution.num_steps, solution.status))


def _report(solution: OCSVMSolution, tol: float | None) -> None:
    """Warns of a fit that did not converge, at the line that called `ocsvm_fit`."""
    status = Status(int(solution.status))
    if status == Status.CONVERGED:
        return
    asked = "the default tolerance" if tol is None else f"tol={tol:.1e}"
    advice = {
        Status.OUT_OF_STEPS: "Raise max_steps",
        Status.STALLED: f"Rounding in {solution.alpha.dtype} allows no better; scale the points "
        "(if the kernel has a few huge values), pass float64 points with JAX's float64 "
        "enabled, or raise tol",
    }
    warnings.warn(
        f"the fit ended as {status.name} after {int(solution.num_steps)} steps, at a gap of "
        f"{float(solution.gap):.1e} in units of the kernel, but {asked} was asked for. "
        f"{advice[status]}.",
        ConvergenceWarning,
        stacklevel=3,
    )


@partial(jax.jit, static_argnames=("tol", "max_steps"))
def _fit_dense(
    kernel: Any, x: Array, nu: Array, w: Array, tol: float | None, max_steps: int | None
) -> OCSVMSolution:
    K = x if isinstance(kernel, Precomputed) else gram(kernel, x)
    return ocsvm_solve(K, nu, sample_weight=w, tol=tol, max_steps=max_steps)
