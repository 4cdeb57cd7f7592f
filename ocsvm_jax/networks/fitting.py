"""The network that inputs of a shape get unless another is given."""

import math
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax.typing import Dtype

from ocsvm_jax.networks.mlp import MLPDecoder, MLPEncoder, width_for
from ocsvm_jax.networks.pair import Network, Pair, from_flax
from ocsvm_jax.networks.patched import SHORT, PatchedDecoder, PatchedEncoder

Kind: TypeAlias = Literal["vectors", "images", "series"]
"""What the last axes of an input are: (d,), (h, w, c) or (t, c)."""

KINDS = ("vectors", "images", "series")
AXES = {"vectors": 1, "images": 3, "series": 2}
_IMAGES_LATENT, _SMALLEST_LATENT = 32, 2


def default_latent_dim(shape: tuple[int, ...]) -> int:
    """Half as many latent dimensions as an input has values, between 2 and 32.

    With as many as that, an autoencoder could copy its input, whatever it is.
    """
    return min(max(math.prod(shape) // 2, _SMALLEST_LATENT), _IMAGES_LATENT)


def default_network(
    kind: Kind,
    shape: tuple[int, ...],
    latent_dim: int,
    *,
    heads: int = 1,
    bias: bool = True,
    dtype: Dtype = jnp.float32,
) -> Network:
    """A convolutional pair for images and series, a perceptron for vectors and tiny images.

    Args:
      kind: "vectors", "images" or "series".
      shape: of one input: (d,), (h, w, c) or (t, c).
      latent_dim: number of latent dimensions.
      heads: encoder outputs per latent dimension, see `methods.Recipe`.
      bias: whether layers may have biases, see `methods.Recipe`.
      dtype: dtype of the computation; parameters, latents and outputs are float32.

    Raises:
      ValueError: if the kind is unknown, or the shape is not one of that kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {KINDS}.")
    if len(shape) != AXES[kind] or min(shape) < 1:
        raise ValueError(f"the shape {shape} is not one of {kind}, which have {AXES[kind]} axes.")
    options: dict[str, Any] = {"use_bias": bias, "dtype": dtype}
    bounded = kind == "images"
    if kind == "vectors" or max(shape[:-1]) <= SHORT:
        options["width"] = width_for(math.prod(shape))
        encoder = MLPEncoder(latent_dim=heads * latent_dim, **options)
        decoder = MLPDecoder(shape=shape, bounded=bounded, **options)
    else:
        options["space"] = shape[:-1]
        encoder = PatchedEncoder(latent_dim=heads * latent_dim, **options)
        decoder = PatchedDecoder(num_channels=shape[-1], bounded=bounded, **options)
    return Network(*(_single(from_flax(module)) for module in (encoder, decoder)))


def _single(pair: Pair) -> Pair:
    """The pair with outputs in float32: losses and one-class SVMs need its digits."""

    def apply(params, stats, x, train):
        y, stats = pair.apply(params, stats, x, train)
        return y.astype(jnp.float32), stats

    return Pair(pair.init, apply)
