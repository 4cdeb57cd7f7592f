"""The dual as things JAX differentiates by itself: linear equations, and plain iterations."""

import jax
import jax.numpy as jnp
from jax import lax


def active_set_solution(K, C, free, upper):
    """(alpha, rho) from the (n + 1) equations of a known active set, by `jnp.linalg.solve`.

    Row i reads (K alpha)_i = rho where free, alpha_i = C_i where `upper`, alpha_i = 0 elsewhere;
    the last one sum(alpha) = 1.
    """
    n = K.shape[0]
    rows = jnp.where(free[:, None], K, jnp.eye(n, dtype=K.dtype))
    matrix = jnp.zeros((n + 1, n + 1), K.dtype)
    matrix = matrix.at[:n, :n].set(rows).at[:n, n].set(-free.astype(K.dtype)).at[n, :n].set(1)
    right = jnp.append(jnp.where(upper, C, 0), 1)
    solution = jnp.linalg.solve(matrix, right)
    return solution[:n], solution[n]


def project_on_feasible(v, C, num_bisections=60):
    """The nearest point of {0 <= a <= C, sum a = 1}: clip(v - t, 0, C), with t found by bisection.

    Bisection carries no derivative; on the piece it ends on, t is a linear function of v and C.
    """

    def halve(interval, _):
        low, high = interval
        middle = 0.5 * (low + high)
        too_much = jnp.sum(jnp.clip(v - middle, 0, C)) > 1
        return (jnp.where(too_much, middle, low), jnp.where(too_much, high, middle)), None

    start = lax.stop_gradient((jnp.min(v - C), jnp.max(v)))
    (low, high), _ = lax.scan(halve, start, None, length=num_bisections)
    t = lax.stop_gradient(0.5 * (low + high))
    inside = (v - t > 0) & (v - t < C)
    above = v - t >= C
    count = jnp.maximum(jnp.sum(inside, dtype=v.dtype), 1)
    t = (jnp.sum(jnp.where(inside, v, 0)) + jnp.sum(jnp.where(above, C, 0)) - 1) / count
    return jnp.where(inside, v - t, jnp.where(above, C, 0))


def projected_gradient_solution(K, C, num_steps):
    """(alpha, rho) after `num_steps` of projected gradient descent, differentiable step by step."""
    step = 1 / lax.stop_gradient(jnp.linalg.norm(K, 2))

    def body(alpha, _):
        return project_on_feasible(alpha - step * (K @ alpha), C), None

    start = project_on_feasible(jnp.full(C.shape, 1 / C.shape[0], C.dtype), C)
    alpha, _ = lax.scan(jax.checkpoint(body), start, None, length=num_steps)
    free = (alpha > 0) & (alpha < C)
    rho = jnp.sum(jnp.where(free, K @ alpha, 0)) / jnp.sum(free, dtype=K.dtype)
    return alpha, rho
