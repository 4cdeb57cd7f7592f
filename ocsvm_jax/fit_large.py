"""The host's loop for a fit without the Gram matrix, which can report progress."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ocsvm_jax.kernel_sums import kernel_sum
from ocsvm_jax.kernels import Precomputed, gram, is_shift_invariant
from ocsvm_jax.model import OCSVM
from ocsvm_jax.solver import OCSVMSolution
from ocsvm_jax.solver import large as large_solver

_WORKING_SET = 512
# The device works at least about this long before it returns to the host.
_SECONDS_PER_CALL = 0.1


def fit_large(
    kernel: Any,
    x: Float[Array, "n d"],
    C: Float[Array, " n"],
    tol: float,
    max_rounds: int,
    start: OCSVM | None,
    report: Callable[[int, float, float], Any] | None,
) -> OCSVMSolution:
    """Solves the dual in a loop on the host: the device takes some steps, then `report` is called.

    Args:
      kernel: a kernel, as a pytree of arrays.
      x: (n, d) points, or the (n, n) Gram matrix.
      C: (n,) upper bounds on alpha.
      tol: bound on the gap, as in `large.Settings`.
      max_rounds: bound on the rounds.
      start: a model of the same rows to start from, or None.
      report: called now and then with the number of rounds, the gap and the tolerance.
    """
    limits = jnp.asarray(tol, x.dtype), jnp.int32(max_rounds)
    state = _begin(kernel, x, C) if start is None else _begin_at(kernel, x, _feasible(start, C))
    steps, going = 1, True
    while going:
        began = time.monotonic()
        state, more = _advance(kernel, x, C, limits, state, jnp.int32(steps))
        going = bool(more)
        if report is not None:
            reached = (float(v) for v in large_solver.reached(_settings(limits, len(C)), state))
            report(int(state.rounds), *reached)
        if time.monotonic() - began < _SECONDS_PER_CALL:
            steps *= 2
    return _finish(kernel, x, C, limits, state)


def _feasible(start: OCSVM, C: Float[Array, " n"]) -> Float[Array, " n"]:
    """The alpha of a model, clipped to the bounds C and completed to sum 1 over all points."""
    n = C.shape[0]
    if start.info is None or int(jnp.max(start.info.support)) >= n:
        raise ValueError(f"start is not a model that ocsvm_fit returned for these {n} points.")
    alpha = jnp.zeros_like(C).at[start.info.support].set(start.coefficients.astype(C.dtype))
    alpha = jnp.minimum(alpha, C)
    missing = jnp.maximum(1 - jnp.sum(alpha), 0)
    # What the clipping removed is given to support vectors first, then to any alpha with room left.
    for receivers in (alpha > 0, C > 0):
        room = jnp.where(receivers, C - alpha, 0)
        share = jnp.minimum(missing / jnp.maximum(jnp.sum(room), jnp.finfo(C.dtype).tiny), 1)
        alpha = jnp.where(share >= 1, alpha + room, alpha + share * room)
        alpha = jnp.minimum(alpha, C)
        missing = jnp.maximum(1 - jnp.sum(alpha), 0)
        missing = jnp.where(missing < n * jnp.finfo(C.dtype).eps, 0, missing)
    total = jnp.sum(alpha)
    # Not for rounding errors alone: a division would move every alpha off its bound.
    return jnp.where(total > 1 + n * jnp.finfo(C.dtype).eps, alpha / total, alpha)


def _access(kernel: Any, x: Float[Array, "n d"]) -> large_solver.KernelAccess:
    if isinstance(kernel, Precomputed):
        return large_solver.KernelAccess(
            square=lambda W: x[W[:, None], W[None, :]],
            product=lambda W, v, offset: _precomputed_product(x, W, v, offset),
            diagonal=lambda: jnp.diagonal(x),
            one_sign=False,
        )
    return large_solver.KernelAccess(
        square=lambda W: gram(kernel, x[W]),
        product=lambda W, v, offset: kernel_sum(kernel, x[W], v, x, offset),
        diagonal=lambda: jax.vmap(kernel)(x, x),
        # Entries lie between 0 and 1, and an offset, if there is one, is 1.
        one_sign=is_shift_invariant(kernel),
    )


def _precomputed_product(
    K: Float[Array, "n n"], W: Array, v: Float[Array, " q"], offset: Float[Array, ""]
) -> Float[Array, " n"]:
    return jnp.matmul(K[:, W] - offset, v, precision=jax.lax.Precision.HIGHEST)


def _settings(limits: tuple[Array, Array], n: int) -> large_solver.Settings:
    tol, max_rounds = limits
    return large_solver.Settings(tol, min(_WORKING_SET, n), max_rounds)


@jax.jit
def _begin(kernel: Any, x: Array, C: Array) -> large_solver.State:
    return large_solver.begin(_access(kernel, x), C)


@jax.jit
def _begin_at(kernel: Any, x: Array, alpha: Array) -> large_solver.State:
    return large_solver.begin_at(_access(kernel, x), alpha)


@jax.jit
def _advance(
    kernel: Any, x: Array, C: Array, limits: tuple[Array, Array], state: Any, steps: Array
) -> tuple[large_solver.State, Bool[Array, ""]]:
    settings = _settings(limits, x.shape[0])
    state = large_solver.advance(_access(kernel, x), C, settings, state, steps)
    return state, large_solver.running(C, settings, state)


@jax.jit
def _finish(
    kernel: Any, x: Array, C: Array, limits: tuple[Array, Array], state: Any
) -> OCSVMSolution:
    return large_solver.finish(_access(kernel, x), C, _settings(limits, C.shape[0]), state)
