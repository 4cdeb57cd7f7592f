"""The dual solver against its peers, in one run on one machine.

    python benchmarks/solver.py

One problem (n = 50, d = 32, nu = 0.03, gamma = 0.01), its gradient, and 2,048 problems of n = 60
under vmap, all in float64. Peers are scikit-learn (LIBSVM), moreau, cvxpylayers and qpax, as far as
installed. Contestants take turns; times are medians over the turns; compilation is reported
separately. Prints a Markdown section for RESULTS.md.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
from sklearn.svm import OneClassSVM
from timing import compiled, interleaved

from ocsvm_jax import gram, ocsvm_solve, rbf
from ocsvm_jax.reports import provenance

NU, GAMMA = 0.03, 0.01


def main() -> None:
    """Measures and prints."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    K = gram(rbf(GAMMA), jnp.asarray(rng.standard_normal((50, 32))))
    weights = jnp.asarray(rng.standard_normal(50))
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    one_problem(np.asarray(K), np.asarray(weights))
    points = jnp.asarray(rng.standard_normal((2048, 60, 32)))
    many_problems(jax.jit(jax.vmap(lambda x: gram(rbf(GAMMA), x)))(points))


def one_problem(K: np.ndarray, weights: np.ndarray) -> None:
    """A solve, and a solve with the gradient in K of a random functional of alpha."""

    def functional(K: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray(weights) * ocsvm_solve(K, NU).alpha)

    device_K = jnp.asarray(K)
    solve, compile_solve = compiled(lambda K: ocsvm_solve(K, NU), device_K)
    both, compile_both = compiled(jax.value_and_grad(functional), device_K)
    solves: dict[str, Callable[[], Any]] = {"ocsvm_solve": lambda: solve(device_K)}
    gradients: dict[str, Callable[[], Any]] = {"ocsvm_solve": lambda: both(device_K)}
    svm = OneClassSVM(kernel="precomputed", nu=NU, tol=1e-8)
    solves["scikit-learn fit (LIBSVM, tol 1e-8)"] = lambda: svm.fit(K)
    makers = {
        "moreau, active set": partial(moreau_peers, "active_set", K, weights),
        "moreau, interior point": partial(moreau_peers, "ipm", K, weights),
        "qpax": partial(qpax_peers, K, weights),
        "cvxpylayers": partial(cvxpylayers_peers, K, weights),
    }
    for name, (solve_peer, gradient_peer) in peers.installed(makers).items():
        if solve_peer:
            solves[name] = solve_peer
        gradients[name] = gradient_peer

    gap = float(solve(device_K).gap)
    print(f"### One problem, n = 50, float64 (gap {gap:.0e})\n")
    print_table("solve", interleaved(solves, 60), compile_solve)
    print_table("solve + gradient in K", interleaved(gradients, 20), compile_both)


def many_problems(Ks: jax.Array) -> None:
    """2,048 problems at once, against moreau under vmap and scikit-learn fits on a sample of them.

    qpax under vmap is left out: on 2 CPU cores its batched factorisations waited for each other
    for ever inside XLA's thread pool (qpax 0.1.4, jax 0.10.2).
    """
    batched, seconds = compiled(jax.vmap(lambda K: ocsvm_solve(K, NU)), Ks)
    solution = batched(Ks)
    sample = np.asarray(Ks[:64])
    svm = OneClassSVM(kernel="precomputed", nu=NU, tol=1e-8)

    def fit_sample() -> None:
        for K in sample:
            svm.fit(K)

    contestants: dict[str, Callable[[], Any]] = {
        "ocsvm_solve under vmap": lambda: batched(Ks),
        "scikit-learn fits": fit_sample,
    }
    for name, alpha in peers.installed(
        {"moreau, active set, under vmap": partial(peers.moreau_alpha, Ks.shape[1])}
    ).items():
        theirs = jax.jit(jax.vmap(lambda K, alpha=alpha: alpha(K, NU)))
        contestants[name] = partial(theirs, Ks[: len(sample)])
    times = interleaved(contestants, 3)
    count = {"ocsvm_solve under vmap": len(Ks)}
    per_problem = {name: t / count.get(name, len(sample)) for name, t in times.items()}
    gap, unconverged = float(solution.gap.max()), int(jnp.sum(solution.status != 0))
    print(
        f"### 2,048 problems, n = 60, float64 (largest gap {gap:.0e}, {unconverged} unconverged)\n"
    )
    print_table("per problem", per_problem, seconds)


def print_table(what: str, times: dict[str, float], compile_seconds: float) -> None:
    """One row a contestant, the ratio to the first one first."""
    ours = next(iter(times.values()))
    print(f"| {what} | times ours | microseconds |\n|---|---|---|")
    for name, t in times.items():
        print(f"| {name} | {t / ours:.2f} | {t * 1e6:.0f} |")
    print(f"\nOurs compiles in {compile_seconds:.1f} s, once per shape.\n")


def moreau_peers(solver: str, K: np.ndarray, weights: np.ndarray) -> tuple[Any, Any]:
    """A solve and a solve with its gradient through moreau."""
    device_K, w = jnp.asarray(K), jnp.asarray(weights)
    alpha = peers.moreau_alpha(K.shape[0], solver)
    solve = jax.jit(lambda K: alpha(K, NU))
    both = jax.jit(jax.value_and_grad(lambda K: jnp.sum(w * alpha(K, NU))))
    return lambda: solve(device_K), lambda: both(device_K)


def qpax_peers(K: np.ndarray, weights: np.ndarray) -> tuple[Any, Any]:
    """A primal solve and a gradient through qpax."""
    import qpax  # pyright: ignore[reportMissingImports]

    device_K, w = jnp.asarray(K), jnp.asarray(weights)
    solve = jax.jit(lambda K: qpax.solve_qp(*peers.qpax_problem(K, NU), solver_tol=1e-8)[0])

    def functional(K: jax.Array) -> jax.Array:
        return jnp.sum(w * qpax.solve_qp_primal(*peers.qpax_problem(K, NU), solver_tol=1e-8))

    both = jax.jit(jax.value_and_grad(functional))
    return lambda: solve(device_K), lambda: both(device_K)


def cvxpylayers_peers(K: np.ndarray, weights: np.ndarray) -> tuple[Any, Any]:
    """Solve + gradient through cvxpylayers and torch, the authors' way; K enters by its root."""
    import cvxpy as cp  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from cvxpylayers.torch import CvxpyLayer  # pyright: ignore

    n = K.shape[0]
    values, vectors = np.linalg.eigh(K)
    root = torch.tensor(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T, requires_grad=True)
    a, L = cp.Variable(n), cp.Parameter((n, n))
    objective = cp.Minimize(0.5 * cp.sum_squares(L @ a))
    bounds: Any = [a >= 0, a <= 1 / (NU * n), cp.sum(a) == 1]
    layer = CvxpyLayer(cp.Problem(objective, bounds), parameters=[L], variables=[a])
    w = torch.tensor(weights)

    def gradient() -> Any:
        root.grad = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (w * layer(root)[0]).sum().backward()
        return root.grad

    return None, gradient


if __name__ == "__main__":
    main()
