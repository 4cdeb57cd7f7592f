"""Many models at once: one compiled program trains them under vmap.

The models of a population share a method and everything static in it; they differ in their seed, in
the rows of the images they are trained on, and in the settings that may be traced numbers
(`Recipe.traced`). One such small network does not fill an accelerator, so there many models cost
little more than one. On a CPU, populations of one model are trained one after the other by the same
program without vmap. It is compiled once, since the settings are its arguments.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped

from ocsvm_jax.methods.base import Method, Score, State
from ocsvm_jax.training.epoch import Feed, Run, begin, check_enough, kept_state, one_epoch, seen
from ocsvm_jax.training.history import Entry
from ocsvm_jax.training.loop import Plan, run_epochs

Build = Callable[[Mapping[str, Any]], Method]


class Member(NamedTuple):
    """One model of a population.

    Attributes:
      traced: the settings in which it differs: numbers, or tuples of numbers.
      seed: of its initial weights and of the order of its images.
      rows: indices of the images it is trained on; as many as those of every other member.
      held_out: indices of the images that decide on its early stopping; as many for every member.
    """

    traced: Mapping[str, Any]
    seed: int
    rows: Int[np.ndarray, " m"]
    held_out: Int[np.ndarray, " h"]


class Outcome(NamedTuple):
    """Outcome of one member.

    Attributes:
      state: the method's state to use; NumPy arrays.
      history: an entry for each epoch, see `ocsvm_jax.training.history`; its `seconds` are the
        member's share.
      diverged: whether a loss was not finite.
    """

    state: Any
    history: list[Entry]
    diverged: bool


class _Members(NamedTuple):
    """The members stacked: every leaf has a leading axis of the size of the population."""

    traced: dict[str, Any]
    seed: Int[Array, " k"]
    rows: Int[Array, "k m"]
    held_out: Int[Array, "k h"]


class Program:
    """The compiled functions of a population of one size; keep it to compile only once.

    Attributes:
      size: number of models.
    """

    def __init__(self, build: Build, plan: Plan, size: int):
        """Compiles nothing yet.

        Args:
          build: `build(traced) -> Method`, from the settings in which the members differ.
          plan: the same for all members.
          size: number of models; under vmap if there are several.
        """
        self.size, self.plan = size, plan

        def start(one: _Members, images: Shaped[Array, "n *shape"]) -> Run:
            first = images[one.rows[: plan.batch_size]]
            return begin(build(one.traced), first, jax.random.key(one.seed))

        def epoch(
            run: Run, one: _Members, active: Bool[Array, ""], images: Array, done: Int[Array, ""]
        ) -> tuple[Run, Mapping[str, Array]]:
            feed = Feed(images, one.rows, one.held_out)
            method = build(one.traced)
            new, parts = one_epoch(method, run, done, feed, one.seed, plan.batch_size)
            return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, run), parts

        self.start = jax.jit(_over_members(start, (0, None), size))
        self.epoch = jax.jit(_over_members(epoch, (0, 0, 0, None, None), size), donate_argnums=0)
        # For one model: all members are judged by the same function.
        self._see = jax.jit(lambda traced, state, images: seen(build(traced), state, images))

    def see(self, member: Member, state: Any) -> Callable[[Array], tuple[Array, dict[str, Score]]]:
        """A function of a block of uint8 images: latents and the method's own scores."""
        return partial(self._see, _traced([member], squeeze=True), state)

    def state_shapes(self, member: Member, images: Shaped[Array, "n *shape"]) -> Any:
        """Shapes and dtypes of one member's state."""
        run = jax.eval_shape(self.start, _stacked([member] * self.size), images)
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), run.state)


def models_at_once(number: int = 0) -> int:
    """How many models to train in one program: `number`, or if 0 what suits the device."""
    return number or (1 if jax.default_backend() == "cpu" else 64)


def train(
    program: Program,
    members: Sequence[Member],
    images: Shaped[Array, "n *shape"],
    directory: Path | None,
    progress: Callable[[int, float], Any] = lambda epochs, loss: None,
    weights: Sequence[State] | None = None,
) -> list[Outcome]:
    """Trains a population, or continues from its last checkpoint.

    A member is the same model, up to rounding, whatever the others are. A member that has stopped
    early or diverged keeps its state while the others continue.

    Args:
      program: a program for as many models as there are members.
      members: the models.
      images: all images, on the device.
      directory: for checkpoints while the population is trained; the caller removes it with
        `forget` when the outcomes are in a safe place. None to write none.
      progress: see `ocsvm_jax.training.loop.run_epochs`.
      weights: states whose parameters and statistics the members start from, in place of random
        ones; the optimizer and the memory of the method start afresh.

    Raises:
      ValueError: if the number of members is not the size of the program, a member has too few
        images, or `directory` holds a checkpoint without the history that was written before it.
    """
    if len(members) != program.size:
        raise ValueError(f"{len(members)} members for a program of {program.size} models.")
    plan = program.plan
    for member in members:
        check_enough(len(member.rows), len(member.held_out), plan.batch_size)
    stacked = _stacked(members)

    def epoch(run: Run, active: np.ndarray, done: int) -> tuple[Run, Mapping[str, Array]]:
        run, parts = program.epoch(run, stacked, jnp.asarray(active), images, jnp.int32(done))
        return run, {**parts, "best_epoch": run.best_epoch}

    run, histories = run_epochs(
        epoch,
        lambda: _with_weights(program.start(stacked, images), weights),
        plan,
        directory,
        unit="images",
        steps=stacked.rows.shape[1] // plan.batch_size,
        progress=progress,
    )
    states = kept_state(jax.device_get(run), plan.patience)
    return [
        Outcome(jax.tree.map(lambda leaf, i=i: leaf[i], states), history.entries, history.diverged)
        for i, history in enumerate(histories)
    ]


def forget(directory: Path) -> None:
    """Removes the checkpoints of a population whose outcomes are kept elsewhere."""
    shutil.rmtree(directory, ignore_errors=True)


def _with_weights(run: Run, weights: Sequence[State] | None) -> Run:
    if weights is None:
        return run
    params, stats = jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]),
        *((state.params, state.stats) for state in weights),
    )
    state = run.state._replace(params=params, stats=stats)
    # A copy, because an epoch reuses the memory of what it is given.
    return run._replace(state=state, best=jax.tree.map(jnp.copy, state))


def _over_members(function: Callable[..., Any], axes: tuple, size: int) -> Callable[..., Any]:
    """vmap, or for a single model the function itself between squeezing and unsqueezing."""
    if size > 1:
        return jax.vmap(function, axes)

    def alone(*arguments: Any) -> Any:
        first = [
            jax.tree.map(lambda leaf: leaf[0], argument) if axis == 0 else argument
            for argument, axis in zip(arguments, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], function(*first))

    return alone


def _stacked(members: Sequence[Member]) -> _Members:
    return _Members(
        traced=_traced(members),
        seed=jnp.asarray([member.seed for member in members], jnp.int32),
        rows=jnp.asarray(np.stack([member.rows for member in members]), jnp.int32),
        held_out=jnp.asarray(np.stack([member.held_out for member in members]), jnp.int32),
    )


def _traced(members: Sequence[Member], squeeze: bool = False) -> dict[str, Any]:
    """The traced settings as float32 arrays with a leading axis; tuples number by number."""

    def column(*values: Any) -> Array:
        return jnp.asarray(values[0] if squeeze else values, jnp.float32)

    settings = [
        {name: tuple(v) if isinstance(v, list | tuple) else v for name, v in m.traced.items()}
        for m in members
    ]
    return jax.tree.map(column, *settings)
