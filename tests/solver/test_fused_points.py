"""The program that makes K from points itself, run operation by operation, and where it is taken.

`tests/test_localized.py` and `tests/test_guidance.py` run on it as a whole by
`OCSVM_JAX_FUSED=interpret pytest`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from solver.test_fused import (
    assert_solved,
    bounds,
    extremes_skip_nan,
    interpreted,
    offered,
    programs_in,
)

from ocsvm_jax import rbf
from ocsvm_jax.dual_of_points import _LINEAR, _RBF, RBF_MINUS_1, solve_gram
from ocsvm_jax.guidance import guidance_loss
from ocsvm_jax.kernels import linear
from ocsvm_jax.localized import fit_locations, score_locations
from ocsvm_jax.solver import Status, fused
from ocsvm_jax.solver.fused import launches
from ocsvm_jax.solver.pairwise import Points, solve_points

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Pallas Triton backend is deprecated:DeprecationWarning"
)
__all__ = ["extremes_skip_nan", "interpreted", "offered"]  # fixtures

LANES = 3
NU = np.array([0.03, 0.3, 1.0], np.float32)


def solved(kernel, x, factor, gamma, C):
    given = (x, factor, jnp.full(len(x), gamma, x.dtype), C, jnp.full(len(x), -1.0, x.dtype))
    run = partial(fused.solve_points, kernel, max_steps=20_000, interpret=True)
    return jax.jit(run)(*given)


def points(seed, n, d):
    """(lanes, n, d) normal points around 5, and a factor for each coordinate, in float32."""
    rng = np.random.default_rng(seed)
    x, factor = rng.normal(size=(LANES, n, d)) + 5, rng.uniform(0.5, 2, size=(LANES, d))
    return x.astype(np.float32), factor.astype(np.float32)


@pytest.mark.parametrize(
    ("n", "d", "few"),
    [(1, 1, 128), (2, 64, 0), (17, 3, 128), (60, 16, 0), (64, 33, 128), (128, 5, 0)],
)
def test_solves_the_dual_of_the_points(n, d, few, monkeypatch):
    """Optimal for the kernel matrix of SciPy in float64, with the program for few and for many."""
    monkeypatch.setattr(launches, "_FEW", few)
    jax.clear_caches()
    x, factor = points(n, n, d)
    found = solved(_RBF, x, factor, 0.5 / d, bounds(n, NU))
    wide = (x * 1.0).astype(np.float64) * factor[:, None].astype(np.float64)
    K = np.stack([np.exp(-0.5 / d * cdist(p, p, "sqeuclidean")) for p in wide])
    assert_solved(K.astype(np.float32), NU, np.ones(n), found)


def test_linear():
    x, factor = points(4, 20, 6)
    found = solved(_LINEAR, x, factor, 1.0, bounds(20, NU))
    assert_solved(np.einsum("lid,ljd->lij", x, x), NU, np.ones(20), found)


def test_minus_1_keeps_the_digits_of_a_nearly_constant_kernel():
    """gamma 1e-6: K - 1 is of that size, and K has one digit of it in float32."""
    x, factor = points(5, 30, 8)
    found = solved(RBF_MINUS_1, x, factor, 1e-6, bounds(30, NU))
    wide = x.astype(np.float64) * factor[:, None]
    K = np.stack([np.expm1(-1e-6 * cdist(p, p, "sqeuclidean")) for p in wide])
    for lane in range(LANES):
        f = K[lane] @ np.asarray(found.alpha[lane], float) - float(found.rho[lane])
        inside = np.asarray(found.alpha[lane]) < 0.99 * bounds(30, NU)[lane]
        # Points that are not bounded lie on the boundary or inside, up to 1e-4 of the spread of K.
        assert np.min(f[inside], initial=0) > -1e-4 * np.ptp(K[lane])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_without_weight_may_hold_anything(value):
    x, factor = points(6, 20, 3)
    w = np.ones(20)
    w[[0, 7, 19]] = 0
    expected = solved(_RBF, x, factor, 0.2, bounds(20, NU, w))
    assert np.all(expected.status == Status.CONVERGED)
    x[:, [0, 7, 19]] = value
    found = solved(_RBF, x, factor, 0.2, bounds(20, NU, w))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("kernel", [_RBF, RBF_MINUS_1, _LINEAR])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_invalid_on_a_gpu(kernel, value, extremes_skip_nan):
    """NaN must not be taken for a distance; two points at infinity have none."""
    x, factor = points(7, 20, 3)
    x[0, 3:5] = value
    found = solved(kernel, x, factor, 0.2, bounds(20, NU))
    assert list(found.status) == [Status.INVALID, Status.CONVERGED, Status.CONVERGED]


def test_a_distance_that_overflows_is_finite():
    x, factor = points(8, 20, 3)
    x[:, 3] = 1e25
    found = solved(_RBF, x, factor, 0.2, bounds(20, NU))
    assert np.all(found.status == Status.CONVERGED)


@pytest.mark.parametrize("kernel", [rbf(0.3), linear()])
def test_derivatives(kernel, interpreted):
    """First and second order, as of plain JAX."""
    # Away from 0, around which a linear kernel has no margin.
    x = jnp.asarray(np.random.default_rng(9).normal(size=(12, 4)) + 2, jnp.float32)

    def results():
        rho = lambda x, nu: solve_gram(kernel, x, nu).rho  # noqa: E731
        gradients = jax.jit(jax.grad(rho, (0, 1)))(x, 0.3)
        # A map of a few directions, which is a second derivative and compiles quickly.
        twice = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(rho)(x, 0.3) ** 2)))(x)
        return gradients, twice

    found = results()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCSVM_JAX_FUSED", "off")
        expected = results()
    for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-4 * float(jnp.max(jnp.abs(e))))


def test_more_dimensions_than_a_program_takes(interpreted, monkeypatch):
    """K comes from a matrix product then, and the dual of K is solved."""
    taken = []
    monkeypatch.setattr(fused, "solve_points", lambda *_, **__: taken.append(1))
    x = jnp.asarray(np.random.default_rng(9).normal(size=(12, 65)), jnp.float32)
    given = Points(x, jnp.ones(65, jnp.float32), jnp.float32(0.01))
    solution = solve_points(_RBF, given, 0.3)
    assert solution.status == Status.CONVERGED and not taken


def fit_and_score(z):
    return score_locations(fit_locations(z, nu=0.1, gamma=0.2), z)


def misfit(z):
    return guidance_loss(z, nu=0.1)[0]


@pytest.mark.parametrize(
    ("function", "shape", "programs"),
    [(fit_and_score, (200, 60, 16), 2), (misfit, (100, 32), 1)],
)
def test_who_makes_k_in_the_program(function, shape, programs, offered, monkeypatch):
    """Localised one-class SVMs and the guidance; lowered for CUDA and for nothing else."""
    launched, call = set(), launches.call

    def recorded(*arguments, name, **settings):
        launched.add(name)
        return call(*arguments, name=name, **settings)

    monkeypatch.setattr(launches, "call", recorded)
    jax.clear_caches()
    argument = jax.ShapeDtypeStruct(shape, jnp.float32)
    for platform, expected in (("cuda", programs), ("cpu", 0), ("tpu", 0)):
        assert programs_in(function, argument, platform) == expected
    assert "ocsvm_points" in launched and "ocsvm_solve" not in launched
