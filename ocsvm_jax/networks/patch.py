"""The patch autoencoder of the brain experiment, and its dense twin for whole slices.

    encoder: conv 5x5 3, conv 3x3 4, conv 3x3 stride 3 12, conv 3x3 16, all without padding:
             15 -> 11 -> 9 -> 3 -> 1, each followed by GELU and batch norm
    decoder: its mirror image, 1 -> 3 -> 9 -> 11 -> 15, sigmoid at the end

Source: Pinon, Trombetta, Lartizien, arXiv 2507.21164, experiment on brain MRI.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from ocsvm_jax.networks.autoencoder import fan_uniform
from ocsvm_jax.networks.convolution_valid import convolve_valid, expand_valid
from ocsvm_jax.networks.forms import Form

PATCH = 15
RADIUS = PATCH // 2
LATENT_DIM = 16

Order = Literal["activation_norm", "norm_activation"]


class _Layer(nn.Module):
    """A convolution or its mirror, then GELU and batch norm in either order.

    Attributes:
      features: number of output channels.
      side: side of the kernel, in pixels.
      stride: pixels of the larger image per pixel of the smaller.
      transposed: whether the layer maps the smaller image to the larger.
      order: "activation_norm" as in the paper, or "norm_activation".
      last: whether to leave out GELU and batch norm.
      momentum: share of the old value when running statistics are updated.
      conv: how a convolution is computed, see `ocsvm_jax.networks.forms`.
      dtype: dtype of parameters and computation.
    """

    features: int
    side: int
    stride: int = 1
    transposed: bool = False
    order: Order = "activation_norm"
    last: bool = False
    momentum: float = 0.9
    conv: Form = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool, dense: bool, dilation: int = 1):
        """Convolves; `dense` keeps stride 1 and spaces the kernel by `dilation` instead."""
        shape = (self.side, self.side, x.shape[-1], self.features)
        fan = self.side**2 * (self.features if self.transposed else x.shape[-1])
        kernel = self.param("kernel", fan_uniform(fan), shape, self.dtype)
        bias = self.param("bias", fan_uniform(fan), shape[-1:], self.dtype)
        if self.transposed:
            y = expand_valid(x, kernel, stride=self.stride, form=self.conv)
        elif dense:
            y = convolve_valid(x, kernel, dilation=dilation, form=self.conv)
        else:
            y = convolve_valid(x, kernel, stride=self.stride, form=self.conv)
        y = y + bias.reshape(1, 1, 1, -1)
        if self.last:
            return y
        # Exact GELU, PyTorch's default.
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=self.momentum,
            epsilon=1e-5,
            dtype=self.dtype,
            param_dtype=self.dtype,
            force_float32_reductions=jnp.dtype(self.dtype).itemsize <= 4,
            name="norm",
        )
        if self.order == "activation_norm":
            return norm(nn.gelu(y, approximate=False))
        return nn.gelu(norm(y), approximate=False)


# (features, side, stride) of the layers, from the patch to the latents.
_LAYERS = ((3, 5, 1), (4, 3, 1), (12, 3, 3), (LATENT_DIM, 3, 1))


class PatchEncoder(nn.Module):
    """Patches to latents; `dense` for all patches of whole slices at once.

    Attributes:
      order: "activation_norm" (the paper's: convolution, GELU, batch norm) or "norm_activation".
      momentum: share of the old value when the batch norms' running statistics are updated.
      conv: how convolutions are computed; the parameters do not depend on it.
      dtype: dtype of parameters and computation.
    """

    order: Order = "activation_norm"
    momentum: float = 0.9
    conv: Form = "auto"
    dtype: Dtype = jnp.float32

    def setup(self):
        """Creates the layers, shared by `__call__` and `dense`."""
        self.layers = [
            _Layer(
                features,
                side,
                stride,
                order=self.order,
                momentum=self.momentum,
                conv=self.conv,
                dtype=self.dtype,
            )
            for features, side, stride in _LAYERS
        ]

    def __call__(
        self, x: Float[Array, "*batch 15 15 1"], train: bool = False
    ) -> Float[Array, "*batch 16"]:
        """Latents of patches, values in [0, 1].

        Args:
          x: patches; batch norm treats all leading axes as one batch.
          train: whether to normalise with the statistics of this batch and update the running ones.

        Raises:
          ValueError: if x does not hold patches.
        """
        if x.shape[-3:] != (PATCH, PATCH, 1):
            raise ValueError(
                f"x has shape {x.shape}; patches are (..., {PATCH}, {PATCH}, 1). Pass whole slices "
                "to PatchEncoder.dense."
            )
        y = x.reshape(-1, PATCH, PATCH, 1).astype(self.dtype)
        for layer in self.layers:
            y = layer(y, train, False)
        return y.reshape(*x.shape[:-3], LATENT_DIM)

    def dense(self, slices: Float[Array, "b h w"]) -> Float[Array, "b h-14 w-14 16"]:
        """Latents of all patches that lie within the slices, at row i and column j of their corner.

        The result is the same as for cutting the slices into patches with stride 1 and encoding
        each with running statistics. Where the encoder has stride 3, this has stride 1, and the
        next kernel reads pixels that are 3 apart (Giusti et al. 2013). Neighbouring patches share
        their inner layers, which saves nine tenths of the operations. Pad the slices with `RADIUS`
        pixels of background to get a latent for every pixel.

        Raises:
          ValueError: if slices is not (b, h, w), at least one patch high and wide.
        """
        if slices.ndim != 3 or min(slices.shape[1:]) < PATCH:
            raise ValueError(
                f"slices have shape {slices.shape}; they must be (b, h, w) with at least {PATCH} x "
                f"{PATCH} pixels. See pad_slices."
            )
        y = slices[..., None].astype(self.dtype)
        dilation = 1
        for layer in self.layers:
            y = layer(y, False, True, dilation)
            dilation *= layer.stride
        return y


class PatchDecoder(nn.Module):
    """Latents to patches, values in (0, 1); attributes as in `PatchEncoder`."""

    order: Order = "activation_norm"
    momentum: float = 0.9
    conv: Form = "auto"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, z: Float[Array, "*batch 16"], train: bool = False
    ) -> Float[Array, "*batch 15 15 1"]:
        """Patches of the latents z; `train` as in `PatchEncoder`."""
        y = z.reshape(-1, 1, 1, z.shape[-1]).astype(self.dtype)
        features = [1, *(f for f, _, _ in _LAYERS[:-1])]
        for i in reversed(range(len(_LAYERS))):
            _, side, stride = _LAYERS[i]
            y = _Layer(
                features[i],
                side,
                stride,
                transposed=True,
                order=self.order,
                last=i == 0,
                momentum=self.momentum,
                conv=self.conv,
                dtype=self.dtype,
                name=f"layers_{i}",
            )(y, train, False)
        return nn.sigmoid(y).reshape(*z.shape[:-1], PATCH, PATCH, 1)


def pad_slices(slices: Float[Array, "*b h w"]) -> Float[Array, "*b h+14 w+14"]:
    """Slices with `RADIUS` pixels of background around, so that every pixel has a patch."""
    margin = [(0, 0)] * (slices.ndim - 2) + [(RADIUS, RADIUS)] * 2
    return jnp.pad(slices, margin)


def encode_slices(
    encoder: PatchEncoder, params, stats, slices: Float[Array, "b h w"]
) -> Float[Array, "b h w 16"]:
    """The latent of the patch around every pixel.

    Args:
      encoder: the patch encoder.
      params: its parameters, as in `networks.pair`.
      stats: its running statistics, as in `networks.pair`.
      slices: (b, h, w) slices.
    """
    variables = {"params": params, **stats}
    z = encoder.apply(variables, pad_slices(slices), method=PatchEncoder.dense)
    assert isinstance(z, jax.Array)  # nothing was mutable
    return z


def patch_at(
    padded: Float[Array, "n z h w"], location: tuple[Array, Array, Array]
) -> Float[Array, "n 15 15"]:
    """The patches around one location (z, x, y) in the padded slices of all subjects."""
    z, x, y = location
    window = (padded.shape[0], 1, PATCH, PATCH)
    return jax.lax.dynamic_slice(padded, (0 * z, z, x, y), window)[:, 0]
