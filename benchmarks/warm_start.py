"""What a warm start from the previous alpha would save in a loop of small moves of the points.

    python benchmarks/warm_start.py

Standard normal points, d = 32, rbf(0.01), float32 as in training; at every step each coordinate
moves by `move` times a standard normal number. The solver's own start and the previous step's alpha
take turns on the same K, as compiled programs that do everything `ocsvm_solve` does: on one
problem, and on eight side by side, which is how `vmap` runs a batch on a CPU. Ratios compare the
best of several calls; their median over the steps is given. Prints a Markdown section for
RESULTS.md.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ocsvm_jax import gram, rbf
from ocsvm_jax.reports import provenance
from ocsvm_jax.solver import conditioning, dual, kkt, matrices, problem

PROBLEMS = ((60, 1), (60, 8), (200, 1), (200, 8), (1000, 1))  # n, lanes
NUS = (0.03, 0.5)
MOVES = (0.001, 0.01, 0.1)
STEPS, CALLS = 20, 6
MAX_STEPS = 200_000


class Found(NamedTuple):
    """What is compared; `rho` is computed so that no program is spared it."""

    alpha: jax.Array
    rho: jax.Array
    num_steps: jax.Array
    gap: jax.Array


def main() -> None:
    """Measures and prints."""
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    print("| n | at once | nu | move | SMO steps, own start | previous alpha | times own start |")
    print("|---|---|---|---|---|---|---|")
    worst = 0.0
    for n, lanes in PROBLEMS:
        solvers = {"own": jax.jit(own_start), "previous": jax.jit(previous_alpha)}
        for nu in NUS:
            for move in MOVES:
                steps, ratio, gap = compared(solvers, (lanes, n, 32), nu, move)
                worst = max(worst, gap)
                found = f"{steps['own']:.0f} | {steps['previous']:.0f} | {ratio:.2f}"
                print(f"| {n} | {lanes} | {nu} | {move} | {found} |", flush=True)
    print(f"\nLargest gap {worst:.0e}.")


def compared(
    solvers: dict[str, Callable[..., Found]], shape: tuple[int, ...], nu: float, move: float
) -> tuple[dict[str, float], float, float]:
    """Mean SMO steps of each, the median ratio of their times, the largest gap."""
    rng = np.random.default_rng(shape[1])
    x = rng.standard_normal(shape)
    C = jnp.full(shape[:2], 1 / (nu * shape[1]), jnp.float32)
    before = solvers["own"](gram_of(x), C, C)
    solvers["previous"](gram_of(x), C, before.alpha)  # compiles
    steps: dict[str, list[float]] = {name: [] for name in solvers}
    ratios, gaps = [], []
    for _ in range(STEPS):
        x = x + move * rng.standard_normal(shape)
        K, seconds, found = gram_of(x), {}, before
        for name, solve in solvers.items():
            seconds[name], found = timed(solve, K, C, before.alpha)
            steps[name].append(float(jnp.mean(found.num_steps)))
            gaps.append(float(jnp.max(found.gap)))
        ratios.append(seconds["previous"] / seconds["own"])
        before = found
    counts = {name: float(np.mean(values)) for name, values in steps.items()}
    return counts, float(np.median(ratios)), max(gaps)


gram_of = jax.jit(jax.vmap(lambda x: gram(rbf(0.01), x.astype(jnp.float32))))


def timed(solve: Callable[..., Found], *arguments: Any) -> tuple[float, Found]:
    """The seconds of the best call, and what it found."""
    seconds, found = [], solve(*arguments)
    for _ in range(CALLS):
        began = time.perf_counter()
        found = jax.block_until_ready(solve(*arguments))
        seconds.append(time.perf_counter() - began)
    return min(seconds), found


def own_start(K: jax.Array, C: jax.Array, before: jax.Array) -> Found:
    """The solve as it is; `before` is not looked at."""
    made, given = posed(K, C)
    return finished(made, given, problem.start(made, given.row_sums.T))


def previous_alpha(K: jax.Array, C: jax.Array, before: jax.Array) -> Found:
    """The solve from the alpha of the step before, within the bounds and of sum 1."""
    made, given = posed(K, C)
    alpha = jnp.clip(before.T, 0, made.C)
    return finished(made, given, jnp.minimum(alpha / jnp.sum(alpha, axis=0, keepdims=True), made.C))


def posed(K: jax.Array, C: jax.Array) -> tuple[problem.Problem, conditioning.Conditioned]:
    """The problem as `dual.solve_lanes` poses it, at the default tolerance."""
    given = conditioning.conditioned(K, C > 0)
    one = jnp.ones((1, K.shape[0]), K.dtype)
    made = problem.Problem(
        matrices.lane_matrices(given.K),
        0 * C.T,
        C.T,
        one,
        -one,
        given.underflow[None],
        given.one_sign[None],
    )
    return made, given


def finished(made: problem.Problem, given: conditioning.Conditioned, alpha: jax.Array) -> Found:
    """Solved from alpha."""
    state = dual.refine(made, alpha, MAX_STEPS)
    m = problem.magnitude(made, state.alpha.T, state.g.T)
    weights = kkt.rho_weights(state.alpha.T, state.g.T, made.C, m)
    rho = given.unit * (jnp.sum(weights * state.g.T, axis=0) + given.shift)
    return Found(state.alpha, rho, state.num_steps, given.unit * state.gap)


if __name__ == "__main__":
    main()
