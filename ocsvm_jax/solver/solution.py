"""The result of a solve: `OCSVMSolution` and its `Status`."""

import enum
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.arrays.summary import counted, is_readable, shown, shown_range


class Status(enum.IntEnum):
    """How a solve ended; compare `OCSVMSolution.status` with these."""

    CONVERGED = 0
    """The gap, rounding included, is at or below the tolerance."""
    STALLED = 1
    """The tolerance is below what the dtype can resolve here; `gap` is what was reached."""
    OUT_OF_STEPS = 2
    """`max_steps` was used up; `gap` is what was reached."""
    INVALID = 3
    """K is not finite, nu is not in (0, 1], or weights are negative or all zero: all NaN."""


class ConvergenceWarning(UserWarning):
    """A fit on the host did not end as CONVERGED; the message gives the gap it reached."""


def describe_status(status: Any) -> str:
    """The name of a status; for a batch, the counts; for a traced status, dtype and shape."""
    if not is_readable(status):
        return f"status={shown(status)}"
    counts = Counter(np.asarray(status).ravel().tolist())
    known = {s.value: s.name for s in Status}
    names = {code: known.get(code, f"status {code!r}") for code in counts}
    if np.ndim(status) == 0:
        return next(iter(names.values()))
    return ", ".join(f"{count} {names[code]}" for code, count in sorted(counts.items()))


class OCSVMSolution(NamedTuple):
    """The solution of a one-class SVM dual (with leading batch axes under `vmap`).

    The dual is: minimise 1/2 alpha' K alpha subject to sum(alpha) = 1 and
    0 <= alpha_i <= C_i, with C_i = w_i / (nu * sum w) (arXiv 2507.21164, section II).

    Attributes:
      alpha: (n,) dual coefficients; the bounds and the sum hold to machine precision.
      rho: () offset of the decision function, `f = K_query @ alpha - rho`, in units of K.
      free: (n,) true where 0 < alpha_i < C_i. The iteration keeps track of this exactly: an alpha
        at a bound equals that bound.
      gap: () an upper bound on the violation of the optimality conditions, max over alpha_j > 0 of
        (K alpha)_j minus min over alpha_i < C_i of (K alpha)_i, in units of K. Each (K alpha)_i is
        taken at the unfavourable end of its rounding error, (1 + sqrt(n) / 8) eps (|K| alpha)_i,
        with the next power of two for n in the programs for a GPU. So the bound holds for the K
        that was given, whatever the range of its entries (subnormal ones count as 0). At a
        solution the gap is about the size of that rounding error.
      num_steps: () number of two-variable steps taken.
      status: () one of `Status`.
    """

    alpha: Float[Array, "*batch n"]
    rho: Float[Array, "*batch"]
    free: Bool[Array, "*batch n"]
    gap: Float[Array, "*batch"]
    num_steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    def __repr__(self) -> str:
        if not is_readable(*self):
            fields = (f"{name}={shown(value)}" for name, value in self._asdict().items())
            return f"OCSVMSolution({', '.join(fields)})"
        *batch, n = np.shape(self.alpha) or (0,)
        support = np.sum(np.asarray(self.alpha) > 0, axis=-1)
        of_batch = f"batch of {'x'.join(map(str, batch))}, " if batch else ""
        vectors = shown_range("support vectors", support) if batch else ""
        parts = (
            of_batch + counted(n, "point"),
            vectors or counted(int(support), "support vector"),
            shown_range("rho", self.rho),
            shown_range("gap", self.gap),
            shown_range("num_steps", self.num_steps),
            describe_status(self.status),
        )
        return f"OCSVMSolution({', '.join(parts)})"
