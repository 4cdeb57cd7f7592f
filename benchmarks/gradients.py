"""How exact the derivatives are: ours and the peers' compared with central differences.

    python benchmarks/gradients.py

Standard normal points, d = 32, an RBF kernel rounded to float32, so that both dtypes see the same
K; nu and gamma over a grid. A problem is a random functional of alpha and its derivative along
random symmetric directions of K with spectral norm 1. It is compared with central differences of
our solver in float64 and, independently, of moreau's active set, extrapolated from steps h and 2h
with h a thousandth of the smallest eigenvalue of K. The extrapolation from 2h and 4h must agree;
otherwise the active set changes within these steps, and the direction is left out. Errors are
relative to the root mean square over the directions of a problem.

The last two columns compare the derivative with the slope over a wide step, half the smallest
eigenvalue on either side, within which active sets do change: the use case of smoothed derivatives.

Prints a Markdown section for RESULTS.md and writes every row to results/gradients.json;
`accuracy.py` ends with it.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers

from ocsvm_jax import gram, ocsvm_solve, rbf
from ocsvm_jax.reports import provenance

SIZES = (50, 60)
NUS = (0.01, 0.03, 0.1, 0.5)
GAMMAS = (0.001, 0.01, 0.1)
DIRECTIONS = 8
FINE, WIDE = 1e-3, 0.5  # steps, in smallest eigenvalues of K
_SAME = 1e-6  # how well two extrapolations agree where nothing changes
RESULTS = Path(__file__).parent / "results" / "gradients.json"
# What a reference is: alphas (k, n) of Ks (k, n, n) and nu.
Alphas = Callable[[jax.Array, float], jax.Array]


def main() -> None:
    """Differentiates, judges, prints."""
    jax.config.update("jax_enable_x64", True)
    rows = [row for n in SIZES for row in judged(n)]
    facts = provenance.facts()
    RESULTS.write_text(json.dumps({"facts": facts, "rows": rows}) + "\n")
    print(f"Machine: {'; '.join(facts.values())}\n")
    print_table(rows)


def judged(n: int) -> Iterator[dict[str, Any]]:
    """One row a problem and direction, with the errors of all contestants."""
    functions, references = contestants(n), solvers(n)
    rng = np.random.default_rng(n)
    for gamma in GAMMAS:
        for nu in NUS:
            x = jnp.asarray(rng.standard_normal((n, 32)))
            K = gram(rbf(gamma), x).astype(jnp.float32).astype(float)
            w, directions = rng.standard_normal(n), random_directions(rng, n)
            smallest = float(np.linalg.eigvalsh(K)[0])
            slopes = {
                name: central_differences(alphas, w, K, nu, directions, FINE * smallest)
                for name, alphas in references.items()
            }
            usable = np.all([same for _, same in slopes.values()], axis=0)
            wide = slope(references["ours"], w, K, nu, directions, WIDE * smallest)
            found = {
                name: np.tensordot(directions, np.asarray(gradient(K, nu, w), float), 2)
                for name, gradient in functions.items()
            }
            against = {name: value for name, (value, _) in slopes.items()} | {"wide": wide}
            yield from _rows({"n": n, "nu": nu, "gamma": gamma}, found, against, usable)


def _rows(
    problem: dict[str, Any],
    found: dict[str, np.ndarray],
    against: dict[str, np.ndarray],
    usable: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """The rows of a problem: of each direction, the relative errors against each reference."""
    scale = {name: float(np.sqrt(np.mean(value**2))) for name, value in against.items()}
    for i, kept in enumerate(usable.tolist()):
        errors = {
            contestant: {
                name: float(f"{abs(derivative[i] - value[i]) / scale[name]:.1e}")
                for name, value in against.items()
            }
            for contestant, derivative in found.items()
        }
        yield problem | {"direction": i, "usable": kept, "errors": errors}


def random_directions(rng: np.random.Generator, n: int) -> np.ndarray:
    """Symmetric matrices of spectral norm 1, (DIRECTIONS, n, n)."""
    D = rng.standard_normal((DIRECTIONS, n, n))
    D = D + D.transpose(0, 2, 1)
    return D / np.linalg.norm(D, ord=2, axis=(1, 2), keepdims=True)


def slope(
    alphas: Alphas, w: np.ndarray, K: jax.Array, nu: float, directions: np.ndarray, h: float
) -> np.ndarray:
    """(F(K + h D) - F(K - h D)) / 2h of F = w' alpha, (DIRECTIONS,)."""
    ahead, behind = (np.asarray(alphas(K + s * directions, nu)) @ w for s in (h, -h))
    return (ahead - behind) / (2 * h)


def central_differences(
    alphas: Alphas, w: np.ndarray, K: jax.Array, nu: float, directions: np.ndarray, h: float
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes along the directions, and where nothing changes within 4h (both (DIRECTIONS,)).

    Richardson's extrapolation: its error is of the order of h^4 on a face of the feasible set, but
    of that of the slope's own jump where the solution passes from one face to another.
    """
    one, two, four = (slope(alphas, w, K, nu, directions, s * h) for s in (1, 2, 4))
    fine, coarse = (4 * one - two) / 3, (4 * two - four) / 3
    return fine, np.abs(coarse - fine) <= _SAME * np.sqrt(np.mean(fine**2))


def solvers(n: int) -> dict[str, Alphas]:
    """The solvers whose differences are the references."""
    ours = jax.jit(jax.vmap(lambda K, nu: ocsvm_solve(K, nu).alpha, (0, None)))
    made = peers.installed({"moreau": partial(peers.moreau_alpha, n)})
    return {"ours": ours} | {k: jax.jit(jax.vmap(f, (0, None))) for k, f in made.items()}


def contestants(n: int) -> dict[str, Callable[..., jax.Array]]:
    """Gradients in K of w' alpha, functions of K, nu and w."""
    makers: dict[str, Callable[[], peers.AlphaOf]] = {
        "moreau, active set": partial(peers.moreau_alpha, n),
        "moreau, interior point": partial(peers.moreau_alpha, n, "ipm"),
        "qpax, target_kappa 1e-3 (default)": peers.qpax_alpha,
        "qpax, target_kappa 1e-8": partial(peers.qpax_alpha, 1e-8),
        "jaxopt BoxOSQP": peers.jaxopt_alpha,
        "cvxpylayers": partial(peers.cvxpylayers_alpha, n),
    }
    for mu in (1e-4, 1e-6, 1e-8):
        name = f"moreau, active set, smoothed, mu {mu:.0e}"
        makers[name] = partial(peers.moreau_alpha, n, smoothing=mu)

    def ours(K: jax.Array, nu: float) -> jax.Array:
        return ocsvm_solve(K, nu).alpha

    def single(K: jax.Array, nu: float) -> jax.Array:
        return ocsvm_solve(K.astype(jnp.float32), jnp.float32(nu)).alpha.astype(K.dtype)

    functions = {"ocsvm_solve, float64": ours, "ocsvm_solve, float32": single}
    functions |= peers.installed(makers)
    gradients = {
        name: jax.grad(lambda K, nu, w, f=alpha: jnp.sum(w * f(K, nu)))
        for name, alpha in functions.items()
    }
    # cvxpylayers reads the numbers on the host.
    return {k: f if k == "cvxpylayers" else jax.jit(f) for k, f in gradients.items()}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Median and worst error (of the wide step the mean) over all problems and directions."""
    some = [row for row in rows if row["usable"]]
    names = [name for name in next(iter(some[0]["errors"].values())) if name != "wide"]
    print(f"{len(some)} of {len(rows)} directions, away from changes of the active set.\n")
    heads = [f"against {name}, median | worst" for name in names]
    print(f"| gradient in K of | {' | '.join(heads)} | over a wide step, median | mean |")
    print("|---" * (3 + 2 * len(names)) + "|")
    for contestant in some[0]["errors"]:
        columns = []
        for name in (*names, "wide"):
            errors = [row["errors"][contestant][name] for row in some]
            second = np.mean(errors) if name == "wide" else np.max(errors)
            columns += [f"{np.median(errors):.0e}", f"{second:.0e}"]
        print(f"| {contestant} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
