"""jit, vmap, scan, grad and sharding, alone and in each other."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from support.problems import on_host, rbf_matrices
from support.processes import environment

from ocsvm_jax.solver import Status, ocsvm_solve

N = 10


@pytest.fixture(scope="module")
def thousand():
    """1,000 problems and their solutions under one `vmap`."""
    K = jnp.asarray(rbf_matrices(0, N, batch=1000))
    nu = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, 1000))
    return K, nu, _batched(K, nu)


_batched = jax.jit(jax.vmap(ocsvm_solve))
_single = jax.jit(ocsvm_solve)


def _assert_same(actual, expected, atol=1e-12):
    """Solutions agree; how many steps and what gap is a matter of rounding."""
    np.testing.assert_allclose(actual.alpha, expected.alpha, rtol=0, atol=atol)
    np.testing.assert_allclose(actual.rho, expected.rho, rtol=0, atol=atol)
    np.testing.assert_array_equal(actual.free, expected.free)
    np.testing.assert_array_equal(actual.status, expected.status)


def test_a_thousand_problems_equal_the_loop(thousand):
    K, nu, batched = on_host(thousand)
    loop = [on_host(_single(K[b], nu[b])) for b in range(1000)]
    _assert_same(batched, jax.tree.map(lambda *leaves: np.stack(leaves), *loop))


def test_vmap_of_vmap(thousand):
    """13 x 7 problems: the number of lanes is no multiple of anything."""
    K, nu, batched = thousand
    split = lambda x: x[:91].reshape((13, 7, *x.shape[1:]))  # noqa: E731
    nested = jax.jit(jax.vmap(jax.vmap(ocsvm_solve)))(split(K), split(nu))
    _assert_same(nested, jax.tree.map(split, batched))


def test_vmap_over_nu_only_and_over_the_matrix_only(thousand):
    K, nu, batched = thousand
    only_nu = jax.jit(jax.vmap(ocsvm_solve, in_axes=(None, 0)))(K[3], nu[:9])
    only_K = jax.jit(jax.vmap(ocsvm_solve, in_axes=(0, None)))(K[:9], nu[3])
    _assert_same(on_host(only_nu, 3), on_host(batched, 3))
    _assert_same(on_host(only_K, 3), on_host(batched, 3))
    for b in (0, 8):
        _assert_same(on_host(only_nu, b), _single(K[3], nu[b]))
        _assert_same(on_host(only_K, b), _single(K[b], nu[3]))


def _loss(K, nu):
    solution = ocsvm_solve(K, nu)
    return solution.rho + jnp.sum(solution.alpha**3)


def test_vmap_of_grad_equals_the_loop(thousand):
    K, nu, _ = thousand
    gradient = jax.grad(_loss, (0, 1))
    batched = jax.jit(jax.vmap(gradient))(K[:20], nu[:20])
    single = jax.jit(gradient)
    for b in range(20):
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-11),
            on_host(batched, b),
            on_host(single(K[b], nu[b])),
        )


def test_free_sets_gathered_into_either_size():
    """From n = 43 on the free set is gathered into one of several sizes: 32 and n for n = 50."""
    n = 50
    K = rbf_matrices(1, n, d=12, batch=2, log10_gamma=(0.5, 0.5))
    nu = jnp.array([0.3, 0.99])
    counts = []

    def alphas(K, nu):
        solution = ocsvm_solve(K, nu)
        return solution.alpha, solution

    slope, solutions = jax.jit(jax.vmap(jax.jacfwd(alphas, 1, has_aux=True)))(jnp.asarray(K), nu)
    for b in range(2):
        free = np.asarray(solutions.free[b])
        upper = ~free & (np.asarray(solutions.alpha[b]) > 0)
        counts.append(np.sum(free))
        m = len(K[b][free])
        matrix = np.block([[K[b][np.ix_(free, free)], -np.ones((m, 1))], [np.ones((1, m)), 0]])
        d_upper = np.where(upper, -1 / (float(nu[b]) ** 2 * n), 0.0)
        right = -np.append((K[b] @ d_upper)[free], np.sum(d_upper))
        expected = d_upper.copy()
        expected[free] = np.linalg.solve(matrix, right)[:m]
        np.testing.assert_allclose(slope[b], expected, rtol=0, atol=1e-10)
    assert min(counts) <= 32 < max(counts)


def test_traced_once_per_shape_with_a_donated_matrix(thousand):
    K, nu, batched = thousand
    traces = []

    def solve(K, nu):
        traces.append(K.shape)
        return ocsvm_solve(K, nu), K + 1  # K + 1 may overwrite the donated K

    donating = jax.jit(solve, donate_argnums=0)
    for b in range(3):
        solution, _ = donating(jnp.array(K[b]), nu[b])
        _assert_same(solution, on_host(batched, b))
    assert traces == [(N, N)]


def test_the_second_eager_call_compiles_nothing(caplog):
    """Out of jit, too, the loops are compiled once per shape."""
    K, other = jnp.asarray(rbf_matrices(1, N, batch=2))
    ocsvm_solve(K, 0.3)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        ocsvm_solve(other, 0.6)
    assert not [r.getMessage() for r in caplog.records if "compilation" in r.getMessage()]


def test_inside_scan_with_a_gradient_through_it():
    """Ten steps of gradient descent on the matrix, rematerialised, and differentiated again."""
    K = jnp.asarray(rbf_matrices(2, N, batch=1)[0])

    def descend(scale):
        def step(K, _):
            value, gradient = jax.value_and_grad(jax.checkpoint(_loss))(K, 0.5)
            return K - scale * gradient, value

        return lax.scan(step, K, None, length=10)[1][-1]

    value, slope = jax.jit(jax.value_and_grad(descend))(0.01)
    plain = K
    gradient = jax.jit(jax.value_and_grad(_loss))
    for _ in range(10):
        expected, direction = gradient(plain, 0.5)
        plain = plain - 0.01 * direction
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    assert slope < 0


def test_max_steps_is_honoured(thousand):
    K, nu, _ = thousand
    solve = jax.jit(jax.vmap(lambda K, nu: ocsvm_solve(K, nu, max_steps=1)))
    solution = on_host(solve(K[:40], nu[:40]))
    assert np.all(solution.num_steps <= 1)
    assert np.all(solution.status[solution.gap > 1e-9] == Status.OUT_OF_STEPS)
    assert np.any(solution.status == Status.OUT_OF_STEPS)
    np.testing.assert_allclose(np.sum(solution.alpha, axis=1), 1, rtol=1e-14)


def test_an_unreachable_tolerance_stalls_at_the_precision_of_the_dtype(thousand):
    K, nu, batched = thousand
    solve = jax.jit(jax.vmap(lambda K, nu: ocsvm_solve(K, nu, tol=1e-300)))
    solution = on_host(solve(K[:40], nu[:40]))
    assert set(solution.status.tolist()) <= {Status.STALLED, Status.CONVERGED}
    assert np.any(solution.status == Status.STALLED)
    assert np.all(solution.gap[solution.status == Status.CONVERGED] <= 0)
    assert np.all(solution.gap < 1e-14)
    np.testing.assert_allclose(solution.alpha, batched.alpha[:40], rtol=0, atol=1e-9)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
jax.config.update("jax_enable_x64", True)
from ocsvm_jax.solver import ocsvm_solve
assert jax.device_count() == 2
x = np.random.default_rng(0).normal(size=(6, 8, 3))
K = jnp.asarray(np.exp(-0.3 * np.sum((x[:, :, None] - x[:, None, :]) ** 2, axis=-1)))
nu = jnp.linspace(0.2, 0.8, 6)
mesh = Mesh(np.array(jax.devices()), ("problems",))
axis = P("problems")
solve = jax.vmap(ocsvm_solve)

def slopes(K, nu):
    return jax.vmap(jax.grad(lambda K, nu: ocsvm_solve(K, nu).rho, (0, 1)))(K, nu)

def check(actual, expected):
    close = lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-12)
    jax.tree.map(close, actual, expected)

both = lambda K, nu: (solve(K, nu).alpha, solve(K, nu).rho, slopes(K, nu))
expected = jax.jit(both)(K, nu)
mapped = jax.jit(jax.shard_map(both, mesh=mesh, in_specs=(axis, axis), out_specs=axis))(K, nu)
check(mapped, expected)
assert len(mapped[0].sharding.device_set) == 2
placed = jax.device_put((K, nu), NamedSharding(mesh, axis))
check(jax.jit(both)(*placed), expected)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("OCSVM_JAX_FUSED") == "interpret",
    reason="Pallas cannot interpret a program under shard_map; test_fused.py lowers it",
)
def test_problems_shared_out_over_two_devices():
    """By `shard_map`, and by placing the arguments; the derivative as well."""
    command = [sys.executable, "-c", SHARDED]
    done = subprocess.run(command, env=environment(devices=2), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
