"""What the iteration needs of K, for many problems at once, in plain JAX.

The iteration itself (smo, newton, dual) is written for vectors whose first axis runs over the
points: (n, lanes) here, and (n,) in `fused.matrix`, where one program on a GPU solves one problem.
Only what touches K, or depends on how lanes are stored, differs between the two.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ocsvm_jax.solver import free_set

_HIGHEST = lax.Precision.HIGHEST


class Matrix(Protocol):
    """K, as the iteration sees it; vectors are (n, *lanes), numbers (1, *lanes)."""

    @property
    def diagonal(self) -> Float[Array, "n *lanes"]:
        """The diagonal of K."""
        ...

    def times(self, alpha: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
        """K alpha, at full precision."""
        ...

    def absolute_times(self, alpha: Float[Array, "n *lanes"]) -> Float[Array, "n *lanes"]:
        """|K| alpha."""
        ...

    def row(self, index: Int[Array, "1 *lanes"]) -> Float[Array, "n *lanes"]:
        """One row of K."""
        ...

    def at(
        self, values: Float[Array, "n *lanes"], index: Int[Array, "1 *lanes"]
    ) -> Float[Array, "1 *lanes"]:
        """One entry of a vector."""
        ...

    def diagonal_at(self, index: Int[Array, "1 *lanes"]) -> Float[Array, "1 *lanes"]:
        """One entry of the diagonal."""
        ...

    def bound_at(
        self, C: Float[Array, "n *lanes"], index: Int[Array, "1 *lanes"]
    ) -> Float[Array, "1 *lanes"]:
        """One of the upper bounds C on alpha."""
        ...

    def solve_reduced(
        self, free: Bool[Array, "n *lanes"], rhs: Float[Array, "n *lanes"]
    ) -> Float[Array, "n *lanes"]:
        """Solves for y with (K y - rhs)_i equal over the free set, sum(y) = 0, 0 off the set."""
        ...

    def sums_before(
        self, keys: Float[Array, "n *lanes"], values: Float[Array, "n *lanes"]
    ) -> Float[Array, "n *lanes"]:
        """For each point the sum of the values of all points with smaller keys, ties by index."""
        ...

    def unless(
        self, there: Bool[Array, "1 *lanes"], value: Array, otherwise: Callable[[], Array]
    ) -> Array:
        """`value` in the lanes where it is there, and `otherwise()` in the others."""
        ...

    def any(self, flags: Bool[Array, "1 *lanes"]) -> Any:
        """Whether a flag is set in any lane, as a scalar."""
        ...


class LaneMatrices(NamedTuple):
    """The matrices of many problems, one per lane."""

    K: Float[Array, "lanes n n"]
    diagonal: Float[Array, "n lanes"]

    def times(self, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """See `Matrix`."""
        return jnp.einsum("bij,jb->ib", self.K, alpha, precision=_HIGHEST)

    def absolute_times(self, alpha: Float[Array, "n lanes"]) -> Float[Array, "n lanes"]:
        """See `Matrix`."""
        return jnp.sum(jnp.abs(self.K) * alpha.T[:, :, None], axis=1).T

    def row(self, index: Int[Array, "1 lanes"]) -> Float[Array, "n lanes"]:
        """See `Matrix`."""
        lanes = jnp.arange(self.K.shape[0], dtype=jnp.int32)
        return self.K.at[lanes, index[0]].get(mode="promise_in_bounds").T

    def at(
        self, values: Float[Array, "n lanes"], index: Int[Array, "1 lanes"]
    ) -> Float[Array, "1 lanes"]:
        """See `Matrix`. A gather, since a masked sum would take three kernels."""
        lanes = jnp.arange(self.K.shape[0], dtype=jnp.int32)
        return values.at[index[0], lanes].get(mode="promise_in_bounds")[None]

    def diagonal_at(self, index: Int[Array, "1 lanes"]) -> Float[Array, "1 lanes"]:
        """See `Matrix`."""
        return self.at(self.diagonal, index)

    def bound_at(
        self, C: Float[Array, "n lanes"], index: Int[Array, "1 lanes"]
    ) -> Float[Array, "1 lanes"]:
        """See `Matrix`."""
        return self.at(C, index)

    def solve_reduced(
        self, free: Bool[Array, "n lanes"], rhs: Float[Array, "n lanes"]
    ) -> Float[Array, "n lanes"]:
        """See `Matrix`."""
        return free_set.solve_reduced(self.K, self.diagonal.T, free.T, rhs.T).T

    def sums_before(
        self, keys: Float[Array, "n lanes"], values: Float[Array, "n lanes"]
    ) -> Float[Array, "n lanes"]:
        """See `Matrix`.

        Comparing all pairs needs no sort, which XLA runs slowly on a CPU. The keys must be the
        result of a matrix product, which is stored in memory. XLA would compute anything else
        twice, once per side of the comparison and rounded differently, and two equal points could
        both come first.
        """
        n = keys.shape[0]
        earlier = keys[None, :, :] < keys[:, None, :]
        tie = keys[None, :, :] == keys[:, None, :]
        lower_index = jnp.tril(jnp.ones((n, n), bool), -1)[:, :, None]
        before = jnp.sum(jnp.where(earlier | (tie & lower_index), values[None, :, :], 0), axis=1)
        # Otherwise XLA makes one kernel of the pairs and all that follows on a GPU, in tiles that
        # grow with the lanes: for 65,536 lanes of n = 60 it compiles for minutes.
        return lax.optimization_barrier(before)

    def unless(
        self, there: Bool[Array, "1 lanes"], value: Array, otherwise: Callable[[], Array]
    ) -> Array:
        """See `Matrix`."""
        return jnp.where(there, value, otherwise())

    def any(self, flags: Bool[Array, "1 lanes"]) -> Bool[Array, ""]:
        """See `Matrix`."""
        return jnp.any(flags)


def lane_matrices(K: Float[Array, "lanes n n"]) -> LaneMatrices:
    """The matrices of many problems, with the diagonals that the iteration needs."""
    return LaneMatrices(K, jnp.diagonal(K, axis1=1, axis2=2).T)
