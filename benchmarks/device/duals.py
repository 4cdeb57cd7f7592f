"""The dual under vmap: one and 2,048 problems of 60 points, against qpax and scikit-learn."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import peers
from timing import clocked, compiled

from device.contest import Contestant, Row, Setting, attempts, contest, kernel_kind
from ocsvm_jax import Status, gram, ocsvm_solve, rbf

NU, POINTS, D = 0.03, 60, 32
GAMMAS = (1 / 32, 0.3)
SAMPLE = 1024  # problems that scikit-learn solves


def rows(setting: Setting) -> Iterator[Row]:
    """float32 with scikit-learn; then float64, where JAX has it on this device, with qpax."""
    lanes = setting.pick((32,), (2048, 1))
    yield from attempts({f"{k:,} duals, float32": partial(in_float32, k, setting) for k in lanes})
    jax.config.update("jax_enable_x64", True)
    yield from attempts({f"{k:,} duals, float64": partial(in_float64, k, setting) for k in lanes})


def described(lanes: int, n: int, gamma: float, what: str = "") -> str:
    """The problem in words."""
    return f"{lanes:,} of n = {n}, gamma {gamma:.3g}{what}"


def goal_of(lanes: int, gamma: float) -> str:
    """The name of the goal for float32."""
    if lanes == 1:
        return "one dual"
    return f"duals {lanes}" + (" gamma .3" if gamma == GAMMAS[1] else "")


def points(lanes: int, n: int) -> np.ndarray:
    """Standard normal points of every problem, (lanes, n, d)."""
    return np.random.default_rng(0).standard_normal((lanes, n, D), dtype=np.float32)


def matrices(x: np.ndarray, gamma: float, dtype: Any = np.float32) -> jax.Array:
    """Their Gram matrices, on the device."""
    return jax.jit(jax.vmap(lambda x: gram(rbf(gamma), x)))(jnp.asarray(x, dtype))


def solve(Ks: jax.Array) -> Any:
    """All problems."""
    return jax.vmap(lambda K: ocsvm_solve(K, NU))(Ks)


def value_and_gradient(Ks: jax.Array) -> Any:
    """rho and a functional of alpha, with the gradient in K."""
    w = jnp.linspace(-1, 1, Ks.shape[-1], dtype=Ks.dtype)

    def functional(K: jax.Array) -> jax.Array:
        solution = ocsvm_solve(K, NU)
        return solution.rho + jnp.sum(w * solution.alpha)

    return jax.vmap(jax.value_and_grad(functional))(Ks)


def in_float32(lanes: int, setting: Setting) -> Iterator[Row]:
    """Values, then values with gradients; scikit-learn's fits on all cores."""
    x = points(max(lanes, setting.pick(64, SAMPLE)), setting.pick(10, POINTS))
    for what, function in {"": solve, ", value and gradient": value_and_gradient}.items():
        ready, seconds = compiled(function, matrices(x[:lanes], GAMMAS[0]))
        kind = kernel_kind(ready.as_text())  # pyright: ignore[reportFunctionMemberAccess]
        for gamma in setting.pick(GAMMAS[:1], GAMMAS):
            Ks = matrices(x[:lanes], gamma)
            run = partial(ready, Ks)
            goal = "" if what else goal_of(lanes, gamma)
            note = kind if what else f"{kind}; {agreement(run(), x[:lanes], gamma)}"
            ours = Contestant(run, lanes, seconds, note)
            contestants = {"ocsvm_jax": ours._replace(goal=goal if lanes == 1 else "")}
            contestants["ocsvm_jax, queued"] = ours.queued(goal)
            if not what:
                fits = partial(on_all_cores, x, gamma)
                first, _ = clocked(fits)  # starts the processes
                note = f"on {os.cpu_count()} cores, Gram matrices included"
                contestants["scikit-learn"] = Contestant(fits, len(x), first, note)
            yield from contest(
                described(lanes, x.shape[1], gamma, what), contestants, "s a problem", setting, 0.1
            )


def in_float64(lanes: int, setting: Setting) -> Iterator[Row]:
    """Ours and qpax in turns."""
    x = points(lanes, setting.pick(10, POINTS))
    n = x.shape[1]
    if jnp.asarray(x, jnp.float64).dtype != jnp.float64:
        yield Row(described(lanes, n, GAMMAS[0]), "float64", None, "", note="no float64 here")
        return
    theirs = peers.installed({"qpax": peers.qpax_alpha})
    ours_of = {"": solve} | setting.pick({}, {", value and gradient": value_and_gradient})
    for what, ours in ours_of.items():
        functions = {"ocsvm_jax": ours}
        functions |= {p: partial(peer_functional, a, bool(what)) for p, a in theirs.items()}
        Ks = matrices(x, GAMMAS[0], np.float64)
        ready = {name: compiled(function, Ks) for name, function in functions.items()}
        for gamma in setting.pick(GAMMAS[:1], GAMMAS):
            Ks = matrices(x, gamma, np.float64)
            contestants = {
                f"{name}, float64": Contestant(partial(run, Ks), lanes, seconds)
                for name, (run, seconds) in ready.items()
            }
            if not what:
                found = agreement(ready["ocsvm_jax"][0](Ks), x, gamma)
                told = contestants["ocsvm_jax, float64"]._replace(note=found)
                contestants["ocsvm_jax, float64"] = told
            name = described(lanes, n, gamma, what)
            for row in contest(name, contestants, "s a problem", setting, 0.1):
                known = "qpax" in row.contestant and goal_of(lanes, gamma) == "duals 2048"
                yield row._replace(goal="duals 2048 qpax" if known and not what else "")


def peer_functional(alpha: Callable[..., Any], gradient: bool, Ks: jax.Array) -> Any:
    """alpha of a peer, or the functional of ours and its gradient, without rho."""
    if not gradient:
        return jax.vmap(lambda K: alpha(K, NU))(Ks)
    w = jnp.linspace(-1, 1, Ks.shape[-1], dtype=Ks.dtype)
    return jax.vmap(jax.value_and_grad(lambda K: jnp.sum(w * alpha(K, NU))))(Ks)


def agreement(solution: Any, x: np.ndarray, gamma: float) -> str:
    """The statuses of all problems, and how far rho is from scikit-learn's on the first of them."""
    rho = peers.libsvm_rho(x[:64].astype(float), NU, gamma)
    error = float(np.max(np.abs(np.asarray(solution.rho[:64], float) - rho)))
    counts = np.bincount(np.ravel(solution.status), minlength=len(Status))
    statuses = ", ".join(f"{n:,} {Status(i).name}" for i, n in enumerate(counts) if n)
    return f"{statuses}; rho of the first {len(rho)} within {error:.0e} of scikit-learn's"


def on_all_cores(x: np.ndarray, gamma: float) -> list[Any]:
    """scikit-learn's rho of every problem."""
    from joblib import Parallel, delayed

    cores = os.cpu_count() or 1
    parts = np.array_split(x, min(len(x), 2 * cores))
    return list(
        Parallel(n_jobs=cores)(delayed(peers.libsvm_rho)(part, NU, gamma) for part in parts)
    )
