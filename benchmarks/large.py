"""Many points: `ocsvm_fit` against scikit-learn (LIBSVM), at several sizes.

    python benchmarks/large.py [--quick]

Standard normal points, an RBF kernel. Contestants take turns; times are medians over the turns; the
first call, which compiles, is reported separately. The dual objectives, recomputed in float64, show
that both solved the same problem. `--quick` leaves out the largest problems. Prints a Markdown
section for RESULTS.md, and draws results/large.png: time against n.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.svm import OneClassSVM
from timing import clocked

from ocsvm_jax import OCSVM, ocsvm_fit, rbf
from ocsvm_jax.kernel_sums import kernel_sum
from ocsvm_jax.reports import provenance

FIGURE = Path(__file__).parent / "results" / "large.png"
SIZES = (1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 256000)
SCIKIT_LEARN_SECONDS = 60.0  # the plot leaves scikit-learn out once it takes longer


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave the largest problems out")
    parser.add_argument("--alone", nargs=3, metavar=("N", "D", "NU"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        n, d, nu = arguments.alone
        fit_alone(int(n), int(d), float(nu))
        return
    jax.config.update("jax_enable_x64", True)
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    compare_fits(16553, 32, 0.01, (0.03, 0.1, 0.5), turns=5)
    compare_decisions(16553, 32, 0.01, 0.5, rows=5000)
    if not arguments.quick:
        compare_fits(100_000, 20, 0.05, (0.03,), turns=1)
        for nu in ("0.03", "0.5"):
            in_a_process("100000", "20", nu)
        in_a_process("278217", "19", "0.5")
    draw(SIZES[:5] if arguments.quick else SIZES)


def points(n: int, d: int) -> np.ndarray:
    """Standard normal rows in float32."""
    return np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)


def ours(x: jax.Array, nu: float, gamma: float) -> OCSVM:
    """A fit at the default tolerance."""
    return jax.block_until_ready(ocsvm_fit(x, nu, rbf(gamma)))


def scikit_learn(x: np.ndarray, nu: float, gamma: float) -> Any:
    """A fit at the default tolerance, with a large cache."""
    svm = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu, cache_size=2000)  # pyright: ignore[reportArgumentType]
    return svm.fit(x)


def compare_fits(n: int, d: int, gamma: float, nus: tuple[float, ...], turns: int) -> None:
    """Both dtypes of ours and scikit-learn in turn, for every nu."""
    x = points(n, d)
    x32, x64 = jnp.asarray(x), jnp.asarray(x, jnp.float64)
    print(f"### Fit, n = {n:,}, d = {d}, gamma = {gamma}\n")
    print(
        "| nu | contestant | times ours | seconds | support vectors | objective | first call, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for nu in nus:
        runs: dict[str, Callable[[], Any]] = {
            "ocsvm_fit, float32": lambda nu=nu: ours(x32, nu, gamma),
            "ocsvm_fit, float64": lambda nu=nu: ours(x64, nu, gamma),
            "scikit-learn": lambda nu=nu: scikit_learn(x, nu, gamma),
        }
        first = {name: clocked(run) for name, run in runs.items()}
        times = in_turn(runs, turns)
        objectives = {name: objective(model, x64, nu, gamma) for name, (_, model) in first.items()}
        for name, seconds in times.items():
            vectors, value = objectives[name]
            relative = value / objectives["scikit-learn"][1] - 1
            ratio = seconds / times["ocsvm_fit, float32"]
            row = (nu, name, f"{ratio:.2f}", f"{seconds:.3f}", vectors, f"{relative:+.0e}")
            print(f"| {' | '.join(map(str, row))} | {first[name][0]:.1f} |")
    print("\nThe objective is relative to scikit-learn's; below zero is lower, better.\n")


def compare_decisions(n: int, d: int, gamma: float, nu: float, rows: int) -> None:
    """The decision function of the same model for many rows."""
    x, queries = points(n, d), points(rows, d) * 1.1
    model = ours(jnp.asarray(x), nu, gamma)
    svm = scikit_learn(x, nu, gamma)
    q32 = jnp.asarray(queries)
    runs: dict[str, Callable[[], Any]] = {
        "ocsvm_jax, float32": lambda: jax.block_until_ready(model.decision_function(q32)),
        "scikit-learn": lambda: svm.decision_function(queries),
    }
    first, _ = clocked(runs["ocsvm_jax, float32"])
    times = in_turn(runs, 5)
    difference = np.max(
        np.abs(np.asarray(runs["ocsvm_jax, float32"]()) - runs["scikit-learn"]() / (nu * n))
    )
    vectors = len(svm.support_)
    print(f"### Decision function, {rows:,} rows, {vectors:,} support vectors, d = {d}\n")
    print("| contestant | times ours | seconds |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {seconds / times['ocsvm_jax, float32']:.1f} | {seconds:.4f} |")
    print(f"\nFirst call {first:.1f} s. Largest difference {difference:.0e}, in units of K.\n")


def fit_alone(n: int, d: int, nu: float) -> None:
    """One fit in float32 and the memory of its whole process."""
    x = points(n, d)
    seconds, model = clocked(lambda: ocsvm_fit(jnp.asarray(x), nu))
    # Not getrusage: its maximum is handed down from the parent process.
    status = Path("/proc/self/status").read_text()
    [memory] = (int(line.split()[1]) / 2**20 for line in status.splitlines() if "VmHWM" in line)
    print(
        f"| {n:,} | {d} | {nu} | {seconds:.1f} | {memory:.2f} | {len(model.coefficients):,} "
        f"| {int(model.info.num_steps)} | {float(model.info.gap):.0e} |"
    )


def in_a_process(*arguments: str) -> None:
    """`fit_alone` where the memory is its own."""
    print("| n | d | nu | seconds, compilation included | GiB | support vectors | rounds | gap |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    subprocess.run([sys.executable, __file__, "--alone", *arguments], check=True)
    print(flush=True)


def objective(model: Any, x: jax.Array, nu: float, gamma: float) -> tuple[int, float]:
    """The number of support vectors and the dual objective in float64 at sum(alpha) = 1."""
    if isinstance(model, OCSVM):
        assert model.info is not None
        support, alpha = model.info.support, model.coefficients.astype(jnp.float64)
    else:
        support, alpha = jnp.asarray(model.support_), jnp.asarray(model.dual_coef_[0])
    alpha = alpha / jnp.sum(alpha)
    vectors = x[support]
    return len(support), float(0.5 * alpha @ kernel_sum(rbf(gamma), vectors, alpha, vectors))


def draw(sizes: tuple[int, ...]) -> None:
    """Seconds against n, nu = 0.1, d = 20, gamma "scale"; after the compilation."""
    # Here alone: others take fits from this module, and need no pictures.
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    times: dict[str, list[tuple[int, float]]] = {"ocsvm_jax, float32": [], "scikit-learn": []}
    peer_runs = True
    for n in sizes:
        x = points(n, 20)
        gamma = 1 / (20 * float(x.var()))
        device_x = jnp.asarray(x)
        ours(device_x, 0.1, gamma)
        times["ocsvm_jax, float32"].append((n, clocked(ours, device_x, 0.1, gamma)[0]))
        if peer_runs:
            seconds, _ = clocked(scikit_learn, x, 0.1, gamma)
            times["scikit-learn"].append((n, seconds))
            peer_runs = 4 * seconds < SCIKIT_LEARN_SECONDS
    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for name, values in times.items():
        axes.loglog(*zip(*values, strict=True), marker="o", markersize=4, label=name)
    axes.set(xlabel="points n", ylabel="seconds a fit", title="nu = 0.1, d = 20, RBF, 2 CPU cores")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=150)
    print(
        "### Time against n, nu = 0.1, d = 20\n\n| n | ours, s | scikit-learn, s |\n|---|---|---|"
    )
    peers = dict(times["scikit-learn"])
    for n, seconds in times["ocsvm_jax, float32"]:
        print(f"| {n:,} | {seconds:.3f} | {f'{peers[n]:.3f}' if n in peers else 'not run'} |")


def in_turn(runs: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median seconds of a call; the contestants take turns, so that noise meets all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            seconds[name].append(clocked(run)[0])
    return {name: float(np.median(values)) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
