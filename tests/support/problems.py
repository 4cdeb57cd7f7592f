"""Random problems, and the functions under test compiled once per shape for all files here.

Compiling costs seconds and a solve microseconds, so problems come in batches of one size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ocsvm_jax.solver import ocsvm_solve

BATCH = 40


def rbf_matrices(
    seed: int, n: int, d: int = 3, log10_gamma: tuple[float, float] = (-1, 0.5), batch=BATCH
) -> np.ndarray:
    """(batch, n, n) Gaussian Gram matrices of normal points, gamma log-uniform, times 1 / d."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, n, d))
    gamma = 10 ** rng.uniform(*log10_gamma, size=(batch, 1, 1)) / d
    distances = np.sum((x[:, :, None] - x[:, None, :]) ** 2, axis=-1)
    return np.exp(-gamma * distances)


def as_dtype(tree, dtype):
    """The leaves of a pytree as JAX arrays of one dtype."""
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def on_host(tree, index=None):
    """The leaves as NumPy arrays; with `index`, those of one problem of a batch."""
    return jax.tree.map(lambda x: np.asarray(x) if index is None else np.asarray(x)[index], tree)


def solve_one(K, nu, sample_weight):
    return ocsvm_solve(K, nu, sample_weight=sample_weight)


solve = jax.jit(solve_one)
solve_batch = jax.jit(jax.vmap(solve_one))


def alpha_and_rho(K, nu, sample_weight):
    solution = solve_one(K, nu, sample_weight)
    return solution.alpha, solution.rho


def _derivatives(arguments, tangents, cotangents):
    """(directional derivative, gradient) of (alpha, rho) in (K, nu, sample_weight)."""
    _, forward = jax.jvp(alpha_and_rho, arguments, tangents)
    _, pull_back = jax.vjp(alpha_and_rho, *arguments)
    return forward, pull_back(cotangents)


derivatives = jax.jit(_derivatives)
derivatives_batch = jax.jit(jax.vmap(_derivatives))


@jax.jit
def solution_and_derivatives(K, nu, w):
    """The solution, and every kind of derivative of some functional of it along some direction."""

    def functional(K, nu, w):
        alpha, rho = alpha_and_rho(K, nu, w)
        return rho + jnp.sum(alpha**3) + jnp.dot(K[0], alpha)

    direction = (jnp.cos(K), jnp.ones_like(nu), jnp.sin(1 + jnp.arange(w.size, dtype=w.dtype)))
    gradient = jax.grad(functional, (0, 1, 2))
    return {
        "solution": solve_one(K, nu, w),
        "jvp": jax.jvp(functional, (K, nu, w), direction)[1],
        "grad and hessian": jax.jvp(gradient, (K, nu, w), direction),
    }
