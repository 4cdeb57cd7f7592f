"""Populations: every member is the model that it would have been alone."""

import itertools
import json
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support.small import built, dense
from support.training import KilledError, without_times

from ocsvm_jax.methods import METHODS, Method
from ocsvm_jax.networks.pair import Network
from ocsvm_jax.training import history, population
from ocsvm_jax.training import loop as training
from ocsvm_jax.training.checkpoints import Checkpoints
from ocsvm_jax.training.epoch import kept_state
from ocsvm_jax.training.population import Member, Plan, Program

BATCH, LATENT, ROWS, HELD_OUT = 8, 2, 24, 10
STEPS = ROWS // BATCH


@pytest.fixture(scope="module")
def images():
    """(40, 28, 28, 1) uint8: two bars of varying strength, with a little noise."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 20, (40, 28, 28, 1))
    grey[:, 4:10] += rng.integers(50, 230, (40, 1, 1, 1))
    grey[:, 18:24] += rng.integers(50, 230, (40, 1, 1, 1))
    return jnp.asarray(grey.astype(np.uint8))


def member(traced, seed=0, part=0):
    """A member with rows of its own: `part` decides which."""
    order = np.random.default_rng(part).permutation(40)
    return Member(traced, seed, order[:ROWS], order[ROWS : ROWS + HELD_OUT])


def alone(method, images, one, plan, workdir):
    """The oracle: the same model by `training.train`, from its own images, without a population."""
    workdir.mkdir()
    images = np.asarray(images)
    run, entries = training.train(
        method, images[one.rows], images[one.held_out], plan, seed=one.seed, workdir=workdir
    )
    return kept_state(run, plan.patience), entries


def assert_same_bits(first, second):
    chex.assert_trees_all_equal(first, second, strict=True)


def assert_close(first, second, tolerance=2e-4):
    def leaf(a, b):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(leaf, without_counts(first), without_counts(second))


def without_counts(state):
    """Rounding may change how many steps the dual took to the same solution."""
    entries = getattr(getattr(state, "memory", None), "entries", None)
    if entries is None:
        return state
    solution = entries.solution._replace(num_steps=None)
    return state._replace(memory=state.memory._replace(entries=entries._replace(solution=solution)))


def assert_close_history(first, second):
    assert len(first) == len(second)
    for a, b in zip(without_times(first), without_times(second), strict=True):
        names = a.keys() & b.keys()
        assert {"epoch", "loss", "valid_loss"} <= names
        for name in names:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-4, atol=2e-5, err_msg=name)


# A method of two numbers: what becomes of it is decided by the settings and exact integers.


class Toy(NamedTuple):
    hash: jax.Array  # of all images seen, in their order
    steps: jax.Array


EPOCHS = 6


def toy(traced):
    """Its held-out loss after epoch i is losses[i - 1]; from epoch `breaks` on its loss is NaN."""
    losses = jnp.stack([jnp.asarray(loss, jnp.float32) for loss in traced["losses"]])

    def init(images, key):
        return Toy(jax.random.bits(key, (), jnp.uint32), jnp.int32(0))

    def update(state, images, epoch):
        grey = jnp.round(255 * images).astype(jnp.uint32)
        weights = jnp.arange(images.size, dtype=jnp.uint32).reshape(images.shape)
        new = state.hash * jnp.uint32(31) + jnp.sum(grey * weights, dtype=jnp.uint32)
        broken = (epoch + 1).astype(jnp.float32) >= traced["breaks"]
        loss = jnp.where(broken, jnp.nan, (new % 1000).astype(jnp.float32))
        return Toy(new, state.steps + 1), {"loss": loss}

    def loss(state, images):
        return losses[state.steps // STEPS - 1]

    def encode(state, images):
        return jnp.mean(images, axis=2).reshape(images.shape[0], -1)

    def unused(state, images):
        raise NotImplementedError

    def nothing(state, mean_of, epoch):
        return state, jnp.bool(False)

    return Method(init, update, unused, encode, loss, nothing)


NEVER = 1000.0
FALLING = (6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
STOPS_AT_FOUR = (3.0, 1.0, 2.0, 2.0, 0.5, 0.4)
BROKEN = (6.0, 5.0, math.nan, 3.0, 2.0, 1.0)
TOYS = [
    member({"losses": FALLING, "breaks": NEVER}, seed=0, part=0),
    member({"losses": STOPS_AT_FOUR, "breaks": NEVER}, seed=1, part=1),
    member({"losses": BROKEN, "breaks": 3.0}, seed=2, part=2),
    member({"losses": [9.0, 8.0, 7.0, 7.5, 8.0, 1.0], "breaks": NEVER}, seed=2, part=2),
]
PLAN = Plan(EPOCHS, BATCH, patience=2, checkpoint_every=2)


class Counted(Program):
    """A program that counts how often its method was built: once in every trace."""

    def __init__(self, build, plan, size):
        self.traces = 0

        def counted(traced):
            self.traces += 1
            return build(traced)

        super().__init__(counted, plan, size)


@pytest.fixture(scope="module")
def toys():
    return Counted(toy, PLAN, len(TOYS))


@pytest.fixture(scope="module")
def whole(toys, images, tmp_path_factory):
    """The toys, never interrupted."""
    return population.train(toys, TOYS, images, tmp_path_factory.mktemp("whole"))


def test_early_stopping_of_a_member_while_others_go_on(whole, images, tmp_path):
    assert [len(outcome.history) for outcome in whole] == [6, 4, 3, 5]
    for i, best in ((0, 6), (1, 2), (3, 3)):
        state, history = alone(toy(TOYS[i].traced), images, TOYS[i], PLAN, tmp_path / str(i))
        assert_same_bits(whole[i].state, state)
        assert whole[i].state.steps == best * STEPS
        assert [e["best_epoch"] for e in whole[i].history][-1] == best
        mine = [{k: v for k, v in e.items() if k != "best_epoch"} for e in whole[i].history]
        assert without_times(mine) == without_times(history)
        assert all(entry["seconds"] > 0 for entry in whole[i].history)


def test_a_diverged_member_is_reported(whole):
    assert [outcome.diverged for outcome in whole] == [False, False, True, False]
    losses = [entry["loss"] for entry in whole[2].history]
    assert np.isfinite(losses).tolist() == [True, True, False]
    assert whole[2].state.steps == 2 * STEPS, "the best state is from before"
    # The same seed and images without the divergence: nothing else is different.
    assert losses[:2] == [entry["loss"] for entry in whole[3].history][:2]


def test_without_patience_only_divergence_stops(toys, images, tmp_path):
    """The last state is kept, and that of a diverged member stays where it was."""
    lasting = Program(toy, PLAN._replace(patience=0), len(TOYS))
    outcomes = population.train(lasting, TOYS, images, tmp_path)
    assert [int(outcome.state.steps) for outcome in outcomes] == [18, 18, 9, 18]
    assert [len(outcome.history) for outcome in outcomes] == [6, 6, 3, 6]


class Kill:
    """Ends the process at the report of an epoch, which comes before its checkpoint."""

    def __init__(self, epoch):
        self.calls, self.last = [], epoch

    def __call__(self, epochs, loss):
        self.calls.append(epochs)
        if len(self.calls) - 1 == self.last:
            raise KilledError


@pytest.mark.parametrize("epoch", [0, 1, 3, 5, 6])
def test_killed_and_resumed(toys, whole, images, tmp_path, epoch):
    """Before the first checkpoint (0, 1), with one at rest (3), with two (5), at the end."""
    with pytest.raises(KilledError):
        population.train(toys, TOYS, images, tmp_path, Kill(epoch))
    calls = []
    resumed = population.train(
        toys, TOYS, images, tmp_path, lambda n, loss: calls.append((n, loss))
    )
    for mine, theirs in zip(resumed, whole, strict=True):
        assert_same_bits(mine.state, theirs.state)
        np.testing.assert_equal(without_times(mine.history), without_times(theirs.history))
        assert mine.diverged == theirs.diverged
    done = epoch - 1 if epoch % 2 else max(epoch - 2, 0)
    lengths = [len(outcome.history) for outcome in whole]
    assert len(calls) == 1 + EPOCHS - done, "it went on from the last checkpoint"
    assert calls[0][0] == sum(min(length, done) for length in lengths)
    assert math.isnan(calls[0][1])
    assert sum(n for n, _ in calls) == sum(lengths)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_a_checkpoint(toys, whole, images, tmp_path, monkeypatch, moment):
    """Histories and checkpoint are two writes: no epoch may be lost or doubled between them."""
    save = Checkpoints.save

    def save_or_die(self, epoch, state):
        if epoch == 4 and moment == "before":
            raise KilledError
        save(self, epoch, state)
        if epoch == 4:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Checkpoints, "save", save_or_die)
        population.train(toys, TOYS, images, tmp_path)
    lines = [path.read_text().splitlines() for path in sorted(tmp_path.glob("metrics-*.jsonl"))]
    assert [len(own) for own in lines] == [4, 4, 3, 4]
    assert json.loads(lines[0][-1])["epoch"] == 4
    resumed = population.train(toys, TOYS, images, tmp_path)
    for mine, theirs in zip(resumed, whole, strict=True):
        assert_same_bits(mine.state, theirs.state)
        np.testing.assert_equal(without_times(mine.history), without_times(theirs.history))


def interrupted_before(program, members, images, directory):
    """What an earlier version left of a population killed in its fifth epoch.

    A checkpoint of the run after 4 epochs, and one file with the histories of all members.
    """
    with pytest.raises(KilledError):
        population.train(program, members, images, directory, Kill(5))
    paths = sorted(directory.glob("metrics*.jsonl"))
    histories = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
    for entry in itertools.chain(*histories):
        del entry["images_per_s"]
        entry["seconds"] = 0.5
    for path in paths:
        path.unlink()
    (directory / "history.json").write_text(json.dumps([h[:4] for h in histories]))


@pytest.mark.parametrize("number", [1, len(TOYS)])
def test_a_population_that_an_earlier_version_began_goes_on(
    toys, whole, images, tmp_path, number, monkeypatch
):
    program, members = (toys, TOYS) if number > 1 else (Program(toy, PLAN, 1), TOYS[:1])
    interrupted_before(program, members, images, tmp_path)
    # Killed again while the histories are copied.
    copied, write = [], history._write

    def write_or_die(path, entries):
        write(path, entries)
        copied.append(path)
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(history, "_write", write_or_die)
        population.train(program, members, images, tmp_path)
    assert len(copied) == 1
    calls = []
    resumed = population.train(program, members, images, tmp_path, lambda n, loss: calls.append(n))
    assert calls[0] == sum(min(len(outcome.history), 4) for outcome in whole[:number])
    for mine, theirs in zip(resumed, whole, strict=False):
        assert_same_bits(mine.state, theirs.state)
        np.testing.assert_equal(without_times(mine.history), without_times(theirs.history))
        assert mine.diverged == theirs.diverged
        assert [entry["seconds"] == 0.5 for entry in mine.history[:5]] == [
            entry["epoch"] < 5 for entry in mine.history[:5]
        ]
    assert not (tmp_path / "history.json").exists()


def test_a_checkpoint_without_its_histories(toys, images, tmp_path):
    population.train(toys, TOYS, images, tmp_path)
    (tmp_path / "metrics-1.jsonl").unlink()
    with pytest.raises(ValueError, match=r"metrics-1\.jsonl is missing beside its checkpoint"):
        population.train(toys, TOYS, images, tmp_path)


def test_a_finished_population_is_not_trained_again_until_forgotten(toys, whole, images, tmp_path):
    directory = tmp_path / "population"
    first = population.train(toys, TOYS, images, directory)
    calls = []
    again = population.train(toys, TOYS, images, directory, lambda n, loss: calls.append(n))
    assert calls == [6 + 4 + 3 + 5]
    np.testing.assert_equal([o.history for o in again], [o.history for o in first])
    assert_same_bits([o.state for o in again], [o.state for o in whole])
    population.forget(directory)
    assert not directory.exists()
    population.forget(directory)


@pytest.mark.parametrize("number", [1, len(TOYS) + 1])
def test_wrong_number_of_members(toys, images, tmp_path, number):
    with pytest.raises(ValueError, match=f"{number} members for a program of {len(TOYS)}"):
        population.train(toys, [TOYS[0]] * number, images, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_models_at_once(monkeypatch):
    assert population.models_at_once(7) == 7
    if jax.default_backend() == "cpu":
        assert population.models_at_once() == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert population.models_at_once() == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert population.models_at_once() > 1
    assert population.models_at_once(1) == 1


# Registered methods, on one dense layer each.

SETTINGS = {
    "guidance_weight": 0.1,
    "nu": 0.4,
    "gamma": 0.3,
    "standardize": True,
    "differentiate_dual": True,
    "schedule": "two_phase",
    "betas": (1.0, 0.0),
    "betas_second": (1.0, 1.0),
    "last_m": 3,
    "kl_weight": 0.1,
    "pretrain": 0.5,
    "num_epochs": 4,
}
# Of each traced setting a value that is another than that of SETTINGS; all differ in their rows.
OTHERS = {
    "ogae": {
        "guidance_weight": 0.3,
        "nu": 0.7,
        "gamma": 1.0,
        "betas": (0.5, 0.25),
        "betas_second": [0.25, 2.0],
    },
    "vae": {"kl_weight": 1.0},
    "soft_deep_svdd": {"nu": 0.8},
}
# What makes it diverge: the loss is infinite, or a distance is divided by 0.
BREAKING = {
    "ogae": {"guidance_weight": math.inf},
    "vae": {"kl_weight": math.inf},
    "soft_deep_svdd": {"nu": 0.0},
}
ALL = Plan(epochs=4, batch_size=BATCH, patience=0, checkpoint_every=2)


def method_of(name, traced):
    recipe = METHODS[name]
    encoder = dense((recipe.heads * LATENT,), lambda y: y, recipe.bias)
    network = Network(encoder, dense((28, 28, 1), jax.nn.sigmoid))
    # Momentum: the optimizer has a state, and does not magnify rounding as Adam's first steps do.
    return built(name, network, optax.sgd(0.05, momentum=0.9), **SETTINGS | traced)


class Case:
    """A method's population, its members, and its outcomes; and a program of a single model."""

    def __init__(self, name, images, directory):
        self.name, self.images = name, images
        base = {key: SETTINGS[key] for key in METHODS[name].traced}
        changes = [{}, {}, *({k: v} for k, v in OTHERS[name].items()), BREAKING[name]]
        self.members = [member(base | change, seed=0) for change in changes]
        self.members[1] = member(base, seed=5, part=1)
        self.many = Counted(lambda traced: method_of(name, traced), ALL, len(changes))
        self.outcomes = population.train(self.many, self.members, images, directory)
        self.traces = self.many.traces
        self.one = Counted(lambda traced: method_of(name, traced), ALL, 1)


@pytest.fixture(
    scope="module",
    params=[pytest.param("ogae", marks=pytest.mark.slow), "vae", "soft_deep_svdd"],
)
def case(request, images, tmp_path_factory):
    assert set(METHODS[request.param].traced) == set(OTHERS[request.param])
    return Case(request.param, images, tmp_path_factory.mktemp(request.param))


def test_members_are_the_models_they_are_alone(case, tmp_path):
    """With a program of size 1, compiled once: what a CPU runs one after the other."""
    traces = []
    for i, one in enumerate(case.members):
        (outcome,) = population.train(case.one, [one], case.images, tmp_path / str(i))
        traces.append(case.one.traces)
        assert outcome.diverged == case.outcomes[i].diverged == (i == len(case.members) - 1)
        if not outcome.diverged:
            assert_close(case.outcomes[i].state, outcome.state)
            assert_close_history(case.outcomes[i].history, outcome.history)
    assert traces[0] == traces[-1], "compiled once for all settings, seeds and rows"


def test_members_are_the_models_of_training(case, tmp_path):
    """Whose settings are Python numbers, and whose images lie together."""
    method = method_of(case.name, case.members[1].traced)
    state, history = alone(method, case.images, case.members[1], ALL, tmp_path / "alone")
    assert_close(case.outcomes[1].state, state)
    assert_close_history(case.outcomes[1].history, history)


def test_every_setting_makes_another_model(case):
    """Without this, the comparisons above would hold of settings that have no effect."""
    flat = [
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(outcome.state.params)])
        for outcome in case.outcomes
    ]
    for other in flat[1:-1]:
        assert np.max(np.abs(other - flat[0])) > 1e-3


def test_a_diverged_member_does_not_touch_the_others(case):
    assert [outcome.diverged for outcome in case.outcomes[:-1]] == [False] * (
        len(case.outcomes) - 1
    )
    assert case.outcomes[-1].diverged
    assert len(case.outcomes[-1].history) < ALL.epochs
    for outcome in case.outcomes[:-1]:
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(outcome.state))


def test_other_settings_compile_nothing(case, tmp_path, caplog):
    """Seeds, rows and every traced setting are arguments of the compiled program."""
    changed = [one._replace(seed=one.seed + 7) for one in reversed(case.members)]
    stacked = population._stacked(changed)
    run = case.many.start(stacked, case.images)
    active = jnp.ones(len(changed), bool)
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for done in range(2):
            run, _ = case.many.epoch(run, stacked, active, case.images, jnp.int32(done))
    jax.block_until_ready(run)
    assert case.many.traces == case.traces
    assert not [r.getMessage() for r in caplog.records if "epoch" in r.getMessage()]


def test_killed_and_resumed_to_the_same_bits(case, tmp_path):
    with pytest.raises(KilledError):
        population.train(case.many, case.members, case.images, tmp_path, Kill(3))
    resumed = population.train(case.many, case.members, case.images, tmp_path)
    for mine, theirs in zip(resumed, case.outcomes, strict=True):
        assert_same_bits(mine.state, theirs.state)
        np.testing.assert_equal(without_times(mine.history), without_times(theirs.history))


def test_a_member_from_disk_sees_as_its_method_does(case, tmp_path):
    """`state_shapes` restores what was kept; latents and scores are those of the method."""
    one, outcome = case.members[1], case.outcomes[1]
    with Checkpoints(tmp_path / "state") as kept:
        kept.save(0, outcome.state)
    with Checkpoints(tmp_path / "state", read_only=True) as kept:
        for program in (case.many, case.one):
            state = kept.restore(program.state_shapes(one, case.images))
            assert_same_bits(state, outcome.state)
    method = method_of(case.name, one.traced)
    block = case.images[:6]
    unit = jnp.asarray(np.asarray(block) / np.float32(255))
    latents, scores = case.many.see(one, state)(block)
    assert_close(latents, method.encode(state, unit), 1e-5)
    assert_close(scores, method.score(state, unit), 1e-5)
