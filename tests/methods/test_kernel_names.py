"""Kernels by name: in the guidance, in its scores, in the final one-class SVM, and in cards."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics.pairwise import laplacian_kernel
from sklearn.svm import OneClassSVM
from support.small import BATCH, NETWORK, built, normal_images, total

from ocsvm_jax import guidance_loss, linear
from ocsvm_jax.evaluation.final import Final, finals_of, fit_latents, ocsvm_score
from ocsvm_jax.methods.arguments import ArgumentError
from ocsvm_jax.methods.kernel_names import kernel_named

NU = 0.4
CHANGES = {
    "laplacian": {"kernel": "laplacian", "gamma": 0.7},
    "linear": {"kernel": "linear", "standardize": False},
}


def of_sklearn(name, x, y):
    return x @ y.T if name == "linear" else laplacian_kernel(x, y, gamma=0.7)


def decision(name, z_sv, z):
    """LIBSVM's, in the scale of sum(alpha) = 1."""
    svm = OneClassSVM(kernel="precomputed", nu=NU, tol=1e-10).fit(of_sklearn(name, z_sv, z_sv))
    return svm.decision_function(of_sklearn(name, z, z_sv)) / (NU * len(z_sv))


def statistics(name, z):
    plain = np.zeros(z.shape[1]), np.ones(z.shape[1])
    return plain if name == "linear" else (z.mean(0), z.std(0) + 1e-6)


@functools.cache
def trained(name):
    """A method, and its state, parts and latents before after one step."""
    method = built("ogae", NETWORK, optax.sgd(0.5), **CHANGES[name])
    state = method.init(normal_images(), jax.random.key(0))
    # Latents far from 0 on one side, as one that the linear kernel tells from the origin.
    state.params["encoder"]["bias"] = jnp.full_like(state.params["encoder"]["bias"], 2)
    z = np.asarray(method.encode(state, normal_images()), np.float64)
    return method, *jax.jit(method.update)(state, normal_images(), jnp.int32(9)), z


@pytest.mark.parametrize("name", CHANGES)
def test_guidance_and_its_score_against_libsvm(name):
    method, state, parts, z = trained(name)
    halves = [(h - mean) / std for h in (z[:6], z[6:]) for mean, std in [statistics(name, h)]]
    f = decision(name, *halves)
    np.testing.assert_allclose(parts["guidance"], 6 * np.sum(np.maximum(0, -f)), rtol=1e-3)
    assert parts["guidance"] > 0
    images = normal_images(seed=5)
    mean, std = statistics(name, z[:6])
    latents = (np.asarray(method.encode(state, images), np.float64) - mean) / std
    score = total(method.score(state, images)["last_m"])
    np.testing.assert_allclose(score, -decision(name, halves[0], latents), rtol=1e-3, atol=2e-5)


def test_standardised_latents_have_no_linear_guidance():
    """Why `standardize` is refused with it: the mean of all points is 0, and so is f."""
    z = jax.random.normal(jax.random.key(0), (2 * BATCH, 3)) + 5
    loss, aux = guidance_loss(z, nu=NU, kernel=linear(), standardize=True)
    np.testing.assert_allclose(loss, 0, atol=1e-5)
    np.testing.assert_allclose(aux.solution.rho, 0, atol=1e-6)
    assert guidance_loss(z, nu=NU, kernel=linear(), standardize=False)[0] > 0.1


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("ogae", {"kernel": "lienar"}, r"^kernel is 'lienar'; it is one of .* mean 'linear'"),
        ("ogae", {"kernel": "polynomial"}, r"^kernel is 'polynomial'; it is one of \('rbf', "),
        ("ogae", CHANGES["linear"] | {"gamma": 0.5}, r"^gamma is 0\.5; .* unset \(0\.1\), or"),
        ("ogae", CHANGES["linear"] | {"gamma": "scale"}, "^gamma is 'scale'; .* has no gamma"),
        ("ogae", {"kernel": "linear"}, "^standardize is True; .* must be False"),
        (
            "ogae",
            {"kernel": "laplacian", "gamma": "auto"},
            "^gamma is 'auto'; .* a number: 'scale'",
        ),
        ("turned_ogae", CHANGES["linear"], "^kernel is 'linear'; turned_ogae needs 'rbf' or"),
        ("edited_ogae", {"kernel": "linear"}, "^kernel is 'linear'; edited_ogae needs 'rbf' or"),
        ("edited_ogae", {"gamma": "auto"}, "^gamma is 'auto'; edited_ogae needs a number"),
        (
            "edited_ogae",
            {"edits": ("erasd",)},
            r"^edits is \('erasd',\); 'erasd' is not .* mean 'erased'",
        ),
    ],
)
def test_what_a_kernel_does_not_take(method, changes, message):
    with pytest.raises(ArgumentError, match=message):
        built(method, NETWORK, optax.sgd(0.1), **changes)


def test_a_traced_gamma_reaches_the_laplacian_kernel():
    def loss(gamma):
        method = built("ogae", NETWORK, optax.sgd(0.1), kernel="laplacian", gamma=gamma)
        return method.loss(method.init(normal_images(), jax.random.key(0)), normal_images())

    values = [float(jax.jit(loss)(gamma)) for gamma in (0.2, 0.7)]
    assert values[0] != values[1]
    assert values[1] == pytest.approx(float(loss(0.7)), rel=1e-5)


@pytest.mark.parametrize("name", ["rbf", *CHANGES])
@pytest.mark.parametrize("standardize", [True, False])
def test_final_one_class_svm_against_sklearn(name, standardize):
    """Standardised, latents are divided by their standard deviations, and keep their means."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((150, 4)) * np.array([0.5, 1, 2, 3]) + 4
    new = rng.standard_normal((20, 4)) + 4
    fitted = fit_latents(z, Final(0.21, 0.7, standardize, name))
    scale = z.std(0) + 1e-6 if standardize else np.ones(4)
    metric = functools.partial(laplacian_kernel, gamma=0.7) if name == "laplacian" else name
    svm = OneClassSVM(kernel=metric, nu=0.21, gamma=0.7, tol=1e-10).fit(z / scale)
    expected = -svm.decision_function(new / scale) / (0.21 * len(z))
    np.testing.assert_allclose(ocsvm_score(fitted, new), expected, rtol=1e-4, atol=1e-6)


def test_names_of_finals_say_what_is_set():
    """Those of RBF kernels are names in the records of tables, which must not change."""
    (name,) = finals_of({"nu": (0.03,), "gamma": (0.1,), "standardize": (True,)})
    assert name == "gamma=0.1 nu=0.03 standardize=True"
    assert Final(kernel="linear").name == "kernel=linear nu=0.03 standardize=True"
    assert Final(kernel="laplacian").name == "gamma=0.01 kernel=laplacian nu=0.03 standardize=True"


def test_kernels_by_name():
    x, y = np.random.default_rng(0).standard_normal((2, 3))
    for name in CHANGES:
        value = kernel_named(name, 0.7)(jnp.asarray(x), jnp.asarray(y))
        np.testing.assert_allclose(value, of_sklearn(name, x[None], y[None])[0, 0], rtol=1e-12)
