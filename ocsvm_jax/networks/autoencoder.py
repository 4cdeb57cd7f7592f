"""The convolutional autoencoder of the digit experiment, shared by all methods.

    encoder: [conv 5x5 -> batch norm -> LeakyReLU -> max-pool 2] with 4, then 8 channels; dense 32
    decoder: dense 392 -> 7x7x8; [upsample 2 -> transposed conv 5x5 -> batch norm -> LeakyReLU]
             with 8, then 4 channels; transposed conv 5x5 to 1 channel -> sigmoid

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, experiment on MNIST-C. Details that the paper
does not give follow PyTorch's defaults, with which its results were obtained as far as is known.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from ocsvm_jax.networks.convolution import convolve, max_pool
from ocsvm_jax.networks.forms import Form


def fan_uniform(fan: int) -> Initializer:
    """Uniform on [-1/sqrt(fan), 1/sqrt(fan)), PyTorch's default for both kernels and biases."""
    bound = fan**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


class Convolution(nn.Module):
    """A 5x5 convolution of stride 1 that keeps the size, after an optional upsampling.

    A transposed convolution of stride 1 is a convolution with the kernel mirrored and its two
    channel axes exchanged, so `transposed` only sets the fan of the default initialisers: PyTorch
    counts 25 times the input channels for a convolution, the output channels for a transposed one.

    Attributes:
      features: number of output channels.
      upsampling: every pixel is first repeated this many times along both axes.
      transposed: whether to initialise as PyTorch does for a transposed convolution.
      use_bias: whether to add a bias per output channel.
      conv: how it is computed, see `ocsvm_jax.networks.convolution.convolve`.
      kernel_init: initialiser of the kernel; None for `fan_uniform`.
      bias_init: initialiser of the bias; None for `fan_uniform`.
      dtype: dtype of the computation and the result.
      param_dtype: dtype of the parameters.
    """

    features: int
    upsampling: int = 1
    transposed: bool = False
    use_bias: bool = False
    conv: Form = "auto"
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> Float[Array, "b {self.upsampling}*h {self.upsampling}*w {self.features}"]:
        """Convolves the images x."""
        shape = (5, 5, x.shape[-1], self.features)
        default = fan_uniform(25 * (self.features if self.transposed else x.shape[-1]))
        kernel = self.param("kernel", self.kernel_init or default, shape, self.param_dtype)
        y = convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            upsampling=self.upsampling,
            form=self.conv,
        )
        if self.use_bias:
            bias = self.param("bias", self.bias_init or default, shape[-1:], self.param_dtype)
            y += bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


class Network(nn.Module, kw_only=True):
    """The settings that encoder, decoder and autoencoder share, and layers with these settings.

    The parameters do not depend on `conv`: kernels are (5, 5, in, out), so that a checkpoint can be
    used on every device.

    Attributes:
      conv: how convolutions are computed: "lax", "banded", or "auto" for the faster one on the
        platform; equal up to round-off (see `ocsvm_jax.networks.convolution.convolve`).
      negative_slope: slope of the LeakyReLU.
      momentum: share of the old value when the running statistics of a batch norm are updated
        (PyTorch's momentum of 0.1). The running variance is biased; PyTorch's is unbiased.
      epsilon: added to the variance by a batch norm.
      kernel_init: for all kernels; None for uniform on +-1/sqrt(fan), PyTorch's default.
      bias_init: for the biases of dense and convolution layers; None as for `kernel_init`.
      dtype: dtype of the computation; inputs are cast to it.
      param_dtype: dtype of parameters and running statistics. For float64, set both.
    """

    conv: Form = "auto"
    negative_slope: float = 0.01
    momentum: float = 0.9
    epsilon: float = 1e-5
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def conventions(self) -> dict:
        """The attributes above as keyword arguments for a part of the network."""
        return {
            "conv": self.conv,
            "negative_slope": self.negative_slope,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "kernel_init": self.kernel_init,
            "bias_init": self.bias_init,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }

    def dense(self, fan: int, features: int, **options) -> nn.Dense:
        """A dense layer from `fan` to `features` values."""
        return nn.Dense(
            features,
            kernel_init=self.kernel_init or fan_uniform(fan),
            bias_init=self.bias_init or fan_uniform(fan),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            **options,
        )

    def convolution(self, features: int, **options) -> Convolution:
        """A 5x5 convolution; before a batch norm it needs no bias, since the mean removes it."""
        return Convolution(
            features,
            conv=self.conv,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            **options,
        )

    def norm(self, train: bool, name: str) -> nn.BatchNorm:
        """A batch norm over all axes but the channels."""
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            # If this were on, the running statistics would be float32 between float64 layers.
            force_float32_reductions=jnp.dtype(self.param_dtype).itemsize <= 4,
            name=name,
        )


class Encoder(Network):
    """Images to latents.

    Attributes:
      latent_dim: number of latent dimensions; twice as many for the two heads of a VAE.
      use_bias: False leaves out the bias of the dense layer, as the authors do for Deep SVDD. The
        batch norms keep their shift. (Ruff et al. leave that out, too: with any additive parameter
        an encoder could map everything to the centre. See `ocsvm_jax.evaluation.collapse`.)
    """

    latent_dim: int = 32
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b 28 28 1"], train: bool = False) -> Float[Array, "b d"]:
        """Latents of the images x.

        Args:
          x: images, values in [0, 1].
          train: whether to normalise with the statistics of this batch, and update the running ones
            (make "batch_stats" mutable), instead of normalising with the running ones.

        Raises:
          ValueError: on images of another size.
        """
        if x.shape[1:] != (28, 28, 1):
            raise ValueError(
                f"the images have shape {x.shape}; this encoder takes (b, 28, 28, 1). Pass a "
                "network of your own, see ocsvm_jax.networks.pair."
            )
        x = x.astype(self.dtype)
        for i, features in enumerate((4, 8)):
            x = self.convolution(features, name=f"conv{i}")(x)
            x = self.norm(train, name=f"norm{i}")(x)
            # The LeakyReLU is increasing, so it commutes with the maximum and is applied after it,
            # to a quarter of the values.
            x = nn.leaky_relu(max_pool(x), self.negative_slope)
        x = x.reshape(x.shape[0], 7 * 7 * 8)
        return self.dense(7 * 7 * 8, self.latent_dim, use_bias=self.use_bias, name="dense")(x)


class Decoder(Network):
    """Latents to images.

    Attributes:
      use_bias: False leaves out the biases of the dense layer and of the last convolution, as the
        authors do for Deep SVDD. The batch norms keep their shift.
    """

    use_bias: bool = True

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], train: bool = False) -> Float[Array, "b 28 28 1"]:
        """Images of the latents z, values in (0, 1); `train` as in `Encoder`."""
        fan, bias = z.shape[-1], self.use_bias
        x = self.dense(fan, 7 * 7 * 8, use_bias=bias, name="dense")(z.astype(self.dtype))
        x = x.reshape(x.shape[0], 7, 7, 8)
        for i, features in enumerate((8, 4)):
            x = self.convolution(features, upsampling=2, transposed=True, name=f"conv{i}")(x)
            x = nn.leaky_relu(self.norm(train, name=f"norm{i}")(x), self.negative_slope)
        return nn.sigmoid(self.convolution(1, transposed=True, use_bias=bias, name="conv2")(x))


class Autoencoder(Network):
    """`Encoder` and `Decoder`; the collections "params" and "batch_stats" hold one entry for each.

    Attributes:
      latent_dim: number of latent dimensions.
      use_bias: of both parts.
    """

    latent_dim: int = 32
    use_bias: bool = True

    def setup(self):
        """Creates both parts with the same settings."""
        self.encoder = Encoder(self.latent_dim, self.use_bias, **self.conventions())
        self.decoder = Decoder(self.use_bias, **self.conventions())

    def encode(self, x: Float[Array, "b 28 28 1"], train: bool = False) -> Float[Array, "b d"]:
        """Latents of the images x, see `Encoder`."""
        return self.encoder(x, train)

    def decode(self, z: Float[Array, "b d"], train: bool = False) -> Float[Array, "b 28 28 1"]:
        """Images of the latents z, see `Decoder`."""
        return self.decoder(z, train)

    def __call__(
        self, x: Float[Array, "b 28 28 1"], train: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b 28 28 1"]]:
        """Latents and reconstructions of the images x."""
        z = self.encode(x, train)
        return z, self.decode(z, train)
