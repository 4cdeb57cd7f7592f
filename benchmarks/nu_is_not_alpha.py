"""nu is not a false-alarm rate: the share of new normal points with f < 0, and a threshold.

    python benchmarks/nu_is_not_alpha.py --dir=TABLES [--splits=20]

TABLES holds .npz files with X (n, d) and y (n,), 1 for an anomaly. The normal points of each table
are split at random into thirds, to fit (at most 1,000), to calibrate (at most 1,000) and to test;
columns are standardised by the first third. nu bounds the share outside in the *first* third; the
share counted here is in the last. Prints a Markdown table.
"""

import argparse
from pathlib import Path

import numpy as np

from ocsvm_jax.conformal import conformal_threshold
from ocsvm_jax.sklearn import OneClassSVM

RATE = 0.05
AT_MOST = 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder of .npz tables")
    parser.add_argument("--splits", type=int, default=20, help="random splits of each table")
    arguments = parser.parse_args()
    print(f"nu = {RATE}, false_alarm = {RATE}; {arguments.splits} splits a table, mean +- sd\n")
    print("| table | fit, calibrate, test | d | training f < 0 | new f < 0 | new, calibrated |")
    print("|---|---|---|---|---|---|")
    means = []
    for path in sorted(arguments.dir.glob("*.npz")):
        with np.load(path) as table:
            normal = np.asarray(table["X"], np.float64)[np.asarray(table["y"]) == 0]
        seen = [rates(normal, np.random.default_rng(seed)) for seed in range(arguments.splits)]
        mean, deviation = np.mean(seen, axis=0), np.std(seen, axis=0)
        shown = [f"{m:.3f} +- {s:.3f}" for m, s in zip(mean, deviation, strict=True)]
        sizes = ", ".join(str(len(part)) for part in thirds(normal, np.random.default_rng(0)))
        print(f"| {path.stem} | {sizes} | {normal.shape[1]} | {' | '.join(shown)} |", flush=True)
        means.append(mean)
    mean, low, high = np.mean(means, axis=0), np.min(means, axis=0), np.max(means, axis=0)
    ends = [f"{m:.3f} ({a:.3f} to {b:.3f})" for m, a, b in zip(mean, low, high, strict=True)]
    print(f"| mean (range) of {len(means)} | | | {' | '.join(ends)} |")


def thirds(normal: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Points to fit, to calibrate and to test."""
    fit, calibrate, test = np.array_split(normal[rng.permutation(len(normal))], 3)
    return fit[:AT_MOST], calibrate[:AT_MOST], test


def rates(normal: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The share flagged of the points fitted and of new ones by f < 0, and by the threshold."""
    fit, calibrate, test = thirds(normal, rng)
    centre, scale = np.mean(fit, axis=0), np.std(fit, axis=0)
    scale[scale == 0] = 1
    model = OneClassSVM(nu=RATE).fit((fit - centre) / scale)
    f, f_calibrate, f_test = (
        model.decision_function((x - centre) / scale) for x in (fit, calibrate, test)
    )
    # The threshold of very few points may not exist: they then flag nothing.
    enough = len(calibrate) >= 1 / RATE - 1
    threshold = conformal_threshold(f_calibrate, RATE) if enough else -np.inf
    return float(np.mean(f < 0)), float(np.mean(f_test < 0)), float(np.mean(f_test < threshold))


if __name__ == "__main__":
    main()
