"""The Method record, and what all methods trained by gradient steps share."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ocsvm_jax.networks.pair import Network

# Input of a network: images (b, h, w, c), vectors (b, d), or patches (locations, b, h, w, c).
Batch = Float[Array, "..."]
# error(images, reconstructions) -> scalar.
Error = Callable[[Batch, Batch], Float[Array, ""]]
Parts = Mapping[str, Array]

_NO_EPOCH = 2**31 - 1


class Score(NamedTuple):
    """A score as the sum of two parts, `values + offset`.

    Minus the decision function is rho minus a sum of kernels. Far from all support vectors the sum
    is tiny, and subtracting it from rho in float32 would give many images the same score. The two
    parts are therefore kept apart and added in float64 on the host.

    Attributes:
      values: (b,) one per image.
      offset: () shared by all images.
    """

    values: Float[Array, " b"]
    offset: Float[Array, ""]


class Method(NamedTuple):
    """An anomaly detection method as pure functions. All can be jitted; none holds state.

    `images` is any batch that the network takes: images (b, h, w, c), vectors (b, d), or other
    arrays with a leading batch axis. A state is a pytree of arrays with fixed shapes.

    Attributes:
      init: `init(images, key) -> state`; `images` has the shape of a training batch.
      update: `update(state, images, epoch) -> (state, parts)`, one step; `parts` are the scalars to
        log, including "loss". `epoch` counts from 0.
      score: `score(state, images) -> {name: Score}`, larger for more anomalous. Excludes "ocsvm",
        which is computed from `encode` for every method (see `ocsvm_jax.evaluation.scores`).
      encode: `encode(state, images) -> (b, d)` latents.
      loss: `loss(state, images) -> ()`, the loss on held-out images for early stopping.
      prepare: `prepare(state, mean_of, epoch) -> (state, preparing)`, called before the steps of an
        epoch. `mean_of(function)` is the mean of `function(images)` over all batches of the epoch.
        `preparing` is True in epochs of pretraining, or of a warm-up with another loss: early
        stopping ignores them.
      pack: `pack(state) -> state` in a form of which `update` writes fewer arrays: between the
        steps of an epoch, where each array costs an accelerator a launch. The same by default.
      unpack: `unpack(pack(state)) == state`.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Any, Parts]]
    score: Callable[..., dict[str, Score]]
    encode: Callable[..., Array]
    loss: Callable[..., Array]
    prepare: Callable[..., tuple[Any, Bool[Array, ""]]]
    pack: Callable[[Any], Any] = lambda state: state
    unpack: Callable[[Any], Any] = lambda state: state


class Recipe(NamedTuple):
    """How to build a registered method, and what it requires of its network.

    Attributes:
      build: `build(network, optimizer, **arguments) -> Method`, see `fields`.
      heads: encoder outputs per latent dimension: 2 for a mean and a log-variance.
      bias: whether the layers of encoder and decoder may have biases.
      traced: names of arguments that may be traced numbers or tuples of them: one compiled program
        then trains many models that differ in their values.
    """

    build: Callable[..., Method]
    heads: int = 1
    bias: bool = True
    traced: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Any]:
        """Keyword arguments of `build` with their defaults: the fields that a card may set."""
        return {p.name: p.default for p in self._keywords() if p.default is not p.empty}

    @property
    def takes_epochs(self) -> bool:
        """Whether `build` needs to know the length of the training, `num_epochs`."""
        return any(p.name == "num_epochs" for p in self._keywords())

    def made(
        self,
        network: Network,
        optimizer: optax.GradientTransformation,
        settings: Mapping[str, Any],
    ) -> Method:
        """The method with those of the settings that are its arguments.

        Raises:
          ArgumentError: a value is invalid; a subclass of ValueError.
        """
        taken = [*self.fields, *(["num_epochs"] if self.takes_epochs else [])]
        arguments = {name: settings[name] for name in taken if name in settings}
        return self.build(network, optimizer, **arguments)

    def numbers_in(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings that may be traced: numbers, or lists of numbers."""
        return {n: settings[n] for n in self.traced if not isinstance(settings[n], str)}

    def _keywords(self) -> list[inspect.Parameter]:
        parameters = inspect.signature(self.build).parameters.values()
        return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


class State(NamedTuple):
    """Everything that training changes.

    Attributes:
      params: parameters of the encoder and, if the method has one, the decoder.
      stats: batch-norm statistics and the like, of both.
      opt_state: state of the optimizer.
      memory: other state specific to the method.
    """

    params: Any
    stats: Any
    opt_state: Any
    memory: Any


class Forward(NamedTuple):
    """What an objective returns in addition to the loss.

    Attributes:
      stats: the new statistics.
      parts: scalars to log.
      record: passed to `remember` after the step.
      latents: (*b, d) latents of the batch.
    """

    stats: Any
    parts: dict[str, Array]
    record: Any
    latents: Array


# objective(params, stats, memory, images, epoch, train) -> (loss, Forward); `train` is a Python
# bool: False on held-out images, where nothing may be random.
Objective = Callable[..., tuple[Array, Forward]]


def encoded(
    network: Network, params: Any, stats: Any, images: Batch, train: bool
) -> tuple[Float[Array, "*b d"], Any]:
    """Output of the encoder, and its new statistics."""
    return network.encoder.apply(params["encoder"], stats["encoder"], images, train)


def decoded(
    network: Network, params: Any, stats: Any, z: Float[Array, "*b d"], train: bool
) -> tuple[Batch, Any]:
    """Output of the decoder, and its new statistics."""
    return network.decoder.apply(params["decoder"], stats["decoder"], z, train)


def forward(
    network: Network, params: Any, stats: Any, images: Batch, train: bool
) -> tuple[Float[Array, "*b d"], Batch, Any]:
    """Latents, reconstructions and the new statistics."""
    z, encoder_stats = encoded(network, params, stats, images, train)
    x_hat, decoder_stats = decoded(network, params, stats, z, train)
    return z, x_hat, {"encoder": encoder_stats, "decoder": decoder_stats}


def squared_error(images: Batch, x_hat: Batch, batch_axes: int = 1) -> Float[Array, "*b"]:
    """Mean squared error per image, over all axes but the first `batch_axes`."""
    return jnp.mean((images - x_hat) ** 2, axis=tuple(range(batch_axes, images.ndim)))


def mean_error(images: Batch, x_hat: Batch) -> Float[Array, ""]:
    """Mean squared error of a batch."""
    return jnp.mean(squared_error(images, x_hat))


def plain_score(values: Float[Array, " b"]) -> Score:
    """A score without an offset."""
    return Score(values, jnp.zeros((), values.dtype))


def _unprepared(state: Any, mean_of: Any, epoch: Any) -> tuple[Any, Array]:
    return state, jnp.bool(False)


def gradient_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    score: Callable[[State, Batch], dict[str, Score]],
    *,
    encode: Callable[[Float[Array, "*b d"]], Float[Array, "*b e"]] = lambda z: z,
    with_decoder: bool = True,
    init_memory: Callable[..., Any] = lambda params, stats, images, key: (),
    remember: Callable[..., Any] = lambda memory, record: memory,
    prepare: Callable[..., tuple[Any, Any]] = _unprepared,
) -> Method:
    """Builds a method that minimises `objective` by gradient steps.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      objective: see `Objective`.
      score: `score(state, images)`, see `Method`.
      encode: selects the latents in the output of the encoder.
      with_decoder: whether the state holds the weights of the decoder.
      init_memory: `init_memory(params, stats, images, key) -> memory`; may depend on shapes and key
        only.
      remember: `remember(memory, record) -> memory`, called after each step.
      prepare: see `Method`.
    """

    def init(images, key):
        encoder_key, decoder_key = jax.random.split(key)
        params, stats = {}, {}
        params["encoder"], stats["encoder"] = network.encoder.init(encoder_key, images)
        if with_decoder:
            z = jax.eval_shape(lambda: encode(encoded(network, params, stats, images, False)[0]))
            zeros = jnp.zeros(z.shape, z.dtype)
            params["decoder"], stats["decoder"] = network.decoder.init(decoder_key, zeros)
        # Folding in a small number could repeat a key: one that `split` gives, such as the
        # decoder's, or that of the order of the images in an epoch.
        memory_key = jax.random.fold_in(key, _NO_EPOCH)
        memory = init_memory(params, stats, images, memory_key)
        return State(params, stats, optimizer.init(params), memory)

    def update(state, images, epoch):
        gradient = jax.grad(objective, has_aux=True)
        grads, out = gradient(state.params, state.stats, state.memory, images, epoch, True)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = State(params, out.stats, opt_state, remember(state.memory, out.record))
        # Checked while tracing: a state of another type would recompile every step.
        chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
        chex.assert_rank(list(out.parts.values()), 0)
        return new, out.parts

    def latents(state, images):
        return encode(encoded(network, state.params, state.stats, images, False)[0])

    def loss(state, images):
        # Any epoch will do: the weights of the gradient routes do not change the value.
        arguments = (state.params, state.stats, state.memory, images)
        return objective(*arguments, jnp.int32(0), False)[0]

    return Method(init, update, score, latents, loss, prepare)


def reconstruction_score(network: Network) -> Callable[[State, Batch], dict[str, Score]]:
    """The score "reconstruction": mean squared error per image."""

    def score(state, images):
        z, x_hat, _ = forward(network, state.params, state.stats, images, False)
        return {"reconstruction": plain_score(squared_error(images, x_hat, z.ndim - 1))}

    return score
