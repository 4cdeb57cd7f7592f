import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from ocsvm_jax.evaluation import final, scores
from ocsvm_jax.evaluation.final import Final
from ocsvm_jax.experiments.images import results
from ocsvm_jax.methods import Method
from ocsvm_jax.methods.base import Score
from ocsvm_jax.solver import Status

BLOCK = scores._BLOCK
FAR = jnp.float32(2**25)


def brightness_method(nan=False):
    """Latents and scores that NumPy can compute: mean brightness of the upper and lower half."""

    def encode(state, images):
        halves = jnp.stack(
            [jnp.mean(images[:, :14], (1, 2, 3)), jnp.mean(images[:, 14:], (1, 2, 3))], 1
        )
        return halves * jnp.nan if nan else halves * state

    def score(state, images):
        z = encode(state, images)
        return {"sum": Score(jnp.sum(z, axis=1), jnp.float32(0)), "far": Score(z[:, 0], FAR)}

    return Method(None, None, score, encode, None, None)


METHOD, STATE = brightness_method(), jnp.float32(2)


def images(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28, 1)).astype(np.uint8)


def latents(some):
    halves = np.stack([some[:, :14].mean((1, 2, 3)), some[:, 14:].mean((1, 2, 3))], 1)
    return 2 * halves / 255


MODEL = scores.model_of(METHOD, STATE)


def settings(**changes):
    return Final(**{"nu": 0.1, "gamma": 0.5, "standardize": True} | changes)


def seen(some, model=MODEL):
    return scores.see_both_ways(model, some)


def fit(some, **changes):
    return scores.FinalOCSVM.fit(seen(some), settings(**changes))


def score(fitted, some):
    return scores.all_scores(fitted, seen(some))


@pytest.fixture(scope="module")
def fitted():
    return fit(images(120))


def test_far_images_are_still_ranked(fitted):
    """In float32, rho minus a kernel sum of 1e-9 is rho: the ranking would be lost."""
    narrow = fit(images(120), gamma=30.0, standardize=False)
    levels = np.arange(180, 230, dtype=np.uint8)
    far = np.broadcast_to(levels[:, None, None, None], (50, 28, 28, 1)).copy()
    found = score(narrow, far)["ocsvm"]
    assert len(set(found.astype(np.float32))) < 50
    assert np.all(np.diff(found) >= 0) and len(set(found)) > len(set(found.astype(np.float32)))
    assert fitted.ocsvm.rho > 0


@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 3])
def test_blocks(fitted, n):
    some = images(n, seed=1)
    z = scores.see(MODEL, some).z
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, latents(some), rtol=1e-5)
    found = score(fitted, some)
    assert set(found) == {"sum", "far", "ocsvm", "ocsvm-log", "contrast"}
    np.testing.assert_allclose(found["sum"], latents(some).sum(1), rtol=1e-5)
    assert found["ocsvm"].shape == (n,)


def test_the_parts_of_a_score_are_added_in_float64():
    """In float32 the offset would leave one value for all."""
    some = images(20, seed=1)
    own = scores.see(MODEL, some).own
    assert set(own) == {"sum", "far"}
    assert all(values.dtype == np.float64 for values in own.values())
    np.testing.assert_allclose(own["far"] - 2**25, latents(some)[:, 0], rtol=1e-5)
    assert len(set((latents(some)[:, 0] + 2**25).astype(np.float32))) == 1


def test_vectors_have_no_upright():
    """A model of vectors has its own scores and that of the final one-class SVM, no contrast."""
    method = METHOD._replace(
        encode=lambda state, x: x[:, :2] * state,
        score=lambda state, x: {"sum": Score(jnp.sum(x, axis=1), jnp.float32(0))},
    )
    some = np.random.default_rng(0).integers(0, 256, (60, 5)).astype(np.uint8)
    of_some = seen(some, scores.model_of(method, STATE))
    assert of_some.turned is None
    found = scores.all_scores(scores.FinalOCSVM.fit(of_some, settings()), of_some)
    assert set(found) == {"sum", "ocsvm", "ocsvm-log"}


def test_saved_and_loaded(fitted, tmp_path):
    """With the units of the contrasts; a run of before has none, and makes no contrasts."""
    some = images(7, seed=2)
    fitted.save(tmp_path)
    again = scores.FinalOCSVM.load(tmp_path)
    assert again.contrast == fitted.contrast and again.errors is None
    for name, values in score(again, some).items():
        np.testing.assert_array_equal(values, score(fitted, some)[name])
    (tmp_path / "contrast.json").unlink()
    assert set(score(scores.FinalOCSVM.load(tmp_path), some)) == {
        "sum",
        "far",
        "ocsvm",
        "ocsvm-log",
    }


def test_ocsvm_score_is_minus_the_decision_function(fitted):
    """By NumPy from the stored numbers; padding to a round number of vectors changes nothing."""
    z, fitted = scores.see(MODEL, images(60, seed=1)).z, fitted.ocsvm
    scale = np.asarray(fitted.kernel.scale, np.float64)
    gaps = z[:, None] / scale - np.asarray(fitted.support_vectors, np.float64)[None] / scale
    K = np.exp(-0.5 * np.sum(gaps**2, axis=2))
    expected = float(fitted.rho) - K @ np.asarray(fitted.coefficients, np.float64)
    found = final.ocsvm_score(fitted, z)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-6)
    padded = final._rounded_up(fitted)
    assert len(padded.coefficients) % final._ROUND == 0
    np.testing.assert_array_equal(
        padded.coefficients[: len(fitted.coefficients)], fitted.coefficients
    )


@pytest.mark.parametrize("kernel", ["rbf", "laplacian"])
def test_the_log_score_goes_on_where_the_kernel_underflows(kernel):
    """By NumPy and SciPy in float64; -f is rho for all of the far latents."""
    z = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    model = final.fit_latents(z, Final(nu=0.2, gamma=0.5, kernel=kernel))
    new = np.concatenate([z[:20] + 0.1, z[:5] + 300, z[:5] + 600])
    differences = (new[:, None] - np.asarray(model.support_vectors)) / (z.std(0) + 1e-6)
    powers = np.abs(differences) if kernel == "laplacian" else differences**2
    log_sums = logsumexp(-0.5 * powers.sum(-1), b=np.asarray(model.coefficients), axis=1)
    found = final.ocsvm_log_score(model, new)
    np.testing.assert_allclose(found, np.log(float(model.rho)) - log_sums, rtol=1e-5, atol=1e-5)
    plain = final.ocsvm_score(model, new)
    assert len(set(plain[20:])) == 1
    np.testing.assert_array_equal(np.sign(found[:20]), np.sign(plain[:20]))
    assert found[25:].min() > found[20:25].max()


def test_a_linear_kernel_has_no_log_score():
    z = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) + 3
    model = final.fit_latents(z, Final(nu=0.2, standardize=False, kernel="linear"))
    assert final.ocsvm_log_score(model, z) is None


def test_a_score_does_not_depend_on_the_other_images(fitted):
    some = images(BLOCK + 20, seed=1)
    whole, alone = score(fitted, some), score(fitted, some[BLOCK : BLOCK + 3])
    for name, values in alone.items():
        np.testing.assert_array_equal(values, whole[name][BLOCK : BLOCK + 3])


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("gamma", ["scale", 0.5])
def test_final_one_class_svm(standardize, gamma):
    some = images(120)
    model = fit(some, standardize=standardize, gamma=gamma).ocsvm
    z = scores.see(MODEL, some).z
    scale = z.std(axis=0) + 1e-6 if standardize else np.ones(2)
    number = 1 / (2 * np.var(z / scale)) if gamma == "scale" else gamma
    kernel = model.kernel.kernel if standardize else model.kernel
    np.testing.assert_allclose(kernel.gamma, number, rtol=1e-4)
    assert model.info.status in (Status.CONVERGED, Status.STALLED)
    share_outside = np.mean(np.asarray(model.decision_function(jnp.asarray(z))) < -1e-5)
    assert share_outside <= 0.1
    words = results.describe_fit(model, 120)
    assert words.startswith(f"{len(model.coefficients)} support vectors of 120 latents, ")


def test_latents_that_are_not_finite():
    with pytest.raises(ValueError, match="training has diverged"):
        scores.FinalOCSVM.fit(
            seen(images(120), scores.model_of(brightness_method(nan=True), STATE)), settings()
        )
    for broken in (np.nan, np.inf):
        z = latents(images(20)).astype(np.float32)
        z[3, 1] = broken
        with pytest.raises(ValueError, match="training has diverged"):
            final.fit_latents(z, settings())
