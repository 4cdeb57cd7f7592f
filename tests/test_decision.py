import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracles import libsvm

from ocsvm_jax.decision import decision_function
from ocsvm_jax.kernels import gram, rbf
from ocsvm_jax.solver import OCSVMSolution, ocsvm_solve


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    x, queries = rng.normal(size=(20, 3)), 2 * rng.normal(size=(50, 3))
    return x, queries, jax.jit(ocsvm_solve)(gram(rbf(0.3), jnp.asarray(x)), 0.3)


def _solution(alpha, rho) -> OCSVMSolution:
    """As a solve would return it; only alpha and rho count here."""
    return OCSVMSolution(alpha, rho, alpha > 0, jnp.zeros_like(rho), jnp.int32(0), jnp.int32(0))


def test_sign_and_scale_are_those_of_libsvm_up_to_nu_n(fitted):
    x, queries, solution = fitted
    f = decision_function(solution, gram(rbf(0.3), jnp.asarray(queries), jnp.asarray(x)))
    expected = libsvm.solve_rbf(x, 0.3, 0.3, queries)
    np.testing.assert_allclose(f, expected.decision, rtol=0, atol=1e-7)
    assert np.any(f > 0) and np.any(f < 0)


def test_free_support_vectors_lie_on_the_boundary(fitted):
    x, _, solution = fitted
    f = np.asarray(decision_function(solution, gram(rbf(0.3), jnp.asarray(x))))
    free, alpha = np.asarray(solution.free), np.asarray(solution.alpha)
    np.testing.assert_allclose(f[free], 0, rtol=0, atol=1e-14)
    assert np.all(f[(alpha > 0) & ~free] < 0)
    assert np.all(f[alpha == 0] > 0)


def test_a_batch_of_solutions_by_vmap():
    rng = np.random.default_rng(1)
    alpha, rho, K = (jnp.asarray(rng.normal(size=s)) for s in ((4, 5), (4,), (4, 3, 5)))
    solutions = jax.vmap(_solution)(alpha, rho)
    f = jax.vmap(decision_function)(solutions, K)
    np.testing.assert_allclose(f, np.einsum("bmn,bn->bm", K, alpha) - rho[:, None], rtol=1e-13)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_the_matrix_must_have_a_column_per_point(shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    solution = _solution(jnp.ones(4), jnp.asarray(0.5))
    with pytest.raises(ValueError, match=r"\(m, 4\)") as error:
        decision_function(solution, jnp.ones(shape))
    assert str(shape) in str(error.value)
    assert "gram(kernel, queries, points)" in str(error.value)


def test_a_matrix_of_integers(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    f = decision_function(_solution(jnp.ones(2), jnp.asarray(0.5)), [[1, 2], [0, 1]])
    np.testing.assert_array_equal(f, [2.5, 0.5])
