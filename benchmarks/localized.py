"""One one-class SVM per voxel: fitting and scoring a whole slab, against a loop over scikit-learn.

    python benchmarks/localized.py [--voxels=68000] [--turns=3]

The shape of the brain experiment: n = 60 training subjects, 60 subjects to score, d = 16, nu = .03.
The points of each voxel are Gaussian with their own covariance. Ours and the loop, both on all
cores, take turns in the same run; compilation is measured separately. Also prints the largest
difference of the scores, and the wall time extrapolated to a cerebrum of 1.46 million voxels.
"""

import argparse
import json
import os
import platform
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from timing import clocked

from ocsvm_jax.blocks import in_blocks
from ocsvm_jax.localized import fit_locations, score_locations
from ocsvm_jax.reports import provenance

NU = 0.03
CEREBRUM = 1_460_000


def points(voxels: int, subjects: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(voxels, subjects, d) twice, to fit and to score; a third of the latter lies farther out."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(voxels, d, d)).astype(np.float32) / d**0.5
    train = rng.normal(size=(voxels, subjects, d)).astype(np.float32) @ mix
    query = rng.normal(size=(voxels, subjects, d)).astype(np.float32)
    query[:, ::3] *= 2
    return train, query @ mix


def ours(gamma, standardize, train, query):
    return score_locations(fit_locations(train, nu=NU, gamma=gamma, standardize=standardize), query)


def loop(gamma: float, train: np.ndarray, query: np.ndarray) -> np.ndarray:
    """scikit-learn on some of the voxels; -f on the scale of sum(alpha) = 1."""
    from sklearn.svm import OneClassSVM

    out = np.empty(query.shape[:2])
    for i, (x, q) in enumerate(zip(train, query, strict=True)):
        model = OneClassSVM(nu=NU, gamma=gamma).fit(x)  # pyright: ignore[reportArgumentType]
        out[i] = -model.decision_function(q) / (NU * len(x))
    return out


def scikit_learn(gamma: float, train: np.ndarray, query: np.ndarray) -> np.ndarray:
    from joblib import Parallel, delayed

    cores = os.cpu_count() or 1
    parts = zip(np.array_split(train, 4 * cores), np.array_split(query, 4 * cores), strict=True)
    done: list[Any] = list(Parallel(n_jobs=cores)(delayed(loop)(gamma, x, q) for x, q in parts))
    return np.concatenate(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=68_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    given = parser.parse_args()
    train, query = points(given.voxels, 60, 16, seed=0)
    rows = []
    for gamma in (0.01, 0.3):
        function = jax.jit(partial(ours, gamma, False))
        run = partial(in_blocks, function, (train, query), block=given.block)
        one = (train[: given.block], query[: given.block])
        compiled, _ = clocked(partial(in_blocks, function, one, block=given.block))
        seconds, peer = [], []
        scores = reference = np.empty(0)
        for _ in range(given.turns):
            t, scores = clocked(run)
            seconds.append(t)
            t, reference = clocked(scikit_learn, gamma, train, query)
            peer.append(t)
        a, b = statistics.median(seconds), statistics.median(peer)
        row = {
            "gamma": gamma,
            "seconds": seconds,
            "scikit_learn_seconds": peer,
            "first_call_seconds": compiled,
            "ratio": b / a,
            "largest_difference": float(np.abs(scores - reference).max()),
            "spread_of_scores": float(reference.std()),
            "cerebrum_seconds": a / given.voxels * CEREBRUM,
        }
        rows.append(row)
        print(
            f"gamma {gamma}: {a:.2f} s, scikit-learn {b:.2f} s, {b / a:.1f} x; first call "
            f"{compiled:.1f} s; largest difference {row['largest_difference']:.1e} of a spread of "
            f"{row['spread_of_scores']:.1e}; cerebrum {row['cerebrum_seconds']:.0f} s"
        )
    if given.out:
        facts = provenance.facts() | {"voxels": given.voxels, "platform": platform.platform()}
        given.out.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
