import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from oracles import differences
from oracles import guidance as oracle

from ocsvm_jax.guidance import constant_betas, guidance_loss, two_phase_betas
from ocsvm_jax.kernels import gram, polynomial, rbf
from ocsvm_jax.solver import ocsvm_solve

HALF, D = 12, 3


def _latents(seed: int = 0) -> jax.Array:
    """A batch whose second half is wider: some points inside, some outside."""
    z = np.random.default_rng(seed).normal(size=(2 * HALF, D))
    return jnp.asarray(z * np.where(np.arange(2 * HALF) < HALF, 1.0, 1.6)[:, None])


def _loss(z, nu=0.3, gamma=0.2, **keywords):
    return guidance_loss(z, nu=nu, gamma=gamma, **keywords)


def _value_and_gradient(z, *arguments, **keywords):
    """Out of jit: the many variants below then share the compiled parts of the solver."""
    return jax.value_and_grad(lambda z: _loss(z, *arguments, **keywords), has_aux=True)(z)


def _gradient(*arguments, **keywords) -> np.ndarray:
    return np.asarray(_value_and_gradient(*arguments, **keywords)[1])


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("gamma", [0.2, "scale", "auto"])
@pytest.mark.parametrize("nu", [0.05, 0.3, 0.8])
def test_value_against_numpy_and_libsvm(nu, gamma, standardize):
    for seed in range(3):
        z = _latents(seed)
        loss, aux = _loss(z, nu, gamma, standardize=standardize)
        expected, num_outside = oracle.loss(np.asarray(z), nu, gamma, standardize)
        assert expected > 0
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        assert aux.num_outside == num_outside


def test_the_betas_never_change_the_value():
    z = _latents()
    betas = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0), (3.0, 0.1)]
    losses = [_loss(z, betas=b)[0] for b in betas]
    assert len({float(loss) for loss in losses}) == 1


@pytest.mark.parametrize("standardize", [True, False])
def test_the_two_routes_add_up(standardize):
    """(b1, b2) gives b1 * expander + b2 * compactor, each in its own half alone."""
    z = _latents()
    at = lambda b1, b2: _gradient(z, betas=(b1, b2), standardize=standardize)  # noqa: E731
    expander, compactor = at(1.0, 0.0), at(0.0, 1.0)
    assert np.all(expander[HALF:] == 0) and np.any(expander[:HALF] != 0)
    assert np.all(compactor[:HALF] == 0) and np.any(compactor[HALF:] != 0)
    assert np.all(at(0.0, 0.0) == 0)
    np.testing.assert_allclose(at(1.0, 1.0), expander + compactor, rtol=1e-13)
    np.testing.assert_allclose(at(0.5, 2.0), 0.5 * expander + 2 * compactor, rtol=1e-13)


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("gamma", [0.2, "scale"])
def test_each_route_against_central_differences(gamma, standardize):
    """Moving one half alone. A gamma found by rule is held at its number, as in the experiments."""
    z = _latents(1)
    keywords = {"standardize": standardize}
    (_, aux), full = _value_and_gradient(z, gamma=gamma, **keywords)
    direction = np.random.default_rng(2).normal(size=z.shape)
    halves = np.arange(2 * HALF)[:, None] < HALF
    for part, betas in ((halves, (1.0, 0.0)), (~halves, (0.0, 1.0))):
        step = jnp.asarray(np.where(part, direction, 0))
        seen = []

        def along(h, step=step, seen=seen):
            loss, aux_h = _loss(z + h * step, gamma=aux.gamma, **keywords)
            seen.append((aux_h.num_outside, aux_h.solution.free))
            return loss

        slope = differences.directional(along, 1e-4)
        for num_outside, free in seen:
            assert num_outside == aux.num_outside
            np.testing.assert_array_equal(free, aux.solution.free)
        route = _gradient(z, betas=betas, gamma=gamma, **keywords)
        np.testing.assert_allclose(np.sum(route * direction), slope, rtol=1e-6)
        np.testing.assert_allclose(np.sum(full * step), slope, rtol=1e-6)


def test_without_the_derivative_of_the_dual():
    """alpha and rho are numbers then: only the kernel carries the expander."""
    z = _latents()
    keywords = {"standardize": False}
    (loss, aux), gradient = _value_and_gradient(z, differentiate_dual=False, **keywords)
    held, z_L = aux.solution, z[HALF:]

    def frozen(z_sv):
        f = gram(rbf(0.2), z_L, z_sv) @ held.alpha - held.rho
        return HALF * jnp.sum(jnp.maximum(-f, 0))

    expected_loss, expected = jax.value_and_grad(frozen)(z[:HALF])
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(gradient[:HALF], expected, rtol=1e-10, atol=1e-12)
    complete = _gradient(z, **keywords)
    assert np.max(np.abs(complete[:HALF] - gradient[:HALF])) > 0.1
    np.testing.assert_allclose(complete[HALF:], gradient[HALF:], rtol=1e-12)


@jax.custom_jvp
def _poison(a):
    """Zero, with a derivative that is NaN where the first coordinate is exactly 5."""
    return jnp.zeros_like(a[0])


@_poison.defjvp
def _poison_jvp(primals, tangents):
    (a,), (da,) = primals, tangents
    return _poison(a), jnp.where(a[0] == 5, jnp.nan, 0) * jnp.sum(da)


@pytest.mark.parametrize(("row", "spoilt", "betas"), [(0, 0, (0.0, 1.0)), (-1, 1, (1.0, 0.0))])
def test_a_route_of_weight_zero_cannot_inject_nan(row, spoilt, betas):
    """One point of one half has a kernel whose derivative is NaN: that stays in its half."""
    z = _latents().at[row, 0].set(5.0)
    keywords = {
        "kernel": lambda a, b: rbf(0.2)(a, b) + _poison(a),
        "standardize": False,
    }
    full, kept = _gradient(z, **keywords), _gradient(z, betas=betas, **keywords)
    halves = np.split(np.isnan(full), 2)
    assert np.any(halves[spoilt]) and not np.any(halves[1 - spoilt])
    assert np.all(np.isfinite(kept))
    sound = slice(HALF, None) if spoilt == 0 else slice(HALF)
    np.testing.assert_array_equal(kept[sound], full[sound])
    assert np.any(kept[sound] != 0)


@pytest.mark.parametrize("constant", [0.0, 0.1, 3.0, 1e-30])
def test_constant_features_have_a_finite_gradient(constant):
    """0.1 is no sum of powers of two: its computed variance is not quite zero."""
    z = _latents().at[:, 1].set(constant)
    (loss, _), gradient = _value_and_gradient(z)
    assert np.isfinite(loss) and np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(_gradient(jnp.asarray(z, jnp.float32), betas=(1.0, 0.0))))


def test_all_latents_equal():
    (loss, _), gradient = _value_and_gradient(jnp.ones((2 * HALF, D)), gamma="scale")
    np.testing.assert_allclose(loss, 0, rtol=0, atol=1e-12)
    assert np.all(np.isfinite(gradient))


def test_statistics_and_support_half_in_aux():
    z = _latents()
    _, aux = _loss(z)
    half = np.asarray(z[:HALF])
    np.testing.assert_allclose(aux.mean, half.mean(axis=0), rtol=0, atol=1e-15)
    np.testing.assert_allclose(aux.std, half.std(axis=0) + 1e-6, rtol=1e-14)
    np.testing.assert_allclose(aux.z_sv, oracle.standardized(half), rtol=1e-12, atol=1e-14)
    assert aux.gamma == 0.2
    expected = ocsvm_solve(gram(rbf(0.2), aux.z_sv), 0.3)
    np.testing.assert_allclose(aux.solution.alpha, expected.alpha, rtol=0, atol=1e-12)
    _, aux = _loss(z, standardize=False)
    np.testing.assert_array_equal(aux.z_sv, z[:HALF])
    assert np.all(aux.mean == 0) and np.all(aux.std == 1)


def test_another_kernel():
    """The RBF kernel given as a function is the RBF kernel; gamma is unknown then."""
    z = _latents()
    loss, aux = guidance_loss(z, nu=0.3, kernel=rbf(0.2))
    np.testing.assert_allclose(loss, _loss(z)[0], rtol=1e-12)
    assert np.isnan(aux.gamma)
    assert np.isfinite(guidance_loss(z, nu=0.3, kernel=polynomial(2, 0.5, 1.0))[0])


def test_jit_and_vmap_with_traced_nu_gamma_and_betas():
    z = jnp.stack([_latents(seed) for seed in range(4)])
    nu, gamma = jnp.array([0.1, 0.3, 0.5, 0.9]), jnp.array([0.05, 0.1, 0.2, 1.0])
    betas = (jnp.array([1.0, 0.0, 0.5, 1.0]), jnp.array([1.0, 1.0, 0.5, 0.0]))

    def loss(z, nu, gamma, betas):
        return guidance_loss(z, nu=nu, gamma=gamma, betas=betas)[0]

    batched = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    losses, gradients = batched(z, nu, gamma, betas)
    for b in range(4):
        own = (betas[0][b], betas[1][b])
        (expected, _), gradient = _value_and_gradient(z[b], nu[b], gamma[b], betas=own)
        np.testing.assert_allclose(losses[b], expected, rtol=1e-10)
        np.testing.assert_allclose(gradients[b], gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("gamma", [0.25, "scale"])
def test_float32_is_close_to_float64(gamma):
    for seed in range(5):
        z = jnp.asarray(_latents(seed), jnp.float32)
        (loss, aux), gradient = _value_and_gradient(z, 0.3125, gamma)
        (expected, _), exact = _value_and_gradient(jnp.asarray(z, float), 0.3125, gamma)
        assert loss.dtype == gradient.dtype == aux.solution.alpha.dtype == jnp.float32
        np.testing.assert_allclose(loss, expected, rtol=1e-4)
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=1e-3 * np.max(np.abs(exact)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_computes_in_float32(dtype, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    z = _latents().astype(dtype)
    (loss, _), gradient = jax.eval_shape(_value_and_gradient, z)
    assert loss.dtype == jnp.float32
    assert gradient.dtype == dtype


@pytest.mark.parametrize("shape", [(7, 3), (0, 3), (8,), (2, 4, 3)])
def test_batches_that_cannot_be_halved(shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="even b") as error:
        guidance_loss(jnp.ones(shape), nu=0.3)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        ({"nu": 0.0}, "nu is 0.0"),
        ({"nu": 0.3, "gamma": -1.0}, "gamma is -1.0"),
        ({"nu": 0.3, "gamma": "median"}, "gamma is 'median'"),
    ],
)
def test_misuse_says_what_was_received_even_under_jit(keywords, text):
    with pytest.raises(ValueError, match=text):
        jax.jit(lambda z: guidance_loss(z, **keywords)[0])(_latents())


def test_constant_schedule():
    schedule = constant_betas((0.5, 2.0))
    assert [float(b) for b in schedule(0)] == [float(b) for b in schedule(99)] == [0.5, 2.0]


@pytest.mark.parametrize("num_epochs", [1, 2, 5, 20])
def test_two_phases(num_epochs):
    """(1, 0) while epoch < num_epochs / 2, then (1, 1); also for a traced epoch."""
    schedule = two_phase_betas(num_epochs)
    traced = jax.jit(schedule)
    for epoch in range(num_epochs):
        expected = (1.0, 0.0) if epoch < num_epochs / 2 else (1.0, 1.0)
        assert tuple(map(float, schedule(epoch))) == expected
        assert tuple(map(float, traced(epoch))) == expected


def test_phases_may_be_chosen():
    schedule = two_phase_betas(4, (0.0, 1.0), (0.5, 0.5))
    assert [tuple(map(float, schedule(e))) for e in (1, 2)] == [(0.0, 1.0), (0.5, 0.5)]


@pytest.mark.parametrize("betas", [(-1.0, 0.0), (1.0,), (float("nan"), 1.0), (1.0, float("inf"))])
def test_betas_must_be_two_finite_numbers(betas, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for schedule in (constant_betas, lambda b: two_phase_betas(4, second=b)):
        with pytest.raises(ValueError, match="betas are"):
            schedule(betas)
