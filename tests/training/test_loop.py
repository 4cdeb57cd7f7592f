"""Training with a method of two numbers: what it does is arithmetic that a test can repeat."""

import json
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.training import KilledError, without_times

from ocsvm_jax.methods import Method
from ocsvm_jax.training import epoch as epochs
from ocsvm_jax.training import loop as training
from ocsvm_jax.training.checkpoints import Checkpoints
from ocsvm_jax.training.history import History

BATCH = 10
SHAPE = (BATCH, 28, 28, 1)


class State(NamedTuple):
    hash: jax.Array  # of all images seen, in their order
    steps: jax.Array


def counting_method(valid_losses=(), diverge_at=None, prepare=None) -> Method:
    """Its held-out loss after epoch i (3 steps each) is valid_losses[i - 1], or falls for ever."""
    table = jnp.asarray([*valid_losses, 0.0], jnp.float32)

    def init(images, key):
        return State(jax.random.uniform(key, (), jnp.float32), jnp.int32(0))

    def update(state, images, epoch):
        weights = jnp.arange(images.size, dtype=jnp.float32).reshape(images.shape) / images.size
        loss = jnp.sum(weights * images)
        if diverge_at is not None:
            loss = jnp.where(epoch >= diverge_at, jnp.nan, loss)
        state = State(jnp.sin(state.hash + loss), state.steps + 1)
        return state, {"loss": loss, "epoch_seen": epoch.astype(jnp.float32)}

    def loss(state, images):
        epoch = state.steps // 3
        if not valid_losses:
            return -epoch.astype(jnp.float32)
        return table[epoch - 1]

    return Method(init, update, None, encode, loss, prepare or unprepared)


def encode(state, images):
    """Brightness of the four quarters of an image, or of a vector."""
    quarters = jnp.split(images.reshape(images.shape[0], -1)[:, : images[0].size // 4 * 4], 4, 1)
    return jnp.stack([jnp.mean(quarter, axis=1) for quarter in quarters], axis=1)


def unprepared(state, mean_of, epoch):
    return state, jnp.bool(False)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (35, 28, 28, 1)).astype(np.uint8)


def train(method, images, workdir, **changes):
    others = {name: changes.pop(name) for name in ("seed", "progress") if name in changes}
    plan = training.Plan(epochs=4, batch_size=BATCH, patience=0, checkpoint_every=1)
    plan, others = plan._replace(**changes), {"seed": 3, **others}
    return training.train(method, images, images[:7], plan, workdir=workdir, **others)


def on_disk(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same_bits(first, second):
    chex.assert_trees_all_equal(first, second, strict=True)


@pytest.fixture(scope="module")
def whole(images, tmp_path_factory):
    """Four epochs in one go: directory, run, history."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, *train(counting_method(), images, workdir)


def test_history(whole):
    workdir, run, history = whole
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    assert [entry["epoch_seen"] for entry in history] == [0, 1, 2, 3]
    assert [entry["valid_loss"] for entry in history] == [-1, -2, -3, -4]
    assert all(entry["seconds"] > 0 and entry["images_per_s"] > 0 for entry in history)
    assert on_disk(workdir) == history
    # What is left over of 35 images after 3 batches of 10 is skipped.
    assert run.state.steps == 4 * 3


def test_an_epoch_sees_every_image_at_most_once_in_an_order_of_its_own(images):
    orders = []

    def update(state, batch, epoch):
        jax.debug.callback(lambda b: orders.append(np.asarray(b)), batch, ordered=True)
        return state, {"loss": jnp.float32(0)}

    method = counting_method()._replace(update=update)
    run = epochs.start(method, images, BATCH, 3)
    epoch = epochs.epoch_function(method, BATCH, 3)
    for _ in range(2):
        run, _ = epoch(run, epochs.feed_of(images, images[:7]))
    jax.effects_barrier()
    first, second = np.concatenate(orders[:3]), np.concatenate(orders[3:])
    known = {image.tobytes() for image in images}
    for order in (first, second):
        seen = [image.tobytes() for image in np.round(255 * order).astype(np.uint8)]
        assert len(set(seen)) == 30
        assert set(seen) <= known
    assert np.any(first != second)


def test_the_seed_decides(images, whole, tmp_path):
    _, run, _ = whole
    (tmp_path / "same").mkdir()
    (tmp_path / "other").mkdir()
    same, _ = train(counting_method(), images, tmp_path / "same")
    other, _ = train(counting_method(), images, tmp_path / "other", seed=4)
    assert_same_bits(same, run)
    assert other.state.hash != run.state.hash


@pytest.mark.parametrize("checkpoint_every", [1, 2, 3])
def test_resume_gives_the_same_bits(images, whole, tmp_path, checkpoint_every):
    _, run, history = whole
    train(counting_method(), images, tmp_path, epochs=2, checkpoint_every=checkpoint_every)
    resumed, entries = train(counting_method(), images, tmp_path, checkpoint_every=checkpoint_every)
    assert_same_bits(resumed, run)
    assert without_times(entries) == without_times(history)
    assert on_disk(tmp_path) == entries


@pytest.mark.parametrize("checkpoint_every", [1, 2])
@pytest.mark.parametrize("moment", ["after the metrics", "after the checkpoint"])
def test_killed_around_a_checkpoint(images, whole, tmp_path, monkeypatch, moment, checkpoint_every):
    """The line of an epoch and its checkpoint are two writes: neither may be lost or doubled."""
    save = Checkpoints.save

    def save_or_die(self, epoch, state):
        if epoch == 4 and moment == "after the metrics":
            raise KilledError
        save(self, epoch, state)
        if epoch == 2 and moment == "after the checkpoint":
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Checkpoints, "save", save_or_die)
        train(counting_method(), images, tmp_path, checkpoint_every=checkpoint_every)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 5, "lo')
    resumed, entries = train(counting_method(), images, tmp_path, checkpoint_every=checkpoint_every)
    assert_same_bits(resumed, whole[1])
    assert without_times(entries) == without_times(whole[2])
    assert on_disk(tmp_path) == entries


def test_a_finished_run_does_not_train(images, whole, monkeypatch):
    workdir, run, history = whole
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    monkeypatch.setattr(training, "epoch_function", lambda *_: pytest.fail)
    again, entries = train(counting_method(), images, workdir)
    assert_same_bits(again, run)
    assert entries == history
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before


def test_half_written_checkpoints_are_ignored(images, whole, tmp_path):
    train(counting_method(), images, tmp_path, epochs=2)
    for name in ("3", "3.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name / "default").mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "default" / "_METADATA").write_text("half of it")
    # A whole checkpoint is renamed into place; only the second is what a kill leaves behind.
    (tmp_path / "checkpoints" / "3" / "default" / "_METADATA").unlink()
    (tmp_path / "checkpoints" / "3" / "default").rmdir()
    (tmp_path / "checkpoints" / "3").rmdir()
    resumed, _ = train(counting_method(), images, tmp_path)
    assert_same_bits(resumed, whole[1])


def test_early_stopping_keeps_the_best_state(images, tmp_path):
    losses = (5.0, 3.0, 4.0, 3.0, 9.0, 1.0)
    run, history = train(counting_method(losses), images, tmp_path, epochs=6, patience=3)
    assert [entry["valid_loss"] for entry in history] == [5, 3, 4, 3, 9]
    assert (run.epoch, run.best_epoch, run.best_loss) == (5, 2, 3)
    assert run.best.steps == 2 * 3
    assert run.state.steps == 5 * 3
    assert epochs.kept_state(run, patience=3) is run.best
    assert epochs.kept_state(run, patience=0) is run.state
    # Nothing is left to do, and the waiting is part of the checkpoint.
    again, entries = train(counting_method(losses), images, tmp_path, epochs=6, patience=3)
    assert_same_bits(again, run)
    assert entries == history
    assert_same_bits(training.load(counting_method(losses), SHAPE, tmp_path), run)


def test_without_patience_every_epoch_is_done(images, tmp_path):
    run, history = train(counting_method((1.0, 2.0, 3.0, 4.0)), images, tmp_path)
    assert len(history) == 4
    assert run.best_epoch == 1


def preparing_method(valid_losses, pretraining=2):
    """Counts in its steps and its hash what it is given before each epoch."""

    def prepare(state, mean_of, epoch):
        mean = mean_of(lambda x: jnp.mean(x, axis=(0, 1, 2)))
        return state._replace(hash=mean[0]), epoch < pretraining

    return counting_method(valid_losses, prepare=prepare)


def test_early_stopping_does_not_count_a_pretraining(images, tmp_path):
    """Its losses are of another kind: smaller than all that follow, and they rise for long."""
    losses = (0.1, 0.2, 5.0, 4.0, 6.0, 7.0)
    method = preparing_method(losses)
    run, history = train(method, images, tmp_path, epochs=6, patience=2)
    assert [entry["valid_loss"] for entry in history] == pytest.approx(losses)
    assert (run.epoch, run.best_epoch, run.best_loss) == (6, 4, 4)
    assert run.best.steps == 4 * 3


@pytest.mark.parametrize("epochs", [1, 2])
def test_while_pretraining_the_last_state_is_the_best(images, tmp_path, epochs):
    run, _ = train(preparing_method((0.1, 0.2, 5.0)), images, tmp_path, epochs=epochs, patience=1)
    assert (run.epoch, run.best_epoch) == (epochs, epochs)
    assert np.isinf(run.best_loss)
    assert_same_bits(run.best, run.state)


def test_what_an_epoch_is_prepared_with_is_the_mean_over_its_batches(images):
    """Batches, order and all: the mean of 30 of the 35 images that the epoch then steps through."""
    seen = []

    def update(state, batch, epoch):
        jax.debug.callback(lambda b: seen.append(np.asarray(b)), batch, ordered=True)
        return state, {"loss": jnp.float32(0)}

    method = preparing_method((1.0, 1.0))._replace(update=update)
    run = epochs.start(method, images, BATCH, 3)
    run, _ = epochs.epoch_function(method, BATCH, 3)(run, epochs.feed_of(images, images[:7]))
    jax.effects_barrier()
    assert len(seen) == 3
    np.testing.assert_allclose(run.state.hash, np.mean(np.stack(seen), dtype=np.float64), rtol=1e-6)


def test_a_feed_names_rows_of_shared_images(images):
    """The same rows, wherever they lie among other images, train to the same bits."""
    own = epochs.feed_of(images[:20], images[20:27])
    np.testing.assert_array_equal(own.images[own.rows], images[:20])
    np.testing.assert_array_equal(own.images[own.held_out], images[20:27])
    shared = epochs.Feed(
        jnp.asarray(images[::-1].copy()),
        jnp.arange(34, 14, -1, dtype=jnp.int32),
        jnp.arange(14, 7, -1, dtype=jnp.int32),
    )
    method = counting_method()
    runs = []
    for feed in (own, shared):
        run = epochs.start(method, images, BATCH, 3)
        runs.append(epochs.epoch_function(method, BATCH, 3)(run, feed))
    assert_same_bits(*runs)


def test_divergence_is_an_error(images, tmp_path):
    with pytest.raises(ValueError, match="diverged: in epoch 3, loss is nan"):
        train(counting_method(diverge_at=2), images, tmp_path)
    assert training.load(counting_method(), SHAPE, tmp_path).epoch == 2


def test_load_without_a_checkpoint(tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match="holds no checkpoint"):
            training.load(counting_method(), SHAPE, tmp_path)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(("n", "m"), [(BATCH - 1, 7), (35, 1)])
def test_too_few_images(images, tmp_path, n, m):
    with pytest.raises(ValueError, match=f"{n} images to train on and {m} held out are too few"):
        training.train(
            counting_method(),
            images[:n],
            images[:m],
            training.Plan(epochs=1, batch_size=BATCH, patience=0, checkpoint_every=1),
            seed=0,
            workdir=tmp_path,
        )


def test_held_out_loss_is_a_mean_over_whole_batches(images):
    """Of 23 images, two batches of 10; of 7 images, one of 6, since some losses need even ones."""
    sizes = []

    def loss(state, batch):
        sizes.append(batch.shape[0])
        return jnp.mean(batch)

    method = counting_method()._replace(loss=loss)
    for m, used, size in ((23, 20, 10), (7, 6, 6)):
        feed = epochs.feed_of(images, images[:m])
        value, _ = epochs._held_out(method, None, feed, BATCH)
        np.testing.assert_allclose(value, np.mean(images[:used] / 255), rtol=1e-5)
        assert sizes.pop() == size


@pytest.mark.parametrize(("m", "used"), [(23, 20), (7, 6)])
def test_dimensions_are_those_of_the_held_out_latents(images, m, used):
    """By the eigenvalues of NumPy's covariance, of the latents that the held-out loss sees."""
    method = counting_method()
    run = epochs.start(method, images, BATCH, 3)
    feed = epochs.feed_of(images, images[:m])
    _, parts = epochs.epoch_function(method, BATCH, 3)(run, feed)
    grey = images[:used].reshape(used, 4, -1) / 255
    values = np.linalg.eigvalsh(np.cov(grey.mean(axis=2).T))
    expected = values.sum() ** 2 / (values**2).sum()
    np.testing.assert_allclose(parts["dimensions"], expected, rtol=1e-4)
    assert 1 < expected < 4


def test_a_history_of_before_goes_on_with_dimensions(images, whole, tmp_path):
    """Earlier versions did not write them; their lines are kept as they are."""
    train(counting_method(), images, tmp_path, epochs=2)
    older = [{k: v for k, v in e.items() if k != "dimensions"} for e in on_disk(tmp_path)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in older))
    resumed, entries = train(counting_method(), images, tmp_path)
    assert_same_bits(resumed, whole[1])
    assert entries[:2] == older
    assert without_times(entries[2:]) == without_times(whole[2][2:])
    assert all("dimensions" in entry for entry in entries[2:])


@pytest.mark.parametrize("damage", ['{"epoch": 3, "lo', "\x00\x00", '{"epoch": 3'])
def test_history_with_a_damaged_last_line(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    entries = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + damage)
    assert History(path, 2).entries == entries
    history = History(path, 1)
    history.append({"epoch": 2, "loss": math.pi})
    assert on_disk(tmp_path) == [entries[0], {"epoch": 2, "loss": math.pi}]
    assert History(path, 0).entries == []
    assert path.read_text() == ""


def test_a_run_that_an_earlier_version_wrote_goes_on(images, whole, tmp_path):
    """Of it are a checkpoint without an axis of members, and these lines of metrics.jsonl."""
    run, feed = (
        epochs.start(counting_method(), images, BATCH, 3),
        epochs.feed_of(images, images[:7]),
    )
    epoch = epochs.epoch_function(counting_method(), BATCH, 3)
    timings = {"seconds": 0.5, "images_per_s": 60.0}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for done in (1, 2, 3):
            run, parts = epoch(run, feed)
            entry = {"epoch": done, **{k: float(v) for k, v in parts.items()}, **timings}
            with open(tmp_path / "metrics.jsonl", "a") as file:
                file.write(json.dumps(entry) + "\n")
            if done == 2:
                checkpoints.save(done, run)
    resumed, entries = train(counting_method(), images, tmp_path, checkpoint_every=2)
    assert_same_bits(resumed, whole[1])
    assert without_times(entries) == without_times(whole[2])
    assert [entry["seconds"] == 0.5 for entry in entries] == [True, True, False, False]
    assert [list(entry) for entry in entries] == [list(entries[0])] * 4
    assert on_disk(tmp_path) == entries


def test_a_checkpoint_without_its_history(images, tmp_path):
    train(counting_method(), images, tmp_path, epochs=1)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl is missing beside its checkpoint; put it back"
    ):
        train(counting_method(), images, tmp_path)


def test_progress_is_told_what_is_on_disk_and_then_every_epoch(images, whole, tmp_path):
    _, _, history = whole
    train(counting_method(), images, tmp_path, epochs=2)
    told = []
    _, entries = train(
        counting_method(), images, tmp_path, progress=lambda n, loss: told.append((n, loss))
    )
    assert [epochs for epochs, _ in told] == [2, 1, 1]
    assert [loss for _, loss in told] == pytest.approx(
        [math.nan, entries[2]["loss"], entries[3]["loss"]], nan_ok=True
    )
    assert without_times(entries) == without_times(history)


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 7, 3), (11,)])
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_images_of_any_shape_and_vectors(tmp_path, shape, kind):
    """uint8 is seen as grey values in [0, 1]; float values are seen as they are."""
    values = np.random.default_rng(0).integers(0, 256, (35, *shape))
    given = values.astype(np.uint8) if kind == "uint8" else 7 * values.astype(np.float32)
    seen = []

    def update(state, batch, epoch):
        jax.debug.callback(lambda b: seen.append(np.asarray(b)), batch, ordered=True)
        return state, {"loss": jnp.float32(0)}

    method = counting_method()._replace(update=update)
    run, _ = train(method, given, tmp_path, epochs=1)
    jax.effects_barrier()
    meant = given / np.float32(255) if kind == "uint8" else given
    distances = np.abs(np.concatenate(seen)[:, None] - meant[None]).reshape(30, 35, -1).max(axis=2)
    assert np.all(np.min(distances, axis=1) < 1e-6)
    assert len(set(np.argmin(distances, axis=1))) == 30
    assert_same_bits(training.load(method, (BATCH, *shape), tmp_path), run)
