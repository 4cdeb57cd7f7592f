"""What training and scoring expect of a method, asked of every registered one."""

import functools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.svm import OneClassSVM
from support.small import (
    BATCH,
    DECODER,
    LATENT,
    SETTINGS,
    adam,
    built,
    network,
    normal_images,
    strange_images,
    total,
)
from support.training import KilledError, without_times

from ocsvm_jax.methods import METHODS
from ocsvm_jax.networks.pair import Network, stateless
from ocsvm_jax.training import loop as training

STEPS, STEPS_PER_EPOCH, RATE = 150, 15, 2e-3
PRETRAINED = {"pretrain": 0.3}
LARGEST = ("ogae", "turned_ogae", "edited_ogae")
CASES = {name: (name, {}) for name in METHODS} | {
    "sae, squared": ("sae", {"similarity": "squared"}),
    "deep_svdd, pretrained": ("deep_svdd", PRETRAINED),
    "soft_deep_svdd, pretrained": ("soft_deep_svdd", PRETRAINED | {"radius": "quantile"}),
    "dspsvdd, pretrained": ("dspsvdd", PRETRAINED),
}


class Case:
    """A method, compiled functions of which one counts its traces, and a state after some steps.

    `start` is the state of init; `first` that before the first step past the pretraining, if there
    is one; `state` the last. `losses` are those of the steps from `first` on.
    """

    def __init__(self, name, changes, net=None):
        self.name, self.changes = name, changes
        self.method = built(name, net or network(name), adam(RATE), **changes)
        self.images = normal_images()
        self.traces = 0

        def update(state, images, epoch):
            self.traces += 1
            return self.method.update(state, images, epoch)

        def prepare(state, images, epoch):
            return self.method.prepare(state, lambda function: function(images), epoch)

        self.update, self.prepare = jax.jit(update), jax.jit(prepare)
        self.start = jax.jit(self.method.init)(self.images, jax.random.key(0))
        state, self.first, self.losses = self.start, None, []
        # The reconstruction, of which there is less in its loss, comes late.
        longer = 2 if name == "dvaesvdd" else 1
        for step in range(longer * STEPS):
            epoch = jnp.int32(step // (longer * STEPS_PER_EPOCH))
            if step % (longer * STEPS_PER_EPOCH) == 0:
                state, preparing = self.prepare(state, self.images, epoch)
            # A warm-up that early stopping does not count is past the pretraining all the same.
            past = not preparing or bool(getattr(state.memory, "started", False))
            if self.first is None and past:
                self.first, self.first_epoch, self.uncounted = state, epoch, bool(preparing)
            state, self.parts = self.update(state, self.images, epoch)
            if past:
                self.losses.append(float(self.parts["loss"]))
        self.state = state


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(*CASES[request.param])


@pytest.fixture(scope="module")
def scores(case):
    """Of normal images seen and not seen, and of strange ones."""
    score, encode = jax.jit(case.method.score), jax.jit(case.method.encode)
    # LIBSVM's, as the score "ocsvm" that every method has from its latents.
    ocsvm = OneClassSVM(nu=0.1).fit(encode(case.state, case.images))
    return {
        name: {key: total(value) for key, value in score(case.state, images).items()}
        | {"ocsvm": -ocsvm.decision_function(encode(case.state, images))}
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


def test_every_method_has_a_case():
    assert {name for name, _ in CASES.values()} == set(METHODS)


def test_update_and_prepare_keep_the_type_of_the_state(case):
    assert types(case.state) == types(case.start)
    assert types(case.first) == types(case.start)


def test_nothing_is_float64(case):
    """The suite runs with x64 on; images are float32, and an accelerator has no more."""
    leaves = [*jax.tree.leaves(case.state), *case.parts.values()]
    leaves += jax.tree.leaves(jax.eval_shape(case.method.score, case.state, case.images))
    leaves.append(jax.eval_shape(case.method.encode, case.state, case.images))
    leaves.append(jax.eval_shape(case.method.loss, case.state, case.images))
    for leaf in leaves:
        assert leaf.dtype in (jnp.float32, jnp.int32, jnp.uint32, jnp.int8, jnp.bool), leaf


def test_init_depends_on_shapes_and_key_alone(case):
    again = jax.jit(case.method.init)(jnp.zeros_like(case.images), jax.random.key(0))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), again, case.start)
    other = jax.jit(case.method.init)(case.images, jax.random.key(1))
    assert not np.allclose(other.params["encoder"]["weights"], again.params["encoder"]["weights"])
    assert types(other) == types(case.start)


def test_update_is_compiled_once_for_all_epochs(case):
    assert case.traces == 1


def test_update_and_prepare_are_deterministic(case):
    for function in (case.update, case.prepare):
        first, _ = function(case.start, case.images, jnp.int32(0))
        second, _ = function(case.start, case.images, jnp.int32(0))
        chex.assert_trees_all_equal(first, second, strict=True)


def test_a_step_of_a_packed_state_is_that_step(case):
    pack, unpack = case.method.pack, case.method.unpack
    chex.assert_trees_all_equal(unpack(pack(case.state)), case.state, strict=True)
    assert types(unpack(pack(case.start))) == types(case.start)
    if pack(case.state) is case.state:
        return  # not packed: the same step

    @jax.jit
    def update(state, images, epoch):
        return case.method.update(state, images, epoch)

    arguments = (case.images, jnp.int32(7))
    state = pack(case.state)
    assert len(jax.tree.leaves(state)) < len(jax.tree.leaves(case.state))
    (stepped, parts), (expected, expected_parts) = (
        update(state, *arguments),
        case.update(case.state, *arguments),
    )
    chex.assert_trees_all_equal(unpack(stepped), expected, strict=True)
    chex.assert_trees_all_equal(parts, expected_parts, strict=True)


@pytest.mark.slow
def test_jit_equals_eager(case):
    close = partial(chex.assert_trees_all_close, rtol=1e-3, atol=1e-4)
    arguments = (case.first, case.images, jnp.int32(7))
    jitted, parts = case.update(*arguments)
    eager, eager_parts = case.method.update(*arguments)
    assert parts.keys() == eager_parts.keys()
    for name, value in parts.items():
        np.testing.assert_allclose(value, eager_parts[name], rtol=1e-4, err_msg=name)
    close((jitted.params, jitted.stats), (eager.params, eager.stats))
    arguments = (case.start, case.images, case.first_epoch)
    prepared, preparing = case.prepare(*arguments)
    assert preparing == case.uncounted == (case.changes.get("radius") == "quantile")
    eager, _ = case.method.prepare(case.start, lambda f: f(case.images), case.first_epoch)
    close(prepared, eager)
    for function in (case.method.encode, case.method.score, case.method.loss):
        arguments = (case.state, case.images)
        close(jax.jit(function)(*arguments), function(*arguments))


def test_parts_are_finite_scalars(case):
    assert "loss" in case.parts
    for name, value in case.parts.items():
        assert value.shape == (), name
        assert np.isfinite(value), name


def test_all_of_the_state_is_finite(case):
    chex.assert_tree_all_finite((case.first, case.state))


def test_loss_falls(case):
    first, last = case.losses[0], np.mean(case.losses[-5:])
    assert last < first - 0.2 * abs(first)


def test_held_out_loss(case):
    loss = jax.jit(case.method.loss)
    before, after = (loss(state, case.images) for state in (case.first, case.state))
    for value in (before, after):
        assert value.shape == ()
        assert np.isfinite(value)
    assert after < before - 0.2 * abs(before)
    assert np.isfinite(loss(case.start, case.images))


def test_encode(case):
    z = case.method.encode(case.state, case.images)
    assert z.shape == (BATCH, LATENT)
    one = case.method.encode(case.state, case.images[:1])
    np.testing.assert_allclose(one, z[:1], rtol=1e-5)


def test_scores_have_the_length_of_the_images(scores):
    assert len(scores["seen"]) > 1
    for some in scores.values():
        for name, values in some.items():
            assert values.shape == (BATCH,), name
            assert np.all(np.isfinite(values)), name


def test_scores_are_larger_for_more_anomalous(scores):
    for name, strange in scores["strange"].items():
        assert np.min(strange) > np.max(scores["seen"][name]), name
        assert np.min(strange) > np.median(scores["not seen"][name]), name


def names_of(some):
    """The methods whose recipes are such; those with the largest programs are slow."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGEST else [])
        for name, recipe in METHODS.items()
        if some(recipe)
    ]


# Two values of every setting that some recipe lists as traced. The first are those of a `Case`.
TRACED = {
    "guidance_weight": (0.01, 0.5),
    "nu": (0.4, 0.2),
    "turned_weight": (0.01, 0.5),
    "edited_weight": (0.01, 0.5),
    "gamma": (0.1, 0.7),
    "betas": ((1.0, 0.0), (0.5, 0.25)),
    "betas_second": ((1.0, 1.0), (0.0, 1.0)),
    "kl_weight": (0.01, 1.0),
    "similarity_weight": (0.1, 1.0),
    "reconstruction_weight": (1.0, 10.0),
    "vae_weight": (1.0, 0.1),
}


def of_value(names, i):
    """The i-th value of each setting as a compiled program is given it, see `population`."""
    return jax.tree.map(jnp.float32, {name: TRACED[name][i] for name in names})


def differ(first, second):
    leaves = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return any(not np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("name", names_of(lambda recipe: recipe.traced))
def test_traced_settings(name):
    """One program for all values: each enters, and gives what a Python number gives."""
    names = METHODS[name].traced
    images, key = normal_images(), jax.random.key(0)

    def run(method, epochs):
        """A step each in the first and the second half of the training, and what comes of it."""
        state = method.init(images, key)
        state, _ = method.prepare(state, lambda function: function(images), jnp.int32(0))
        state, parts = jax.lax.scan(
            lambda state, epoch: method.update(state, images, epoch), state, epochs
        )
        # The memory, which may count a solver's steps, shows in loss and scores.
        scores = method.score(state, images)
        return state.params, state.stats, parts, method.loss(state, images), scores

    def traced(values, epochs):
        return run(built(name, network(name), adam(RATE), **values), epochs)

    numbers = {name: TRACED[name][1] for name in names}
    plain = built(name, network(name), adam(RATE), **numbers)
    epochs = jnp.array([0, 9], jnp.int32)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
    one = jax.jit(traced)
    found = [one(of_value(names, i), epochs) for i in (0, 1)]
    jax.tree.map(close, found[1], jax.jit(partial(run, plain))(epochs))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(of_value(names, i) for i in (0, 1)))
    stacked = jax.jit(jax.vmap(traced, (0, None)))(both, epochs)
    for i in (0, 1):
        jax.tree.map(close, jax.tree.map(lambda leaf, i=i: leaf[i], stacked), found[i])
    for changed in names:
        values = of_value(names, 0) | of_value([changed], 1)
        assert differ(one(values, epochs), found[0]), changed


def test_every_traced_setting_has_values_that_differ_from_one_another():
    for recipe in METHODS.values():
        for name in recipe.traced:
            assert TRACED[name][0] == SETTINGS[name] != TRACED[name][1]


@pytest.mark.parametrize("name", names_of(lambda recipe: True))
def test_resume_gives_the_same_bits(monkeypatch, tmp_path, name):
    """Killed in the third of four epochs; a pretraining, where there is one, lasts for two."""
    method = built(name, network(name), adam(RATE), num_epochs=4, pretrain=0.5, kl_weight=0.1)
    images = np.asarray(np.round(255 * normal_images(3 * BATCH)), np.uint8)
    train = partial(
        training.train,
        method,
        images,
        np.asarray(np.round(255 * normal_images(seed=1)), np.uint8),
        training.Plan(epochs=4, batch_size=BATCH, patience=3, checkpoint_every=2),
        seed=3,
    )
    # All that is spared is a compilation: the function depends on its arguments alone.
    monkeypatch.setattr(training, "epoch_function", functools.cache(training.epoch_function))
    workdirs = tmp_path / "whole", tmp_path / "killed"
    for workdir in workdirs:
        workdir.mkdir()
    whole, history = train(workdir=workdirs[0])

    def die(epochs, loss):
        if len((workdirs[1] / "metrics.jsonl").read_text().splitlines()) == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(workdir=workdirs[1], progress=die)
    resumed, entries = train(workdir=workdirs[1])
    chex.assert_trees_all_equal(resumed, whole, strict=True)
    assert resumed.epoch == 4
    assert without_times(entries) == without_times(history)


class Mlp(nnx.Module):
    """An ordinary nnx module, as a user may bring it."""

    def __init__(self, features: int, bias: bool, rngs: nnx.Rngs):
        self.first = nnx.Linear(28 * 28, 8, use_bias=bias, rngs=rngs)
        self.second = nnx.Linear(8, features, use_bias=bias, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x.reshape(x.shape[0], -1))))


# Promotion: nnx adds a bias (features,) to rows (b, features) by broadcasting of ranks.
@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@jax.numpy_rank_promotion("allow")
def test_an_nnx_module_as_encoder(name):
    """Of an encoder, a method needs `init` and `apply`; split/merge makes them of an nnx module."""
    recipe = METHODS[name]
    make = functools.partial(Mlp, recipe.heads * LATENT, recipe.bias)
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(0))))

    def init(key, x):
        return nnx.split(make(nnx.Rngs(key)))[1]

    def apply(params, x):
        return nnx.merge(graph, params)(x)

    trained = Case(name, {}, Network(stateless(init, apply), DECODER))
    assert trained.traces == 1
    assert trained.losses[-1] < trained.losses[0]
    assert types(trained.state) == types(trained.start)
