"""The optimality system of the dual, stated once.

With g = K alpha, alpha solves the dual exactly when some rho satisfies

    g_i >= rho where alpha_i = 0,
    g_i  = rho where 0 < alpha_i < C_i,
    g_i <= rho where alpha_i = C_i.

Every function works along axis 0, so it applies to one problem, shape (n,), and to many, shape
(n, lanes). Whether an index is free is decided by exact comparison: an alpha that reaches a bound
is set to that bound exactly. A tolerance would occasionally take a bounded vector for a free one,
which moves rho, and with it every derivative, by far more than the tolerance.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def free_set(
    alpha: Float[Array, "n *lanes"], C: Float[Array, "n *lanes"]
) -> Bool[Array, "n *lanes"]:
    """The indices strictly between their bounds."""
    return (alpha > 0) & (alpha < C)


def snapped(
    alpha: Float[Array, "n *lanes"], C: Float[Array, "n *lanes"]
) -> Float[Array, "n *lanes"]:
    """alpha, set to its upper bound where it is within rounding of it.

    If nu n is an integer, all support vectors may be bounded, and one that rounding left free
    would determine rho. There is no such rule near zero: a far row can have an alpha of 1e-19.
    """
    return jnp.where(C - alpha <= 4 * jnp.finfo(C.dtype).eps * C, C, alpha)


def first_where_equal(
    values: Float[Array, "n *lanes"], target: Float[Array, "1 *lanes"]
) -> Int[Array, "1 *lanes"]:
    """Index of the first entry along axis 0 equal to `target` (the last index if there is none).

    A minimum followed by this is three to four times faster on a CPU than `argmin`, whose paired
    reduction XLA does not vectorise.
    """
    n = values.shape[0]
    index = jnp.arange(n, dtype=jnp.int32).reshape((n,) + (1,) * (values.ndim - 1))
    index = jnp.broadcast_to(index, values.shape)
    return jnp.min(jnp.where(values == target, index, jnp.int32(n - 1)), axis=0, keepdims=True)


def first_true(which: Bool[Array, " n"]) -> Int[Array, " n"]:
    """The indices where `which` is true, in order, followed by arbitrary ones."""
    place = jnp.where(which, jnp.cumsum(which, dtype=jnp.int32) - 1, which.shape[0])
    index = jnp.arange(which.shape[0], dtype=jnp.int32)
    return jnp.zeros_like(index).at[place].set(index, mode="drop")


def violation(
    alpha: Float[Array, "n *lanes"], g: Float[Array, "n *lanes"], C: Float[Array, "n *lanes"]
) -> tuple[Int[Array, "1 *lanes"], Float[Array, "1 *lanes"], Float[Array, "1 *lanes"]]:
    """The most violating index whose alpha can grow, its g, and the gap (axis 0 has length 1).

    If no alpha can grow or none can shrink (n = 1, or nu = 1), nothing is violated: the gap is 0.

    Args:
      alpha: feasible dual coefficients.
      g: K alpha, the gradient.
      C: upper bounds.
    """
    can_grow = jnp.where(alpha < C, g, jnp.inf)
    low = jnp.min(can_grow, axis=0, keepdims=True)
    high = jnp.max(jnp.where(alpha > 0, g, -jnp.inf), axis=0, keepdims=True)
    gap = jnp.where(low == jnp.inf, 0, high - low)
    return first_where_equal(can_grow, low), low, gap


def gap_bound(
    alpha: Float[Array, "n *lanes"],
    g: Float[Array, "n *lanes"],
    C: Float[Array, "n *lanes"],
    rounding: Float[Array, "n *lanes"],
) -> Float[Array, "1 *lanes"]:
    """The largest gap over all gradients within `rounding` of g.

    Args:
      alpha: feasible dual coefficients.
      g: the gradient as computed.
      C: upper bounds.
      rounding: bound on the rounding error of each g.
    """
    low = jnp.min(jnp.where(alpha < C, g - rounding, jnp.inf), axis=0, keepdims=True)
    high = jnp.max(jnp.where(alpha > 0, g + rounding, -jnp.inf), axis=0, keepdims=True)
    return jnp.where(low == jnp.inf, 0, high - low)


def rho_weights(
    alpha: Float[Array, "n *lanes"],
    g: Float[Array, "n *lanes"],
    C: Float[Array, "n *lanes"],
    m: Float[Array, "n *lanes"],
) -> Float[Array, "n *lanes"]:
    """Weights v, summing to 1, with rho = v' g; the derivative of rho uses the same weights.

    If indices are free, rho is the mean of their g, as in LIBSVM, weighted by 1 / m^2 for a g that
    is a sum of terms of size m; at a solution these g are equal up to rounding. Otherwise it is the
    midpoint of the interval that the optimality conditions allow, [max g over alpha_i = C_i,
    min g over alpha_i = 0], or its one end if the other side is empty. Indices with C_i = 0 take no
    part.

    Args:
      alpha: feasible dual coefficients.
      g: K alpha, the gradient.
      C: upper bounds.
      m: size of the terms that each g is summed from.
    """
    free = free_set(alpha, C)
    least = jnp.min(jnp.where(free, m, jnp.inf), axis=0, keepdims=True)
    known = jnp.where(free, jnp.where(m > 0, least / jnp.where(m > 0, m, 1), 1) ** 2, 0)
    total = jnp.sum(known, axis=0, keepdims=True)
    lower = jnp.where((alpha > 0) & ~free, g, -jnp.inf)
    upper = jnp.where((alpha == 0) & (C > 0), g, jnp.inf)
    ends = []
    for side, extreme in ((lower, jnp.max), (upper, jnp.min)):
        end = extreme(side, axis=0, keepdims=True)
        rows = jnp.arange(g.shape[0], dtype=jnp.int32).reshape((-1,) + (1,) * (g.ndim - 1))
        hit = jnp.broadcast_to(rows, g.shape) == first_where_equal(side, end)
        ends.append(jnp.where(jnp.abs(end) < jnp.inf, hit.astype(g.dtype), 0))
    middle = ends[0] + ends[1]
    middle = middle / jnp.maximum(jnp.sum(middle, axis=0, keepdims=True), 1)
    return jnp.where(total > 0, known / jnp.where(total > 0, total, 1), middle)
