"""Ill-scaled random problems: is the certificate valid, and is CONVERGED reliable?

    python benchmarks/hard.py [--problems=100000] [--seed=0]

Problems of tests/solver/hard_problems.py (heavy tails, far rows, duplicates, rank-deficient, scales
from 1e-30 to 1e30, weights with zeros), half in float32, judged in extended precision by
tests/oracles/exact.py:

(a) the returned gap is always an upper bound on the gap recomputed from alpha and K;
(b) if the status is CONVERGED, each point lies on the same side of the boundary as in the exact
    solution, except for points on the boundary itself.

Counts failures, and the problems for which (b) was checked: it is skipped if the reference does not
terminate or rounding decides. Prints a Markdown table for RESULTS.md, one row per size and dtype.
"""

import argparse
import collections
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from oracles import exact  # noqa: E402  # pyright: ignore[reportMissingImports]
from support import hard_problems  # noqa: E402  # pyright: ignore[reportMissingImports]

from ocsvm_jax import Status, ocsvm_solve  # noqa: E402
from ocsvm_jax.reports import provenance  # noqa: E402

# The share of the problems that each size has.
SIZES = {12: 0.55, 30: 0.33, 60: 0.09, 120: 0.02, 200: 0.01}
LANES = 64
# How far from the boundary, relative to what a decision value is summed from, is not on it.
BOUNDARY = {"float64": 1e-6, "float32": 1e-3}


def main() -> None:
    """Solves, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    began = time.monotonic()
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    print(
        "| n | dtype | problems | CONVERGED | STALLED | OUT_OF_STEPS | (a) false | "
        "(b) checked | (b) false | farthest from the boundary, (b) |\n|" + "---|" * 10
    )
    totals: collections.Counter[str] = collections.Counter()
    for n, share in SIZES.items():
        for dtype in ("float64", "float32"):
            batches = max(1, round(given.problems * share / 2 / LANES))
            counts, farthest = judged(n, dtype, batches, given.seed)
            totals += counts
            print(row(n, dtype, counts, f"{farthest:.0e}"), flush=True)
    print(row("all", "both", totals, ""))
    print(f"\n{time.monotonic() - began:.0f} s.")


def row(n: Any, dtype: str, counts: collections.Counter[str], farthest: str) -> str:
    """One row of the table."""
    names = ("problems", "CONVERGED", "STALLED", "OUT_OF_STEPS", "false a", "checked", "false b")
    return f"| {n} | {dtype} | {' | '.join(str(counts[k]) for k in names)} | {farthest} |"


def judged(n: int, dtype: str, batches: int, seed: int) -> tuple[collections.Counter[str], float]:
    """The counts, and how far from the boundary a point on the wrong side was at most."""
    solve = jax.jit(jax.vmap(lambda K, nu, w: ocsvm_solve(K, nu, sample_weight=w)))
    counts: collections.Counter[str] = collections.Counter()
    farthest = 0.0
    for b in range(batches):
        rngs = [np.random.default_rng([seed, n, b, i]) for i in range(LANES)]
        problems = [hard_problems.problem(rng, n, dtype) for rng in rngs]
        K, nu, w = (np.stack(a).astype(dtype) for a in zip(*problems, strict=True))
        solutions = jax.device_get(solve(jnp.asarray(K), jnp.asarray(nu), jnp.asarray(w)))
        for i in range(LANES):
            solution = jax.tree.map(lambda a, i=i: a[i], solutions)
            distance = judge(K[i], nu[i], w[i], solution, counts)
            farthest = max(farthest, distance)
            counts["false b"] += distance > BOUNDARY[dtype]
    return counts, farthest


def judge(K: Any, nu: Any, w: Any, solution: Any, counts: collections.Counter[str]) -> float:
    """Counts one problem; the largest distance from the boundary of a point on its wrong side."""
    counts["problems"] += 1
    counts[Status(int(solution.status)).name] += 1
    # As the solver rounds it: an alpha that is neither free nor zero is its bound.
    C = (w / (nu * np.sum(w, dtype=w.dtype))).astype(w.dtype)
    C = np.where((solution.alpha > 0) & ~solution.free, solution.alpha, C)
    gap, sizes = exact.measure(K, solution.alpha, C)
    noise = 8 * np.finfo(np.longdouble).eps * len(K) * np.max(sizes[solution.alpha > 0])
    noise = float(noise) + float(np.finfo(w.dtype).tiny)
    counts["false a"] += not gap <= float(solution.gap) + noise
    if solution.status != Status.CONVERGED:
        return 0.0
    expected = exact.solve(K, C, solution.alpha)
    if expected is None or exact.only_rounding_is_free(expected.alpha, C, w.dtype):
        return 0.0
    counts["checked"] += 1
    offset = np.longdouble(float(solution.rho))
    f = K.astype(np.longdouble) @ solution.alpha.astype(np.longdouble) - offset
    # f is the difference of a sum and of rho, which is a mean of such sums.
    sizes = np.abs(K).astype(np.longdouble) @ expected.alpha + expected.scale
    # What is below the smallest normal number counts as zero on most devices.
    tiny = float(np.finfo(w.dtype).tiny)
    counted = (w > 0) & (np.abs(expected.f) > tiny)
    return exact.farthest_wrong(expected, C, f, sizes, counted)


if __name__ == "__main__":
    main()
