"""The fused programs, run operation by operation, and what is lowered for which platform.

The whole contract of the solver runs on them by `OCSVM_JAX_FUSED=interpret pytest tests/solver`.
"""

import subprocess
import sys
from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from oracles import optimality
from support.problems import on_host, rbf_matrices
from support.processes import environment

from ocsvm_jax.guidance import guidance_loss
from ocsvm_jax.solver import Status, dual, fused, ocsvm_solve
from ocsvm_jax.solver.fused import launches

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Pallas Triton backend is deprecated:DeprecationWarning"
)

STEPS = 20_000


@pytest.fixture
def interpreted(monkeypatch):
    monkeypatch.setenv("OCSVM_JAX_FUSED", "interpret")


@pytest.fixture
def offered(monkeypatch):
    monkeypatch.setenv("OCSVM_JAX_FUSED", "on")


@pytest.fixture
def extremes_skip_nan(monkeypatch):
    """Minimum and maximum as Triton compiles them: of the numbers that are not NaN."""
    monkeypatch.setattr(jnp, "max", jnp.nanmax)
    monkeypatch.setattr(jnp, "min", jnp.nanmin)
    monkeypatch.setattr(jnp, "maximum", jnp.fmax)
    monkeypatch.setattr(jnp, "minimum", jnp.fmin)
    monkeypatch.setattr(jnp, "clip", lambda x, low, high: jnp.fmin(jnp.fmax(x, low), high))
    jax.clear_caches()
    yield
    jax.clear_caches()


def bounds(n, nu, w=None):
    """(lanes, n) upper bounds on alpha in float32."""
    return np.stack([optimality.upper_bounds(n, v, w) for v in nu]).astype(np.float32)


@partial(jax.jit, static_argnums=3)
def solved(K, C, tol, plain=False):
    if plain:
        return dual.solve_lanes(K, C, tol, max_steps=STEPS)
    return fused.solve_lanes(K, C, tol, max_steps=STEPS, interpret=True)


def assert_solved(K, nu, w, found):
    """Each lane fulfils the optimality conditions, and says so."""
    for lane in range(len(K)):
        solution = optimality_view(found, lane, optimality.upper_bounds(len(w), nu[lane], w))
        optimality.assert_solves(K[lane], nu[lane], w, solution, tol=4e-6)
        assert solution.status == Status.CONVERGED


def optimality_view(found, lane, C):
    """One lane in the form that the oracle takes."""
    from ocsvm_jax.solver import OCSVMSolution

    one = on_host(found, lane)
    free = (one.alpha > 0) & (one.alpha < C.astype(np.float32))
    return OCSVMSolution(one.alpha, one.rho, free, one.gap, one.num_steps, one.status)


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 31, 32, 33, 60, 64, 65, 128])
@pytest.mark.parametrize("few", [0, 128])
def test_all_sizes(n, few, monkeypatch):
    """Powers of two, one below and one above: rows and columns beyond n are masked."""
    monkeypatch.setattr(launches, "_FEW", few)
    jax.clear_caches()
    nu, w = np.array([0.02, 0.3, 0.77, 1.0], np.float32), np.ones(n)
    K = rbf_matrices(n, n, batch=4).astype(np.float32)
    tol = jnp.full(4, -1.0, jnp.float32)
    found = solved(K, bounds(n, nu), tol)
    assert_solved(K, nu, w, found)
    plain = solved(K, bounds(n, nu), tol, True)
    np.testing.assert_allclose(found.rho, plain.rho, rtol=0, atol=4e-6)
    np.testing.assert_allclose(found.alpha, plain.alpha, rtol=0, atol=2e-4)


@pytest.mark.parametrize("quick", [0, 1])
def test_the_second_program_finishes_what_the_first_leaves(quick, monkeypatch):
    """Here the first may take no step at all, or too few."""
    monkeypatch.setattr(launches, "_QUICK", quick)
    monkeypatch.setattr(launches, "_FEW", 0)
    n, nu = 40, np.array([0.05, 0.5, 0.9], np.float32)
    K = rbf_matrices(3, n, batch=3).astype(np.float32)
    run = partial(fused.solve_lanes, max_steps=STEPS, interpret=True)
    found = jax.jit(run)(K, bounds(n, nu), jnp.full(3, -1.0, jnp.float32))
    assert_solved(K, nu, np.ones(n), found)


@pytest.mark.parametrize("few", [0, 128])
def test_a_free_set_larger_than_the_slots(few, monkeypatch):
    """Nearly orthogonal points of different length: all 60 are free, and there are 32 slots."""
    monkeypatch.setattr(launches, "_FEW", few)
    n = 60
    rng = np.random.default_rng(5)
    K = np.diag(rng.uniform(1, 3, n)) + 0.02 * rbf_matrices(5, n, batch=1)[0]
    K = K[None].astype(np.float32)
    run = partial(fused.solve_lanes, max_steps=STEPS, interpret=True)
    found = jax.jit(run)(K, bounds(n, [0.01]), jnp.full(1, -1.0, jnp.float32))
    assert_solved(K, [0.01], np.ones(n), found)
    assert np.all(np.asarray(found.alpha) > 0)


def test_a_free_set_larger_than_the_slots_on_a_gpu(extremes_skip_nan, monkeypatch):
    """As above, for a K that is nearly constant. The shift of K makes the objective negative.

    The Newton step is NaN. Clipped by a minimum that skips NaN it is 0, which would be the better.
    """
    monkeypatch.setattr(launches, "_FEW", 0)
    n = 60
    rng = np.random.default_rng(5)
    x = np.diag(rng.uniform(0.995, 1.005, n)) + 1e-3 * rng.normal(size=(n, n))
    K = np.exp(-0.01 * np.sum((x[:, None] - x[None]) ** 2, axis=-1))[None].astype(np.float32)
    found = solved(K, bounds(n, [0.01]), jnp.full(1, -1.0, jnp.float32))
    assert_solved(K, [0.01], np.ones(n), found)
    assert np.all(np.asarray(found.alpha) > 0)


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf])
def test_a_constant_matrix_on_a_gpu(value, extremes_skip_nan):
    """No alpha follows from the model that the iteration starts with: it is NaN."""
    n, nu = 20, np.array([0.01, 0.2, 1.0], np.float32)
    K = np.full((3, n, n), value, np.float32)
    found = solved(K, bounds(n, nu), jnp.full(3, -1.0, jnp.float32))
    if np.isfinite(value):
        assert_solved(K, nu, np.ones(n), found)
    else:
        assert np.all(found.status == Status.INVALID)
        assert np.all(np.isfinite(found.alpha))


def test_points_without_weight_may_hold_anything():
    n, nu = 20, np.array([0.2], np.float32)
    K = rbf_matrices(9, n, batch=1).astype(np.float32)
    w = np.ones(n)
    w[[0, 7, 19]] = 0
    expected = solved(K, bounds(n, nu, w), jnp.full(1, -1.0, jnp.float32))
    assert np.all(expected.status == Status.CONVERGED)
    K[:, 7], K[:, :, 7], K[:, 0, 5] = np.nan, np.inf, -np.inf
    found = solved(K, bounds(n, nu, w), jnp.full(1, -1.0, jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, on_host(found), on_host(expected))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_matrix_that_is_not_finite_is_invalid_and_disturbs_no_other(value):
    n, nu = 20, np.array([0.2, 0.2], np.float32)
    K = rbf_matrices(9, n, batch=2).astype(np.float32)
    expected = on_host(solved(K, bounds(n, nu), jnp.full(2, -1.0, jnp.float32)), 1)
    K[0, 3, 4] = value
    found = solved(K, bounds(n, nu), jnp.full(2, -1.0, jnp.float32))
    assert found.status[0] == Status.INVALID
    jax.tree.map(np.testing.assert_array_equal, on_host(found, 1), expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [1, 5, 33, 60])
def test_projected_inverses(n, share):
    """Against NumPy's pseudo-inverse, where the system is regular in float64."""
    rng = np.random.default_rng(n)
    K = rbf_matrices(n, n, d=8, log10_gamma=(0.3, 0.6), batch=3)
    free = rng.random((3, n)) < share
    found = fused.projected_inverses(jnp.asarray(K), jnp.asarray(free), interpret=True)
    for lane in range(3):
        inside = free[lane].astype(float)
        P = np.diag(inside) - np.outer(inside, inside) / max(inside.sum(), 1)
        expected = np.linalg.pinv(P @ K[lane] @ P, rcond=1e-12)
        scale = max(np.max(np.abs(expected)), 1e-300)
        np.testing.assert_allclose(found[lane], expected, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_pseudo_inverses_of_minimum_norm(rank):
    """A linear kernel with duplicates, of points of which some are a thousand times farther out."""
    rng = np.random.default_rng(rank)
    x = rng.normal(size=(3, 12, rank))
    x[:, 4], x[:, 9:] = x[:, 3], 1e3 * x[:, 9:]
    K, P = x @ x.transpose(0, 2, 1), np.eye(12) - 1 / 12
    found = fused.projected_inverses(jnp.asarray(K), jnp.ones((3, 12), bool), interpret=True)
    for lane in range(3):
        expected = np.linalg.pinv(P @ K[lane] @ P, rcond=1e-11)
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(found[lane], expected, rtol=0, atol=1e-8 * scale)


def test_values_and_gradients_of_the_guidance(interpreted):
    """Through the public functions, under jit and vmap, against plain JAX."""
    z = jax.random.normal(jax.random.key(1), (2, 24, 5), jnp.float32)

    def values(z):
        loss = lambda z: guidance_loss(z, nu=0.2, gamma=0.1)[0]  # noqa: E731
        return jax.jit(jax.vmap(jax.value_and_grad(loss)))(z)

    found = values(z)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCSVM_JAX_FUSED", "off")
        expected = values(z)
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-4 * float(jnp.max(jnp.abs(e))))


SOLVE = lambda K: jax.vmap(lambda K: ocsvm_solve(K, 0.1).rho)(K)  # noqa: E731
MATRICES = jax.ShapeDtypeStruct((200, 60, 60), jnp.float32)
LATENTS = jax.ShapeDtypeStruct((20, 3), jnp.float32)


def programs_in(function, argument, platform):
    with target(platform):
        lowered = jax.jit(function).trace(argument).lower(lowering_platforms=(platform,))
    return lowered.as_text().count("triton")


def target(platform):
    """Where to lower for a platform."""
    described = platform == "cuda" and described_gpu()
    return jax.sharding.use_abstract_mesh(described) if described else nullcontext()


def described_gpu():
    """From JAX 0.12 on, Triton is lowered for a GPU that is there, or for one that is described."""
    if jax.__version_info__ < (0, 12):
        return None
    device = jax.sharding.AbstractDevice(
        device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu"
    )
    explicit = (jax.sharding.AxisType.Explicit,)
    return jax.sharding.AbstractMesh((1,), ("x",), explicit, abstract_device=device)


def misfit(z):
    return guidance_loss(z, nu=0.1)[0]


@pytest.mark.parametrize(
    ("function", "argument", "programs"),
    [
        pytest.param(SOLVE, MATRICES, 2, id="vmap"),
        pytest.param(jax.grad(lambda K: jnp.sum(SOLVE(K))), MATRICES, 3, id="grad"),
        pytest.param(jax.value_and_grad(misfit), LATENTS, 2, id="guidance"),
        pytest.param(jax.hessian(misfit), LATENTS, 3, id="hessian"),
        pytest.param(
            lambda K: jax.lax.scan(lambda c, K: (c + ocsvm_solve(K, 0.1).rho, None), 0.0, K)[0],
            MATRICES,
            1,
            id="scan",
        ),
    ],
)
def test_lowered_for_cuda(function, argument, programs, offered):
    """One program for a few problems, two for many, and one for a derivative."""
    with jax.numpy_dtype_promotion("standard"):
        assert programs_in(function, argument, "cuda") == programs


@pytest.mark.parametrize("platform", ["cpu", "tpu", "rocm"])
def test_other_platforms_get_the_loops(platform, offered):
    assert programs_in(SOLVE, MATRICES, platform) == 0


@pytest.mark.parametrize("over", ["matrices", "nu"])
def test_lowered_for_cuda_under_shard_map(over, offered):
    """Pallas cannot interpret this, so that it is only lowered here."""
    mesh = described_gpu() or jax.make_mesh((1,), ("x",))
    spec = PartitionSpec("x")

    def placed(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

    if over == "matrices":
        function, argument, expected = SOLVE, placed(*MATRICES.shape), 2
    else:
        # All have the same matrix; the derivative is of rho in nu.
        K = jnp.asarray(rbf_matrices(0, 8, batch=1)[0], jnp.float32)
        function, expected = jax.vmap(jax.grad(lambda nu: ocsvm_solve(K, nu).rho)), 2
        argument = placed(4)
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec)
    assert programs_in(mapped, argument, "cuda") == expected


@pytest.mark.parametrize("wish", ["auto", "off", ""])
def test_not_offered_on_a_cpu(wish, monkeypatch):
    monkeypatch.setenv("OCSVM_JAX_FUSED", wish)
    assert fused.choice(60, jnp.float32) == "plain"


@pytest.mark.parametrize(
    ("n", "dtype", "expected"),
    [(128, "float32", "fused"), (129, "float32", "plain"), (60, "float64", "fused")],
)
def test_sizes_and_dtypes_that_are_offered(n, dtype, expected, offered):
    assert fused.choice(n, dtype) == expected


def test_an_unknown_wish_is_refused(monkeypatch):
    monkeypatch.setenv("OCSVM_JAX_FUSED", "yes")
    with pytest.raises(ValueError, match=r"OCSVM_JAX_FUSED is 'yes'.*auto, on, off, interpret"):
        ocsvm_solve(jnp.eye(3), 0.5)


PLACED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from ocsvm_jax.solver import ocsvm_solve
assert jax.device_count() == 2
x = np.random.default_rng(0).normal(size=(6, 8, 3))
K = jnp.asarray(np.exp(-0.3 * np.sum((x[:, :, None] - x[:, None, :]) ** 2, axis=-1)), jnp.float32)
mesh = jax.make_mesh((2,), ("problems",), axis_types=(AxisType.Auto,))

@jax.jit
def both(K):
    slope = jax.vmap(jax.grad(lambda K: ocsvm_solve(K, 0.4).rho))
    return jax.vmap(lambda K: ocsvm_solve(K, 0.4).alpha)(K), slope(K)

expected = both(K)
placed = jax.device_put(K, NamedSharding(mesh, P("problems")))
found = both(placed)
for a, e in zip(found, expected, strict=True):
    assert a.sharding.spec[0] == "problems", a.sharding
    np.testing.assert_allclose(a, e, rtol=0, atol=1e-6)
text = both.lower(placed).compile().as_text()
assert "all-gather" not in text and "all-reduce" not in text
"""


@pytest.mark.slow
def test_automatic_axes_divide_the_problems():
    """XLA cannot divide a program it did not write, and would give all to every device."""
    command = [sys.executable, "-c", PLACED]
    settings = environment(devices=2) | {"OCSVM_JAX_FUSED": "interpret"}
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
