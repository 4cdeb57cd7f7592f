"""A convolutional autoencoder for any height, width and number of channels, and for series.

    encoder: stages [blocks of 2 x 2 to one -> norm -> LeakyReLU -> residual: convolution 3 x 3 ->
             norm -> LeakyReLU] until no axis is longer than 4, with 8, 16, 32, 64, 64, ...
             channels; dense
    decoder: its mirror image; each stage gives one pixel of the smaller image as 2 x 2 of the
             larger, cropped to the size that the encoder met

Images (b, h, w, c) have two axes of pixels and series (b, t, c) one; the layers are the same. The
first stage takes blocks of 4 along axes above 32, with 16 channels. An axis of 4 or less is left as
it is, so that an image of 200 x 6 does not shrink to a line first.

A block of 2 x 2 to one is a convolution of side 2 and stride 2, and as a product of matrices, which
is what it is, it costs a CPU a tenth of XLA's strided convolution with its gradient. All that looks
at neighbours is the convolution of stride 1 in between. On a CPU that is a product, too: inside the
scan over the steps of an epoch, XLA's own takes ten to thirty times as long (100 images of
16 x 16 x 16: 358 ms against 38, with gradients).
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ocsvm_jax.networks.autoencoder import Network, fan_uniform

SHORT = 4  # an axis is not divided below this length
_LONG = 32  # above this length, the first stage divides an axis by 4
_WIDEST = 64

Grid = Float[Array, "b *space c"]
Other = Float[Array, "b *other o"]  # of other lengths and channels


class Stage(NamedTuple):
    """A stage of the encoder; the decoder's mirrors it.

    Attributes:
      larger: lengths of the axes before it, such as (28, 30).
      factors: what each axis is divided by, rounded up.
      channels: number of channels after it.
    """

    larger: tuple[int, ...]
    factors: tuple[int, ...]
    channels: int

    @property
    def smaller(self) -> tuple[int, ...]:
        """Lengths of the axes after it."""
        return tuple(-(-n // f) for n, f in zip(self.larger, self.factors, strict=True))


def stages_of(space: Sequence[int], narrowest: int) -> list[Stage]:
    """The stages for axes of these lengths; none if all are 4 or less."""
    stages, sizes = [], tuple(space)
    channels = narrowest // 2
    while max(sizes) > SHORT:
        most = 4 if not stages and max(sizes) > _LONG else 2
        factors = tuple(1 if n <= SHORT else most if n > _LONG else 2 for n in sizes)
        channels = min(channels * max(factors), max(_WIDEST, narrowest))
        stages.append(Stage(sizes, factors, channels))
        sizes = stages[-1].smaller
    return stages


def folded(x: Grid, factors: Sequence[int]) -> Other:
    """Blocks of pixels as channels; rows and columns of zeros complete the last blocks."""
    sizes = [-(-n // f) for n, f in zip(x.shape[1:-1], factors, strict=True)]
    ends = [(0, s * f - n) for s, f, n in zip(sizes, factors, x.shape[1:-1], strict=True)]
    x = jnp.pad(x, [(0, 0), *ends, (0, 0)])
    x = x.reshape(len(x), *itertools.chain(*zip(sizes, factors, strict=True)), x.shape[-1])
    axes = range(1, 2 * len(factors) + 1)
    x = x.transpose(0, *axes[::2], *axes[1::2], x.ndim - 1)
    return x.reshape(len(x), *sizes, -1)


def unfolded(x: Grid, factors: Sequence[int], sizes: Sequence[int]) -> Other:
    """Channels as blocks of pixels, the reverse of `folded`, cropped to `sizes`."""
    n, space = len(factors), x.shape[1:-1]
    x = x.reshape(len(x), *space, *factors, -1)
    pairs = itertools.chain(*zip(range(1, n + 1), range(n + 1, 2 * n + 1), strict=True))
    x = x.transpose(0, *pairs, 2 * n + 1)
    x = x.reshape(len(x), *(s * f for s, f in zip(space, factors, strict=True)), x.shape[-1])
    return x[:, *(slice(size) for size in sizes)]


def by_products(x: Grid, kernel: Float[Array, "*side c o"]) -> Float[Array, "b *space o"]:
    """Convolution of stride 1 with zeros around, as one product with all neighbours of a pixel.

    Args:
      x: images or series.
      kernel: as many sides as x has axes of pixels, all odd.
    """
    sides, space = kernel.shape[:-2], x.shape[1:-1]
    x = jnp.pad(x, [(0, 0), *((side // 2, side // 2) for side in sides), (0, 0)])
    windows = [
        x[:, *(slice(i, i + n) for i, n in zip(start, space, strict=True))]
        for start in itertools.product(*map(range, sides))
    ]
    return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def by_convolution(x: Grid, kernel: Float[Array, "*side c o"]) -> Float[Array, "b *space o"]:
    """The same by XLA's convolution."""
    axes = "HW"[: x.ndim - 2]
    dimensions = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    strides = (1,) * len(axes)
    return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=dimensions)


class _Patched(Network):
    """What encoder and decoder share.

    Attributes:
      space: lengths of the axes of pixels, (h, w), or of time, (t,); one above 4 at least.
      use_bias: False leaves out the biases of the dense layers at the latents and at the output,
        as Deep SVDD asks for. The norms keep their shift.
      narrowest: channels after a first stage of 2 x 2; they double up to 64.
    """

    space: tuple[int, ...]
    use_bias: bool = True
    narrowest: int = 8

    def activated(self, x: Grid, train: bool, name: str) -> Grid:
        """Norm and LeakyReLU."""
        return nn.leaky_relu(self.norm(train, name)(x), self.negative_slope)

    def residual(self, x: Grid, train: bool, stage: int) -> Grid:
        """The input plus a convolution of it; a norm follows, so it needs no bias."""
        shape = ((3,) * len(self.space)) + (x.shape[-1],) * 2
        init = self.kernel_init or fan_uniform(math.prod(shape[:-1]))
        kernel = self.param(f"kernel{stage}", init, shape, self.param_dtype).astype(self.dtype)
        # Chosen when the program is lowered, see `networks.forms`.
        y = jax.lax.platform_dependent(x, kernel, cpu=by_products, default=by_convolution)
        return x + self.activated(y, train, f"residual_norm{stage}")


class PatchedEncoder(_Patched):
    """Images or series to latents.

    Attributes:
      latent_dim: number of latent dimensions; twice as many for the two heads of a VAE.
    """

    latent_dim: int = 32

    @nn.compact
    def __call__(self, x: Grid, train: bool = False) -> Float[Array, "b d"]:
        """Latents of x; `train` as in `networks.autoencoder.Encoder`."""
        x = x.astype(self.dtype)
        for i, stage in enumerate(stages_of(self.space, self.narrowest)):
            x = folded(x, stage.factors)
            x = self.dense(x.shape[-1], stage.channels, use_bias=False, name=f"down{i}")(x)
            x = self.residual(self.activated(x, train, f"norm{i}"), train, i)
        x = x.reshape(len(x), -1)
        return self.dense(x.shape[-1], self.latent_dim, use_bias=self.use_bias, name="dense")(x)


class PatchedDecoder(_Patched):
    """Latents to images or series.

    Attributes:
      num_channels: channels of the output.
      bounded: whether the output lies in (0, 1), by a sigmoid.
    """

    num_channels: int = 1
    bounded: bool = True

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], train: bool = False) -> Grid:
        """What the latents z stand for; `train` as in `networks.autoencoder.Encoder`."""
        stages = stages_of(self.space, self.narrowest)
        smallest = (*stages[-1].smaller, stages[-1].channels)
        size, bias = math.prod(smallest), self.use_bias
        x = self.dense(z.shape[-1], size, use_bias=bias, name="dense")(z.astype(self.dtype))
        x = x.reshape(len(x), *smallest)
        before = [self.num_channels, *(stage.channels for stage in stages)]
        for i, stage in reversed(list(enumerate(stages))):
            x = self.residual(self.activated(x, train, f"norm{i}"), train, i)
            features = math.prod(stage.factors) * before[i]
            # The last layer has no norm behind it that would bring a shift.
            dense = self.dense(x.shape[-1], features, use_bias=bias and i == 0, name=f"up{i}")
            x = unfolded(dense(x), stage.factors, stage.larger)
        return nn.sigmoid(x) if self.bounded else x
