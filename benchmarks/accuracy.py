"""How exact: ours and its peers against LIBSVM at a tolerance of 1e-10.

    python benchmarks/accuracy.py [--largest=16553]

Standard normal points, d = 32, an RBF kernel; nu and gamma over a grid. All errors are computed in
float64 from the alpha that each contestant returned: the dual objective relative to LIBSVM's
(negative is lower, hence better), the KKT gap, and the largest difference of decision values over
the training points, in units of K (sum of alpha = 1). An alpha within a millionth of its bound
counts as at the bound. LIBSVM keeps K in float32, which accounts for errors of about 1e-8.

Prints a Markdown section for RESULTS.md and writes every row to results/accuracy.json. Peers solve
up to 500 points; if one is not installed, the reason is printed. The accuracy of the derivatives
follows, which `gradients.py` measures and explains.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradients
import jax
import jax.numpy as jnp
import numpy as np
import peers
from sklearn.svm import OneClassSVM

from ocsvm_jax import Status, ocsvm_fit, rbf
from ocsvm_jax.kernel_sums import kernel_sum
from ocsvm_jax.reports import provenance

SIZES = (50, 500, 4000, 16553)
NUS = (0.01, 0.03, 0.1, 0.5)
GAMMAS = (0.001, 0.01, 0.1)
PEER_POINTS = 500
RESULTS = Path(__file__).parent / "results" / "accuracy.json"


def main() -> None:
    """Solves, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="leave larger sizes out")
    largest = parser.parse_args().largest
    jax.config.update("jax_enable_x64", True)
    rows = list(judged([n for n in SIZES if n <= largest]))
    facts = provenance.facts()
    RESULTS.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    print(f"Machine: {'; '.join(facts.values())}\n")
    print_table(rows)
    print("\n### Gradients\n")
    gradients.main()


def judged(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """One row a problem and contestant."""
    for n in sizes:
        # float32 numbers: both dtypes see the same points.
        x = np.random.default_rng(n).standard_normal((n, 32)).astype(np.float32).astype(float)
        for gamma in GAMMAS:
            for nu in NUS:
                began = time.perf_counter()
                reference = libsvm(x, nu, gamma)
                expected = Judgement(x, nu, gamma, reference)
                for name, solve in contestants(n).items():
                    alpha, note = solve(x, nu, gamma)
                    found = Judgement(x, nu, gamma, alpha)
                    yield {
                        "contestant": name,
                        "n": n,
                        "nu": nu,
                        "gamma": gamma,
                        "objective": (found.objective - expected.objective) / expected.objective,
                        "gap": found.gap,
                        "decision": float(np.max(np.abs(found.f - expected.f))),
                        "infeasibility": found.infeasibility,
                        "note": note,
                    }
                seconds = time.perf_counter() - began
                print(f"n {n}, gamma {gamma}, nu {nu}: {seconds:.0f} s", flush=True)


class Judgement:
    """Objective, KKT gap and decision values of an alpha, in float64."""

    def __init__(self, x: np.ndarray, nu: float, gamma: float, alpha: np.ndarray):
        C = 1 / (nu * len(x))
        self.infeasibility = float(
            max(abs(alpha.sum() - 1), np.max(alpha - C) / C, -np.min(alpha) / C)
        )
        # Within a millionth of a bound counts as at the bound: float32 rounds C itself.
        alpha = np.where(alpha < 1e-6 * C, 0, np.where(alpha > C * (1 - 1e-6), C, alpha))
        support = np.flatnonzero(alpha)
        points = jnp.asarray(x)
        Ka = np.asarray(
            kernel_sum(rbf(gamma), points[support], jnp.asarray(alpha[support]), points)
        )
        self.objective = 0.5 * float(alpha @ Ka)
        high = np.max(Ka[alpha > 0])
        low = np.min(Ka[alpha < C], initial=np.inf)
        self.gap = float(high - low) if np.isfinite(low) else 0.0
        free = (alpha > 0) & (alpha < C)
        rho = np.mean(Ka[free]) if free.any() else 0.5 * (high + low)
        self.f = Ka - rho


def contestants(n: int) -> dict[str, Callable[[np.ndarray, float, float], tuple[np.ndarray, str]]]:
    """Ours in both dtypes and, on few points, the peers."""
    ours = {f"ocsvm_fit, {dtype}": with_ocsvm_fit(dtype) for dtype in ("float64", "float32")}
    if n <= PEER_POINTS:
        return ours | installed_peers()
    return {"ocsvm_fit, float64, tol 1e-9": with_ocsvm_fit("float64", 1e-9)} | ours


def libsvm(x: np.ndarray, nu: float, gamma: float) -> np.ndarray:
    """LIBSVM's alpha, scaled to sum 1."""
    svm = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu, tol=1e-10, cache_size=2000)  # pyright: ignore[reportArgumentType]
    svm.fit(x)
    alpha = np.zeros(len(x))
    alpha[svm.support_] = svm.dual_coef_[0] / (nu * len(x))
    return alpha


def with_ocsvm_fit(
    dtype: str, tol: float | None = None
) -> Callable[[np.ndarray, float, float], tuple[np.ndarray, str]]:
    """Ours, by default at its default tolerance: beyond 1,024 points LIBSVM's own default."""

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        model = ocsvm_fit(jnp.asarray(x, dtype), nu, rbf(gamma), tol=tol)
        assert model.info is not None
        alpha = np.zeros(len(x))
        alpha[np.asarray(model.info.support)] = np.asarray(model.coefficients, float)
        return alpha, Status(int(model.info.status)).name

    return solve


@functools.cache
def installed_peers() -> dict[str, Any]:
    """Solvers of the same dual that are installed."""
    return peers.installed(
        {
            "moreau, active set": functools.partial(with_moreau, "active_set"),
            "moreau, interior point": functools.partial(with_moreau, "ipm"),
            "qpax": with_qpax,
            "jaxopt OSQP": with_jaxopt,
            "jaxopt BoxOSQP": with_box_osqp,
            "cvxpylayers": with_cvxpylayers,
        }
    )


def gram64(x: np.ndarray, gamma: float) -> np.ndarray:
    """The Gram matrix, exactly symmetric."""
    squares = np.sum(x**2, axis=1)
    K = np.exp(-gamma * np.maximum(squares[:, None] + squares[None, :] - 2 * x @ x.T, 0))
    np.fill_diagonal(K, 1)
    return 0.5 * (K + K.T)


def with_moreau(solver: str) -> Any:
    """moreau's active set or interior point, at its default tolerances."""
    peers.moreau_alpha(1, solver)  # raises ImportError here, not in the first solve
    of_size = functools.cache(lambda n: jax.jit(peers.moreau_alpha(n, solver)))

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        return np.asarray(of_size(len(x))(gram64(x, gamma), nu)), ""

    return solve


def with_qpax() -> Any:
    """An interior point method, at a tolerance of 1e-8."""
    import qpax  # pyright: ignore[reportMissingImports]

    solver = jax.jit(lambda *problem: qpax.solve_qp(*problem, solver_tol=1e-8)[0])

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        K = jnp.asarray(gram64(x, gamma))
        return np.asarray(solver(*peers.qpax_problem(K, nu))), ""

    return solve


def with_jaxopt() -> Any:
    """jaxopt.OSQP at a tolerance of 1e-8, at most 20,000 iterations."""
    import jaxopt  # pyright: ignore[reportMissingImports]

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        n = len(x)
        G = np.concatenate([-np.eye(n), np.eye(n)])
        h = np.concatenate([np.zeros(n), np.full(n, 1 / (nu * n))])
        found = jaxopt.OSQP(tol=1e-8, maxiter=20_000).run(
            params_obj=(gram64(x, gamma), np.zeros(n)),
            params_eq=(np.ones((1, n)), np.ones(1)),
            params_ineq=(G, h),
        )
        return np.asarray(found.params.primal), f"{int(found.state.iter_num)} iterations"

    return solve


def with_box_osqp() -> Any:
    """jaxopt.BoxOSQP at a tolerance of 1e-8, at most 20,000 iterations."""
    import jaxopt  # pyright: ignore[reportMissingImports]

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        n = len(x)
        A = np.concatenate([np.ones((1, n)), np.eye(n)])
        low = np.concatenate([np.ones(1), np.zeros(n)])
        high = np.concatenate([np.ones(1), np.full(n, 1 / (nu * n))])
        found = jaxopt.BoxOSQP(tol=1e-8, maxiter=20_000).run(
            params_obj=(gram64(x, gamma), np.zeros(n)), params_eq=A, params_ineq=(low, high)
        )
        return np.asarray(found.params.primal[0]), f"{int(found.state.iter_num)} iterations"

    return solve


def with_cvxpylayers() -> Any:
    """cvxpylayers with its default solver and accuracy; K enters by its root."""
    import cvxpy as cp  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]
    from cvxpylayers.torch import CvxpyLayer  # pyright: ignore

    def solve(x: np.ndarray, nu: float, gamma: float) -> tuple[np.ndarray, str]:
        n = len(x)
        values, vectors = np.linalg.eigh(gram64(x, gamma))
        a, L = cp.Variable(n), cp.Parameter((n, n))
        bounds = [a >= 0, a <= 1 / (nu * n), cp.sum(a) == 1]
        problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(L @ a)), bounds)
        layer = CvxpyLayer(problem, parameters=[L], variables=[a])
        root = torch.tensor(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)
        return layer(root)[0].numpy(), ""

    return solve


def print_table(rows: list[dict[str, Any]]) -> None:
    """The worst over nu and gamma, a line a size and contestant."""
    print("| n | contestant | problems | relative objective | KKT gap | decision values |")
    print("|---|---|---|---|---|---|")
    for n in dict.fromkeys(row["n"] for row in rows):
        for name in dict.fromkeys(row["contestant"] for row in rows):
            some = [row for row in rows if row["n"] == n and row["contestant"] == name]
            if not some:
                continue
            objective = max((row["objective"] for row in some), key=abs)
            gap, decision = (max(row[key] for row in some) for key in ("gap", "decision"))
            print(f"| {n} | {name} | {len(some)} | {objective:.0e} | {gap:.0e} | {decision:.0e} |")


if __name__ == "__main__":
    main()
