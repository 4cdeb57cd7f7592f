"""What training and scoring expect of a method, asked of every registered one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small import BATCH, LATENT, NETWORK, adam, normal_images, settings, strange_images, total

from ocsvm_jax.fit import ocsvm_fit
from ocsvm_jax.methods import METHODS
from ocsvm_jax.networks.pair import Network, stateless

STEPS = 30


class Case:
    """A method, a compiled update that counts its traces, and its state after some steps."""

    def __init__(self, name, network=NETWORK):
        self.name = name
        self.method = METHODS[name].build(network, adam(1e-2), settings())
        self.images = normal_images()
        self.traces = 0

        def update(state, images, epoch):
            self.traces += 1
            return self.method.update(state, images, epoch)

        self.update = jax.jit(update)
        self.start = self.method.init(self.images, jax.random.key(0))
        self.state, self.losses = self.start, []
        for step in range(STEPS):
            self.state, self.parts = self.update(self.state, self.images, jnp.int32(step // 3))
            self.losses.append(float(self.parts["loss"]))


@pytest.fixture(scope="module", params=METHODS)
def case(request):
    return Case(request.param)


@pytest.fixture(scope="module")
def scores(case):
    """Of normal images seen and not seen, and of strange ones."""
    z = case.method.encode(case.state, case.images)
    ocsvm = ocsvm_fit(z, 0.1)
    score = jax.jit(partial(case.method.score, case.state, ocsvm))
    return {
        name: {key: total(value) for key, value in score(images).items()}
        for name, images in (
            ("seen", case.images),
            ("not seen", normal_images(seed=1)),
            ("strange", strange_images()),
        )
    }


def types(tree):
    # Leaves and structure apart: the containers of some releases of nnx compare by identity.
    leaves, structure = jax.tree.flatten(tree)
    return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves], structure


def test_update_keeps_the_type_of_the_state(case):
    assert types(case.state) == types(case.start)


def test_init_depends_on_shapes_and_key_alone(case):
    init = jax.jit(case.method.init)
    again = init(jnp.zeros_like(case.images), jax.random.key(0))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), again, case.start)
    other = case.method.init(case.images, jax.random.key(1))
    assert not np.allclose(other.params["encoder"]["weights"], again.params["encoder"]["weights"])
    assert types(other) == types(case.start)


def test_update_is_compiled_once_for_all_epochs(case):
    assert case.traces == 1


def test_update_is_deterministic(case):
    first, _ = case.update(case.start, case.images, jnp.int32(0))
    second, _ = case.update(case.start, case.images, jnp.int32(0))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_jit_equals_eager(case):
    jitted, parts = case.update(case.start, case.images, jnp.int32(7))
    eager, eager_parts = case.method.update(case.start, case.images, jnp.int32(7))
    assert parts.keys() == eager_parts.keys()
    for name, value in parts.items():
        np.testing.assert_allclose(value, eager_parts[name], rtol=1e-4, err_msg=name)
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
    jax.tree.map(close, jitted.params, eager.params)


def test_parts_are_finite_scalars(case):
    assert "loss" in case.parts
    for name, value in case.parts.items():
        assert value.shape == (), name
        assert np.isfinite(value), name


def test_loss_falls(case):
    assert case.losses[-1] < 0.7 * case.losses[0]


def test_held_out_loss(case):
    for state in (case.start, case.state):
        value = case.method.loss(state, case.images)
        assert value.shape == ()
        assert np.isfinite(value)
    assert value < 0.7 * case.method.loss(case.start, case.images)


def test_encode(case):
    z = case.method.encode(case.state, case.images)
    assert z.shape == (BATCH, LATENT)
    one = case.method.encode(case.state, case.images[:1])
    np.testing.assert_allclose(one, z[:1], rtol=1e-5)


def test_scores_have_the_length_of_the_images(scores):
    assert {"reconstruction", "ocsvm"} <= scores["seen"].keys()
    for some in scores.values():
        for name, values in some.items():
            assert values.shape == (BATCH,), name
            assert np.all(np.isfinite(values)), name


def test_scores_are_larger_for_more_anomalous(scores):
    for name, strange in scores["strange"].items():
        assert np.min(strange) > np.max(scores["seen"][name]), name
        assert np.min(strange) > np.median(scores["not seen"][name]), name


class Mlp(nnx.Module):
    """An ordinary nnx module, as a user may bring it."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(28 * 28, 8, rngs=rngs)
        self.second = nnx.Linear(8, LATENT, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x.reshape(x.shape[0], -1))))


# Promotion: nnx adds a bias (features,) to rows (b, features) by broadcasting of ranks.
@jax.numpy_rank_promotion("allow")
def test_an_nnx_module_as_encoder(case):
    """Of an encoder, a method needs `init` and `apply`; split/merge makes them of an nnx module."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: Mlp(nnx.Rngs(0))))

    def init(key, x):
        return nnx.split(Mlp(nnx.Rngs(key)))[1]

    def apply(params, x):
        return nnx.merge(graph, params)(x)

    encoder = stateless(init, apply)
    trained = Case(case.name, Network(encoder, NETWORK.decoder))
    assert trained.traces == 1
    assert trained.losses[-1] < trained.losses[0]
    assert types(trained.state) == types(trained.start)
