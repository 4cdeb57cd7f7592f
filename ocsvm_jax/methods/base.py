"""The Method record, and the part that all methods trained by one gradient step share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ocsvm_jax.model import OCSVM
from ocsvm_jax.networks.pair import Network

Images = Float[Array, "b 28 28 1"]
Parts = Mapping[str, Array]


class Score(NamedTuple):
    """A score in two parts, whose sum it is: `values + offset`.

    Minus the decision function is rho minus a sum of kernels. Far from all support vectors the sum
    is tiny, and subtracting it from rho in float32 would leave many images with the same score; so
    the two parts travel apart and are added in float64 on the host.

    Attributes:
      values: (b,) of each image.
      offset: () the same for all images.
    """

    values: Float[Array, " b"]
    offset: Float[Array, ""]


class Method(NamedTuple):
    """An anomaly detection method as pure functions. All can be jitted; none holds state.

    Images are (b, 28, 28, 1), values in [0, 1]. A state is a pytree of arrays of fixed shapes.

    Attributes:
      init: `init(images, key) -> state`, from a batch as training will see it (its shape counts).
      update: `update(state, images, epoch) -> (state, parts)`: one step; `parts` are the scalars
        worth logging, "loss" among them. `epoch` counts from 0.
      score: `score(state, ocsvm, images) -> {name: Score}`, larger for more anomalous; the `ocsvm`
        is fitted after training to `encode` of all training images.
      encode: `encode(state, images) -> (b, d)` latents.
      loss: `loss(state, images) -> ()`, on images held out of the training, for early stopping.
    """

    init: Callable[..., Any]
    update: Callable[..., tuple[Any, Parts]]
    score: Callable[..., dict[str, Score]]
    encode: Callable[..., Array]
    loss: Callable[..., Array]


class State(NamedTuple):
    """What training changes.

    Attributes:
      params: of encoder and decoder.
      stats: batch-norm statistics and the like, of both.
      opt_state: of the optimizer.
      memory: the method's own.
    """

    params: Any
    stats: Any
    opt_state: Any
    memory: Any


class Forward(NamedTuple):
    """What an objective returns beside the loss.

    Attributes:
      stats: the new statistics.
      parts: scalars worth logging.
      record: handed to the method's memory after the step.
    """

    stats: Any
    parts: dict[str, Array]
    record: Any


# objective(params, stats, images, epoch, train) -> (loss, Forward); `train` is a Python bool.
Objective = Callable[..., tuple[Array, Forward]]


def forward(
    network: Network, params: Any, stats: Any, images: Images, train: bool
) -> tuple[Float[Array, "b d"], Images, Any]:
    """Latents, reconstructions and the new statistics."""
    z, encoder_stats = network.encoder.apply(params["encoder"], stats["encoder"], images, train)
    x_hat, decoder_stats = network.decoder.apply(params["decoder"], stats["decoder"], z, train)
    return z, x_hat, {"encoder": encoder_stats, "decoder": decoder_stats}


def squared_error(images: Images, x_hat: Images) -> Float[Array, " b"]:
    """Mean squared error of each image."""
    return jnp.mean((images - x_hat) ** 2, axis=(1, 2, 3))


def autoencoder_method(
    network: Network,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    init_memory: Callable[..., Any] = lambda record: (),
    remember: Callable[..., Any] = lambda memory, record: memory,
    extra_scores: Callable[..., dict[str, Score]] = lambda memory, z: {},
) -> Method:
    """Builds the method that minimises `objective` by gradient steps.

    Args:
      network: encoder and decoder.
      optimizer: an Optax transformation.
      objective: see `Objective`.
      init_memory: `init_memory(record) -> memory`, from the shapes of a record.
      remember: `remember(memory, record) -> memory`, after each step.
      extra_scores: `extra_scores(memory, z) -> {name: Score}` beside "reconstruction" and "ocsvm".
    """

    def init(images, key):
        encoder_key, decoder_key = jax.random.split(key)
        params, stats = {}, {}
        params["encoder"], stats["encoder"] = network.encoder.init(encoder_key, images)
        z, _ = network.encoder.apply(params["encoder"], stats["encoder"], images, False)
        params["decoder"], stats["decoder"] = network.decoder.init(decoder_key, z)
        record = jax.eval_shape(
            lambda: objective(params, stats, images, jnp.int32(0), True)[1].record
        )
        return State(params, stats, optimizer.init(params), init_memory(record))

    def update(state, images, epoch):
        gradient = jax.grad(objective, has_aux=True)
        grads, out = gradient(state.params, state.stats, images, epoch, True)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, out.stats, opt_state, remember(state.memory, out.record)), out.parts

    def encode(state, images):
        return network.encoder.apply(
            state.params["encoder"], state.stats["encoder"], images, False
        )[0]

    def score(state, ocsvm: OCSVM, images):
        z, x_hat, _ = forward(network, state.params, state.stats, images, False)
        return {
            "reconstruction": Score(squared_error(images, x_hat), jnp.zeros((), z.dtype)),
            "ocsvm": Score(-ocsvm.kernel_expansion(z), ocsvm.rho),
            **extra_scores(state.memory, z),
        }

    def loss(state, images):
        # The last epoch's weights of the gradient routes do not enter: they never change the value.
        return objective(state.params, state.stats, images, jnp.int32(0), False)[0]

    return Method(init, update, score, encode, loss)
