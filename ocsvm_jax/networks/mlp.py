"""A multilayer perceptron as an autoencoder, for vectors and for arrays too small to convolve.

    encoder: values as one vector -> two hidden layers with GELU -> latents
    decoder: its mirror image, with values of any shape

The hidden layers are twice as wide as the input, between 32 and 256. There is no norm: columns come
scaled, and tables may be smaller than a batch that would give one its statistics.
"""

import math

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from ocsvm_jax.networks.autoencoder import fan_uniform

_NARROWEST, _WIDEST = 32, 256


def width_for(values: int) -> int:
    """Width of the hidden layers for inputs of so many values."""
    return min(max(2 * values, _NARROWEST), _WIDEST)


class _Layers(nn.Module):
    """What encoder and decoder share.

    Attributes:
      width: of the hidden layers.
      use_bias: whether the layers have biases; Deep SVDD asks for none.
      dtype: dtype of the computation; inputs are cast to it.
      param_dtype: dtype of the parameters.
    """

    width: int
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def layers(self, x: Float[Array, "b i"], features: int) -> Float[Array, "b o"]:
        """Two hidden layers and a linear one."""
        x = x.astype(self.dtype)
        for i, size in enumerate((self.width, self.width, features)):
            dense = nn.Dense(
                size,
                use_bias=self.use_bias,
                kernel_init=nn.initializers.lecun_normal(),
                bias_init=fan_uniform(x.shape[-1]),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"dense{i}",
            )
            x = dense(x) if i == 2 else nn.gelu(dense(x))
        return x


class MLPEncoder(_Layers):
    """Vectors to latents.

    Attributes:
      latent_dim: number of latent dimensions; twice as many for the two heads of a VAE.
    """

    latent_dim: int = 32

    @nn.compact
    def __call__(self, x: Float[Array, "b *shape"], train: bool = False) -> Float[Array, "b d"]:
        """Latents of x, the same in training."""
        del train
        return self.layers(x.reshape(len(x), -1), self.latent_dim)


class MLPDecoder(_Layers):
    """Latents to vectors, or to arrays of another shape.

    Attributes:
      shape: of one output.
      bounded: whether the output lies in (0, 1), by a sigmoid.
    """

    shape: tuple[int, ...] = ()
    bounded: bool = False

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], train: bool = False) -> Float[Array, "b *shape"]:
        """What the latents z stand for, the same in training."""
        del train
        x = self.layers(z, math.prod(self.shape)).reshape(len(z), *self.shape)
        return nn.sigmoid(x) if self.bounded else x
