"""Convolutions without padding for small patches, in the form each platform runs fastest.

On a CPU a patch network with few channels is four times faster as products of image rows with
banded matrices, see `ocsvm_jax.networks.forms`, which also says where they are used. Whole slices
use XLA's convolution on every platform.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.networks.forms import DIMENSIONS, Form, bands, check_arguments, in_form

# A banded matrix has w * w entries per pair of channels, most of them zero for wider images.
_WIDEST_BANDED = 32


def convolve_valid(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c o"],
    *,
    stride: int = 1,
    dilation: int = 1,
    form: Form = "auto",
) -> Float[Array, "b H W o"]:
    """Convolution (a correlation, as in every deep-learning library) without padding.

    Args:
      x: images, channels last.
      kernel: square.
      stride: pixels between neighbouring positions of the kernel.
      dilation: pixels between neighbouring entries of the kernel.
      form: "lax", "banded", or "auto" for the faster one on the platform. Dilated kernels and
        images wider than 32 pixels always use XLA's convolution.

    Raises:
      ValueError: if the form is unknown, or the kernel is not square, does not fit into the image
        or has other channels than it.
    """
    _check(x, kernel, form)
    reach = dilation * (kernel.shape[0] - 1) + 1
    if reach > min(x.shape[1:3]):
        raise ValueError(
            f"the kernel reaches over {reach} pixels (side {kernel.shape[0]}, dilation {dilation}) "
            f"and does not fit into images of {x.shape[1]} x {x.shape[2]}."
        )
    if dilation > 1 or x.shape[2] > _WIDEST_BANDED:
        return _valid_lax(x, kernel, stride=stride, dilation=dilation)
    return in_form(form, x, kernel, banded=_valid_banded, ordinary=_valid_lax, stride=stride)


def expand_valid(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k k c o"],
    *,
    stride: int = 1,
    form: Form = "auto",
) -> Float[Array, "b H W o"]:
    """The transposed convolution: each pixel adds its values times the kernel to a k x k window.

    Args:
      x: images, channels last.
      kernel: square; kernel[0, 0] is the factor for the upper left corner of a window.
      stride: pixels between neighbouring windows: H = stride * (h - 1) + k.
      form: as in `convolve_valid`.

    Raises:
      ValueError: as in `convolve_valid`; every image is large enough.
    """
    _check(x, kernel, form)
    if x.shape[2] > _WIDEST_BANDED:
        return _expanded_lax(x, kernel, stride=stride)
    return in_form(form, x, kernel, banded=_expanded_banded, ordinary=_expanded_lax, stride=stride)


def _check(x: Array, kernel: Array, form: Form) -> None:
    check_arguments(x, kernel, form)
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"the kernel must be square, got {kernel.shape[0]} x {kernel.shape[1]}")


def _valid_lax(x: Array, kernel: Array, *, stride: int, dilation: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "VALID",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=DIMENSIONS,
    )


def _expanded_lax(x: Array, kernel: Array, *, stride: int) -> Array:
    k = kernel.shape[0]
    return jax.lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        (1, 1),
        [(k - 1, k - 1)] * 2,
        lhs_dilation=(stride, stride),
        dimension_numbers=DIMENSIONS,
    )


def _places(small: int, large: int, k: int, stride: int) -> np.ndarray:
    """(small, k, large) true where tap t of the window of pixel p lies on pixel i of the larger."""
    position = stride * np.arange(small)[:, None, None] + np.arange(k)[None, :, None]
    return position == np.arange(large)


def _valid_banded(x: Array, kernel: Array, *, stride: int) -> Array:
    (b, h, w, c), (k, _, _, o) = x.shape, kernel.shape
    H, W = ((side - k) // stride + 1 for side in (h, w))
    matrices = bands(kernel, "pui,tuco->ticpo", _places(W, w, k, stride))
    rows = x.reshape(b, h, w * c)
    last = stride * (H - 1) + 1
    rows = jnp.concatenate([rows[:, t : t + last : stride] for t in range(k)], axis=-1)
    y = jnp.dot(rows.reshape(b * H, k * w * c), matrices.reshape(k * w * c, W * o))
    return y.reshape(b, H, W, o)


def _expanded_banded(x: Array, kernel: Array, *, stride: int) -> Array:
    (b, h, w, c), (k, _, _, o) = x.shape, kernel.shape
    H, W = (stride * (side - 1) + k for side in (h, w))
    matrices = bands(kernel, "pui,tuco->pctio", _places(w, W, k, stride))
    y = jnp.dot(x.reshape(b * h, w * c), matrices.reshape(w * c, k * W * o))
    y = y.reshape(b, h, k, W * o)
    if stride == k:  # windows side by side
        return y.reshape(b, H, W, o)
    # Row t of the window of row p is row stride * p + t of the larger image.
    zero, between = jnp.zeros((), y.dtype), stride - 1
    shifted = [
        jax.lax.pad(y[:, :, t], zero, ((0, 0, 0), (t, k - 1 - t, between), (0, 0, 0)))
        for t in range(k)
    ]
    return sum(shifted[1:], shifted[0]).reshape(b, H, W, o)
