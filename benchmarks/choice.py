"""The choice of nu and gamma without labels: every rule that was tried, on tables with labels.

    python benchmarks/choice.py [--dir=FOLDER] [--seeds=5] [--tables=development|held-back|all]
                                [--package]

FOLDER holds one `.npz` per table: `X` (rows, columns) and `y`, 1 for an anomalous row. The labels
score the choices and are not shown to any rule. Without FOLDER, scikit-learn's own data sets are
used. The folds and the rule of `choose_model` are also run with LIBSVM; `--package` calls the
function itself and reports where the two choose differently.

The protocol, written before the first run:

- Two ways to train. "clean": a random 60% of the normal rows, at most 300 of them; tested on the
  other normal rows and all anomalies. "mixed": 500 random rows including any anomalies among them
  (all rows if there are fewer), as without labels; tested on the same rows. Columns are
  standardised by the training rows; constant ones are left out.
- Grids: nu in .01, .05, .1, .5 by gamma in .03, .1, .3, 1, 3 times "scale" (the grid on which an
  earlier rule did poorly); "wide": nu in .02, .1, .3, .5, .8 by gamma in .01, .03, .1, .3,
  1, 3, 10, 30 times "scale". The solver is LIBSVM through scikit-learn.
- The metric is the AUROC of the decision values over the test rows, averaged over the seeds. Best,
  median and worst of a table are taken over the grid's cells after averaging: a rule may choose
  another cell for each seed, and competes with the best single cell in hindsight.
- Of the tables in alphabetical order, the first, third, fifth and so on are for development, the
  others are held back. Rules are compared, changed and chosen only on the development tables (and
  on scikit-learn's own data sets, one class against the others); the choice is committed before
  the held-back tables are scored, once.
- Goals for clean training: above the grid's median in at least 13 of 16 tables; a mean AUROC at
  least half way from the grid's median to its best, and above scikit-learn's default.

Chosen on the development tables, before the held-back ones were scored:

- `choose_model`: nu nearest to 0.5, and the gamma at which a model with nu = 0.5 still accepts 80%
  of the unseen points (of other folds) that a very coarse kernel accepts: it rejects 60% if that
  one rejects 50%. On the development tables, 58 to 70% rank equally well in clean training, and
  lower is better in mixed. Likelihood, mass-volume with a box and large fixed gammas rank as well
  in clean training, but fall to chance if there are anomalies among the rows.
- `robust_defaults`: nu = 0.5, gamma = 1 / the median squared distance to the nearest 20%.
- `ocsvm_ensemble`: at nu = 0.5, the mean log expansion over a decade on each side of that gamma.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from choice_rules import ENSEMBLES, RULES, Case, fixed
from sklearn import datasets
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from ocsvm_jax.path import choose_model, finest_gamma, robust_defaults
from ocsvm_jax.path.rows import deal
from ocsvm_jax.reports import provenance

GRIDS = {
    "review": ((0.01, 0.05, 0.1, 0.5), (0.03, 0.1, 0.3, 1, 3)),
    "wide": ((0.02, 0.1, 0.3, 0.5, 0.8), (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)),
}
NUS = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.8)
GAMMAS = GRIDS["wide"][1]
WAYS = ("clean", "mixed")
FOLDS = 5
ARTIFICIAL = 1000
COLUMNS = 36
OURS = ("choose_model", "robust_defaults", "ocsvm_ensemble")
REFERENCES = ("grid's best", "grid's median", "grid's worst", "scikit-learn's default")
# Printed table by table.
SHOWN = (*REFERENCES, *OURS, "rejected + accepted, ball")
Scores = dict[tuple[str, str], dict[str, list[float]]]  # of (way, grid): each rule, table by table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder of the tables")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tables", choices=("development", "held-back", "all"), default="all")
    parser.add_argument("--package", action="store_true", help="call choose_model itself")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"Machine: {'; '.join(provenance.facts().values())}\n")
    if arguments.dir is not None:
        files = sorted(arguments.dir.glob("*.npz"))
        groups = {"development": files[::2], "held-back": files[1::2]}
        if arguments.tables != "all":
            groups = {arguments.tables: groups[arguments.tables]}
        tables = {name: {f.stem: from_file(f) for f in some} for name, some in groups.items()}
    else:
        tables = {"scikit-learn's data sets, one class against the others": of_scikit_learn()}
    scores = {
        name: scored(some, arguments.seeds, arguments.package) for name, some in tables.items()
    }
    for name, of_group in scores.items():
        show_tables(name, list(tables[name]), of_group)
    show_rules(scores)


def from_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels."""
    with np.load(path) as held:
        return held["X"].astype(np.float64), held["y"].astype(int)


def of_scikit_learn() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Digits, iris, breast cancer: one class normal, one tenth of the rows from the others."""
    out = {}
    sources = (
        ("digits", datasets.load_digits, range(10)),
        ("iris", datasets.load_iris, (1, 2)),
        ("breast cancer", datasets.load_breast_cancer, (0, 1)),
    )
    for name, load, classes in sources:
        bunch: Any = load()
        for label in classes:
            normal = np.flatnonzero(bunch.target == label)
            others = np.random.default_rng(0).permutation(np.flatnonzero(bunch.target != label))
            rows = np.concatenate([normal, others[: max(10, len(normal) // 9)]])
            out[f"{name} {label}"] = bunch.data[rows], (bunch.target[rows] != label).astype(int)
    return out


def scored(tables: dict[str, tuple[np.ndarray, np.ndarray]], seeds: int, package: bool) -> Scores:
    """The AUROC of everything, means over the seeds."""
    scores: Scores = {(way, grid): {} for grid in GRIDS for way in WAYS}
    for name, table in tables.items():
        for way in WAYS:
            began = time.monotonic()
            found: dict[str, dict[str, list]] = {grid: {} for grid in GRIDS}
            for seed in range(seeds):
                for grid, results in of_split(*split(*table, way, seed), seed, package).items():
                    for rule, value in results.items():
                        found[grid].setdefault(rule, []).append(value)
            for grid, results in found.items():
                cells = np.mean(results.pop("cells"), axis=0)
                summary = zip(
                    REFERENCES, (np.max(cells), np.median(cells), np.min(cells)), strict=False
                )
                means = dict(summary) | {rule: np.mean(v) for rule, v in results.items()}
                for rule, value in means.items():
                    scores[way, grid].setdefault(rule, []).append(float(value))
            print(f"{name}, {way}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return scores


def split(
    x: np.ndarray, y: np.ndarray, way: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, test rows and their labels, standardised by the training rows."""
    random = np.random.default_rng(seed)
    if way == "clean":
        normal = random.permutation(np.flatnonzero(y == 0))
        count = min(300, int(0.6 * len(normal)))
        train, test = normal[:count], np.concatenate([normal[count:], np.flatnonzero(y == 1)])
    else:
        train = test = random.permutation(len(y))[:500]
    spread = np.std(x[train], axis=0)
    kept = spread > 0
    middle = np.mean(x[train], axis=0)[kept]
    return (
        (x[train][:, kept] - middle) / spread[kept],
        (x[test][:, kept] - middle) / spread[kept],
        y[test],
    )


def of_split(
    x: np.ndarray, tests: np.ndarray, y: np.ndarray, seed: int, package: bool
) -> dict[str, dict[str, object]]:
    """For each grid the AUROC of its cells and of all rules."""
    whole = solved(x, tests, seed)
    squares, to_tests = squared(x, x), squared(tests, x)

    def auroc(score: np.ndarray) -> float:
        return float(roc_auc_score(y, -score))

    def at(nu: float, gamma: float) -> np.ndarray:
        alpha, _ = fit(np.exp(-gamma * squares), nu)
        return np.exp(-gamma * to_tests) @ alpha

    cells = np.apply_along_axis(auroc, 2, whole.test)
    default = cells[fixed(0.5, 1, whole)]
    nu, gamma = robust_defaults(x)
    robust = auroc(at(nu, gamma))
    crossing = chosen_by_libsvm(x, (0.5,), whole.gammas, seed)[1]
    members = [np.log(at(0.5, crossing * 10**step) + 1e-300) for step in (-1, -0.5, 0, 0.5, 1)]
    together = auroc(np.mean(members, axis=0))
    out = {}
    for grid, (nus, multiples) in GRIDS.items():
        case, inside = part(whole, nus, multiples)
        place = chosen_by_libsvm(x, case.nus, case.gammas, seed)[0]
        if package:
            place = checked_by_package(x, case.nus, case.gammas, seed, place)
        out[grid] = {
            "cells": cells[inside],
            "scikit-learn's default": default,
            "choose_model": cells[inside][place],
            "robust_defaults": robust,
            "ocsvm_ensemble": together,
            **{name: cells[inside][rule(case)] for name, rule in RULES.items()},
            **{name: auroc(score(case)) for name, score in ENSEMBLES.items()},
        }
    return out


def chosen_by_libsvm(
    x: np.ndarray, nus: tuple[float, ...] | np.ndarray, gammas: np.ndarray, seed: int
) -> tuple[tuple[int, int], float]:
    """The cell that `choose_model` chooses with key(seed), and its crossing."""
    fold = deal(x, FOLDS, jax.random.split(jax.random.key(seed))[1])
    squares = squared(x, x)
    coarse = 10**-1.5 * min(gammas[0], robust_defaults(x).gamma)

    def rejected(gamma: float) -> float:
        K, outside = np.exp(-gamma * squares), 0
        for k in range(FOLDS):
            others = fold != k
            alpha, offset = fit(K[np.ix_(others, others)], 0.5)
            outside += int(np.sum(K[np.ix_(~others, others)] @ alpha < offset))
        return outside / len(x)

    limit = 1 - 0.8 * (1 - max(rejected(coarse), 0.5))
    crossing, _ = finest_gamma(gammas, np.asarray([rejected(gamma) for gamma in gammas]), limit)
    g = np.argmin(np.abs(np.log(gammas / crossing)))
    return (int(g), int(np.argmin(np.abs(np.log(np.asarray(nus) / 0.5))))), crossing


def checked_by_package(
    x: np.ndarray, nus: np.ndarray, gammas: np.ndarray, seed: int, place: tuple[int, int]
) -> tuple[int, int]:
    """The cell of `choose_model`; says where it is another one."""
    # Columns of zeros change no distance, and tables of one size share a program.
    padded = np.pad(x, ((0, 0), (0, max(0, COLUMNS - x.shape[1]))))
    chosen = choose_model(padded, nus, gammas, jax.random.key(seed))
    actual = int(np.searchsorted(gammas, chosen.gamma)), list(nus).index(chosen.nu)
    if actual != place:
        print(f"choose_model took {actual}, LIBSVM {place}, seed {seed}", file=sys.stderr)
    return actual


def part(whole: Case, nus: tuple[float, ...], multiples: tuple[float, ...]) -> tuple[Case, tuple]:
    """The case on the part of the grid, and where that lies."""
    g, p = [GAMMAS.index(m) for m in multiples], [NUS.index(nu) for nu in nus]
    inside = np.ix_(g, p)

    def cut(values: np.ndarray) -> np.ndarray:
        return values[inside]

    whole_grid = ("unseen", "unseen_rho", "of_fold", "train", "rho", "test")
    case = whole._replace(
        nus=whole.nus[p],
        gammas=whole.gammas[g],
        half_unseen=whole.half_unseen[g],
        half_unseen_rho=whole.half_unseen_rho[g],
        artificial={kind: cut(v) for kind, v in whole.artificial.items()},
        artificial_rho={kind: cut(v) for kind, v in whole.artificial_rho.items()},
        **{name: cut(getattr(whole, name)) for name in whole_grid},
    )
    return case, inside


def solved(x: np.ndarray, tests: np.ndarray, seed: int) -> Case:
    """LIBSVM at every cell of the union of the grids, of all rows and without each fold."""
    random = np.random.default_rng(1000 + seed)
    artificial = artificial_points(x, random)
    n, g, p = len(x), len(GAMMAS), len(NUS)
    gammas = np.asarray(GAMMAS) / x.shape[1]  # "scale" of standardised columns is 1 / d
    squares, to_tests = squared(x, x), squared(tests, x)
    to_artificial = {kind: squared(points, x) for kind, points in artificial.items()}
    fold = random.permutation(np.arange(n) % FOLDS)
    fold_of_artificial = np.arange(ARTIFICIAL) % FOLDS
    unseen, unseen_rho, train = (np.empty((g, p, n)) for _ in range(3))
    rho, test, of_fold = np.empty((g, p)), np.empty((g, p, len(tests))), np.empty((g, p, FOLDS, n))
    f, f_rho = ({kind: np.empty((g, p, ARTIFICIAL)) for kind in artificial} for _ in range(2))
    for i, gamma in enumerate(gammas):
        K, K_test = np.exp(-gamma * squares), np.exp(-gamma * to_tests)
        K_artificial = {kind: np.exp(-gamma * d) for kind, d in to_artificial.items()}
        for j, nu in enumerate(NUS):
            alpha, rho[i, j] = fit(K, nu)
            train[i, j], test[i, j] = K @ alpha, K_test @ alpha
            for k in range(FOLDS):
                others, ours = fold != k, fold_of_artificial == k
                alpha, offset = fit(K[np.ix_(others, others)], nu)
                of_fold[i, j, k] = K[:, others] @ alpha
                unseen[i, j, ~others] = of_fold[i, j, k, ~others]
                unseen_rho[i, j, ~others] = offset
                for kind, matrix in K_artificial.items():
                    f[kind][i, j, ours] = matrix[np.ix_(ours, others)] @ alpha
                    f_rho[kind][i, j, ours] = offset
    coarsest = 0.0
    for k in range(FOLDS):
        K, others = np.exp(-gammas[0] / 30 * squares), fold != k
        alpha, offset = fit(K[np.ix_(others, others)], 0.5)
        coarsest += float(np.sum(K[np.ix_(~others, others)] @ alpha < offset)) / n
    half = NUS.index(0.5)
    given = x, squares, np.asarray(NUS), gammas, unseen, unseen_rho, of_fold, train, rho, test
    return Case(*given, f, f_rho, unseen[:, half], unseen_rho[:, half], coarsest)


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of all pairs, 0 of a row to itself."""
    d = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None] - 2 * a @ b.T
    if a is b:
        np.fill_diagonal(d, 0)
    return np.maximum(d, 0)


def fit(K: np.ndarray, nu: float) -> tuple[np.ndarray, float]:
    """alpha at sum 1, and rho."""
    svm = OneClassSVM(kernel="precomputed", nu=nu, tol=1e-4).fit(K)
    alpha = np.zeros(len(K))
    alpha[svm.support_] = svm.dual_coef_[0]
    total = np.sum(alpha)
    return alpha / total, float(-svm.intercept_[0] / total)


def artificial_points(x: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Uniform in a ball, in boxes; columns shuffled; points moved as far as they spread."""
    n, d = x.shape
    middle = np.mean(x, axis=0)
    _, s, axes = np.linalg.svd(x - middle, full_matrices=False)
    axes = axes[s > 1e-8 * s[0]]
    along = (x - middle) @ axes.T
    direction = random.normal(size=(ARTIFICIAL, d))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    radius = 1.1 * np.max(np.linalg.norm(x - middle, axis=1))

    def box(points: np.ndarray) -> np.ndarray:
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        unit = 1.1 * (random.uniform(size=(ARTIFICIAL, points.shape[1])) - 0.5) + 0.5
        return low + (high - low) * unit

    jitter = random.normal(size=(ARTIFICIAL, len(axes))) * np.std(along, axis=0)
    return {
        "ball": middle + radius * direction * random.uniform(size=(ARTIFICIAL, 1)) ** (1 / d),
        "box": box(x),
        "axes": middle + box(along) @ axes,
        "shuffled": np.stack([column[random.integers(n, size=ARTIFICIAL)] for column in x.T], 1),
        "jitter": x[random.integers(n, size=ARTIFICIAL)] + jitter @ axes,
    }


def way_up(rule: list[float], scores: dict[str, list[float]]) -> tuple[float, float, int]:
    """Mean AUROC, how far from the grid's median to its best, tables above the median."""
    best, median = (np.asarray(scores[name]) for name in REFERENCES[:2])
    mean = float(np.mean(rule))
    way = (mean - np.mean(median)) / (np.mean(best) - np.mean(median))
    return mean, float(way), int(np.sum(np.asarray(rule) > median))


def show_tables(name: str, tables: list[str], scores: Scores) -> None:
    """The main rules table by table."""
    for (way, grid), of_rules in scores.items():
        print(f"### {name.capitalize()}, {way}, grid {grid}\n")
        print(f"| table | {' | '.join(SHOWN)} |\n|{'---|' * (len(SHOWN) + 1)}")
        columns = [of_rules[rule] for rule in SHOWN]
        for table, *values in zip(tables, *columns, strict=True):
            print(f"| {table} | {' | '.join(f'{v:.3f}' for v in values)} |")
        means = " | ".join(f"{np.mean(column):.3f}" for column in columns)
        print(f"| mean of {len(tables)} | {means} |")
        above = (str(way_up(column, of_rules)[2]) for column in columns)
        print(f"| above the grid's median | {' | '.join(above)} |\n")


def show_rules(scores: dict[str, Scores]) -> None:
    """All rules, the best mean way from the median to the best first."""
    columns = [(name, key) for name, of_group in scores.items() for key in of_group]
    print("### All rules\n")
    print(
        "Each cell: mean AUROC, way from the grid's median (0) to its best (1), tables above it.\n"
    )
    heads = (f"{name}, {way}, {grid}" for name, (way, grid) in columns)
    print(f"| rule | {' | '.join(heads)} |\n|{'---|' * (len(columns) + 1)}")
    for rule in sorted(rules_of(scores), key=lambda r: -mean_way(r, scores)):
        cells = (way_up(scores[name][key][rule], scores[name][key]) for name, key in columns)
        row = " | ".join(f"{mean:.3f} {way:+.2f} {above}" for mean, way, above in cells)
        print(f"| {rule} | {row} |")


def rules_of(scores: dict[str, Scores]) -> list[str]:
    """All names."""
    return list(next(iter(next(iter(scores.values())).values())))


def mean_way(rule: str, scores: dict[str, Scores]) -> float:
    """From the grid's median to its best, over everything printed."""
    found = [way_up(r[rule], r)[1] for of_group in scores.values() for r in of_group.values()]
    return float(np.mean(found))


if __name__ == "__main__":
    main()
