"""The dual in its peers' formulations: JAX functions of K and nu with the peers' own derivatives.

None of the peers is a dependency. A maker raises ImportError if its peer is not installed. The
dtype is float64, in which the peers compute.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# alpha (n,) of K (n, n) and nu.
AlphaOf = Callable[[jax.Array, Any], jax.Array]


def qpax_problem(K: jax.Array, nu: Any) -> tuple[jax.Array, ...]:
    """The dual as qpax states a quadratic program: min x'Qx/2 + q'x, Ax = b, Gx <= h."""
    n = K.shape[0]
    eye = jnp.eye(n)
    bounds = jnp.concatenate([jnp.zeros(n), jnp.broadcast_to(1 / (nu * n), (n,))])
    return K, jnp.zeros(n), jnp.ones((1, n)), jnp.ones(1), jnp.concatenate([-eye, eye]), bounds


def qpax_alpha(target_kappa: float = 1e-3) -> AlphaOf:
    """An interior point; its derivative is that of a problem relaxed by `target_kappa`."""
    import qpax  # pyright: ignore[reportMissingImports]

    def alpha(K: jax.Array, nu: Any) -> jax.Array:
        problem = qpax_problem(K, nu)
        return qpax.solve_qp_primal(*problem, solver_tol=1e-8, target_kappa=target_kappa)

    return alpha


def moreau_alpha(n: int, solver: str = "active_set", smoothing: float | None = None) -> AlphaOf:
    """moreau's active set ("active_set") or interior point ("ipm"), at default tolerances.

    It is a callback to the host, which under jit and vmap never came back where XLA had a single
    thread (NPROC=1, a batch of 8 of n = 50; moreau 0.4.1, jax 0.10.2): give it two cores.

    Args:
      n: the number of points; the solver is built for it.
      solver: which of the two.
      smoothing: mu of the active set's smoothed derivative; None is the exact one.
    """
    import moreau  # pyright: ignore[reportMissingImports]
    from moreau.jax import Solver  # pyright: ignore[reportMissingImports]

    settings = moreau.Settings(solver=solver)
    if solver == "active_set":
        settings.max_iter = 10_000  # at the default, 200, it gives up at n = 249 with alpha = 0
    if smoothing is not None:
        settings.active_set_settings = moreau.ActiveSetSettings(
            diff_method="smoothed", diff_smoothing_mu=smoothing
        )
    # Rows in compressed form: K full; the sum, then -alpha <= 0, then alpha <= C.
    K_pattern = np.arange(0, n * n + 1, n), np.tile(np.arange(n), n)
    A_pattern = np.concatenate([[0], np.arange(n, 3 * n + 1)]), np.tile(np.arange(n), 3)
    cones = moreau.Cones(num_zero_cones=1, num_nonneg_cones=2 * n)
    program = Solver(n, 2 * n + 1, *K_pattern, *A_pattern, cones, settings)

    def alpha(K: jax.Array, nu: Any) -> jax.Array:
        ones, zeros = jnp.ones(n), jnp.zeros(n)
        A = jnp.concatenate([ones, -ones, ones])
        b = jnp.concatenate([ones[:1], zeros, ones / (nu * n)])
        return program.solve(K.ravel(), A, zeros, b).x

    return alpha


def jaxopt_alpha() -> AlphaOf:
    """jaxopt.BoxOSQP at a tolerance of 1e-8, at most 20,000 iterations."""
    import jaxopt  # pyright: ignore[reportMissingImports]

    solver = jaxopt.BoxOSQP(tol=1e-8, maxiter=20_000)

    def alpha(K: jax.Array, nu: Any) -> jax.Array:
        n = K.shape[0]
        A = jnp.concatenate([jnp.ones((1, n)), jnp.eye(n)])
        low = jnp.concatenate([jnp.ones(1), jnp.zeros(n)])
        high = jnp.concatenate([jnp.ones(1), jnp.broadcast_to(1 / (nu * n), (n,))])
        found = solver.run(params_obj=(K, jnp.zeros(n)), params_eq=A, params_ineq=(low, high))
        return found.params.primal[0]

    return alpha


def cvxpylayers_alpha(n: int) -> AlphaOf:
    """cvxpylayers with its default solver and accuracy; K enters by its root. Not under jit."""
    import cvxpy as cp  # pyright: ignore[reportMissingImports]
    import diffcp  # noqa: F401  # pyright: ignore[reportMissingImports]
    from cvxpylayers.jax import CvxpyLayer  # pyright: ignore[reportMissingImports]

    a, L, C = cp.Variable(n), cp.Parameter((n, n)), cp.Parameter(nonneg=True)
    bounds: Any = [a >= 0, a <= C, cp.sum(a) == 1]
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(L @ a)), bounds)
    layer = CvxpyLayer(problem, parameters=[L, C], variables=[a])

    def alpha(K: jax.Array, nu: Any) -> jax.Array:
        return layer(jnp.linalg.cholesky(K, upper=True), jnp.asarray(1 / (nu * n)))[0]

    return alpha


def libsvm_rho(x: np.ndarray, nu: float, gamma: float) -> np.ndarray:
    """rho (lanes,) of scikit-learn's fits to points (lanes, n, d), as if sum(alpha) were 1."""
    from sklearn.svm import OneClassSVM

    svm = OneClassSVM(nu=nu, gamma=gamma, tol=1e-8)  # pyright: ignore[reportArgumentType]
    return np.array([-svm.fit(points).intercept_[0] / (nu * len(points)) for points in x])


def installed(makers: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """What the makers of installed peers make; of the others it prints why they are left out."""
    made: dict[str, Any] = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error}\n")
    return made
