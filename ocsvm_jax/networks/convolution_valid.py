"""Convolutions without padding for small patches, in the form each platform runs fastest.

On a CPU a patch network of few channels is four times faster as products of its rows with a banded
matrix, see `ocsvm_jax.networks.convolution`; whole slices and accelerators take XLA's convolution.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ocsvm_jax.networks.convolution import Form

# A banded matrix has w * w entries a channel pair, most of them zero on wider images.
_WIDEST_BANDED = 32
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


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
      stride: pixels between the places where the kernel is laid.
      dilation: pixels between the entries of the kernel.
      form: "lax", "banded", or "auto" for the faster on the platform. A dilated kernel and images
        wider than 32 pixels take XLA's convolution whatever is asked for.

    Raises:
      ValueError: if the form is none of these, the kernel is not square, does not fit into the
        image, or has not its channels.
    """
    _check(x, kernel, form)
    reach = dilation * (kernel.shape[0] - 1) + 1
    if reach > min(x.shape[1:3]):
        raise ValueError(
            f"the kernel reaches over {reach} pixels (side {kernel.shape[0]}, dilation {dilation}) "
            f"and does not fit into images of {x.shape[1]} x {x.shape[2]}."
        )

    def ordinary(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            "VALID",
            rhs_dilation=(dilation, dilation),
            dimension_numbers=_DIMENSIONS,
        )

    if dilation > 1 or x.shape[2] > _WIDEST_BANDED:
        return ordinary(x, kernel)
    banded = partial(_rows_times_bands, stride=stride)
    return _choose(form, banded, ordinary, x, kernel)


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
      kernel: square; kernel[0, 0] is what a pixel adds to the upper left corner of its window.
      stride: pixels between neighbouring windows: H = stride * (h - 1) + k.
      form: as in `convolve_valid`.

    Raises:
      ValueError: as in `convolve_valid`; every image is large enough.
    """
    _check(x, kernel, form)

    def ordinary(x: Array, kernel: Array) -> Array:
        k = kernel.shape[0]
        return jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(k - 1, k - 1)] * 2,
            lhs_dilation=(stride, stride),
            dimension_numbers=_DIMENSIONS,
        )

    if x.shape[2] > _WIDEST_BANDED:
        return ordinary(x, kernel)
    return _choose(form, partial(_bands_to_rows, stride=stride), ordinary, x, kernel)


def _check(x: Array, kernel: Array, form: Form) -> None:
    if form not in ("auto", "lax", "banded"):
        raise ValueError(f'form must be "auto", "lax" or "banded", got {form!r}')
    k, k_, c, _ = kernel.shape
    if k != k_:
        raise ValueError(f"the kernel must be square, got {k} x {k_}")
    if c != x.shape[3]:
        raise ValueError(f"the kernel reads {c} channels, the images have {x.shape[3]}")


def _choose(form: Form, banded, ordinary, x: Array, kernel: Array) -> Array:
    if form == "auto":
        return jax.lax.platform_dependent(x, kernel, cpu=banded, default=ordinary)
    return (banded if form == "banded" else ordinary)(x, kernel)


def _places(small: int, large: int, k: int, stride: int) -> np.ndarray:
    """1 where tap t of the window of pixel p of the smaller image is pixel i of the larger."""
    position = stride * np.arange(small)[:, None, None] + np.arange(k)[None, :, None]
    return (position == np.arange(large)).astype(np.float32)  # (p, t, i)


def _bands(kernel: Array, places: np.ndarray, equation: str) -> Array:
    # The factor is 0 or 1 and selects entries of the kernel: exact, if the product is.
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum(equation, jnp.asarray(places, kernel.dtype), kernel, precision=highest)


def _rows_times_bands(x: Array, kernel: Array, *, stride: int) -> Array:
    (b, h, w, c), (k, _, _, o) = x.shape, kernel.shape
    H, W = ((side - k) // stride + 1 for side in (h, w))
    bands = _bands(kernel, _places(W, w, k, stride), "pui,tuco->ticpo")
    rows = x.reshape(b, h, w * c)
    last = stride * (H - 1) + 1
    rows = jnp.concatenate([rows[:, t : t + last : stride] for t in range(k)], axis=-1)
    y = jnp.dot(rows.reshape(b * H, k * w * c), bands.reshape(k * w * c, W * o))
    return y.reshape(b, H, W, o)


def _bands_to_rows(x: Array, kernel: Array, *, stride: int) -> Array:
    (b, h, w, c), (k, _, _, o) = x.shape, kernel.shape
    H, W = (stride * (side - 1) + k for side in (h, w))
    bands = _bands(kernel, _places(w, W, k, stride), "pui,tuco->pctio")
    y = jnp.dot(x.reshape(b * h, w * c), bands.reshape(w * c, k * W * o)).reshape(b, h, k, W * o)
    if stride == k:  # windows side by side
        return y.reshape(b, H, W, o)
    # Row t of the window of row p is row stride * p + t of the larger image.
    zero, between = jnp.zeros((), y.dtype), stride - 1
    shifted = [
        jax.lax.pad(y[:, :, t], zero, ((0, 0, 0), (t, k - 1 - t, between), (0, 0, 0)))
        for t in range(k)
    ]
    return sum(shifted[1:], shifted[0]).reshape(b, H, W, o)
