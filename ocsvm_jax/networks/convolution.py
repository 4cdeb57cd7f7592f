"""Convolution, upsampled convolution and max-pooling, in the form each platform runs fastest.

Two exact rewritings, derived beside the code, turn each 5x5 convolution of the autoencoder into one
matrix product of a good size (see `ocsvm_jax.networks.forms`). On a CPU this makes a training step
take about a third of the time, and about an eighth within a `jax.lax.scan`
(`benchmarks/autoencoder_step.py`). On a GPU 64 models under vmap were measured to take a quarter of
the time, and XLA launches a whole training step as one CUDA graph
(`benchmarks/results/launches.md`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ocsvm_jax.networks.forms import DIMENSIONS, Form, bands, check_arguments, in_form


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c o"],
    *,
    upsampling: int = 1,
    form: Form = "auto",
) -> Float[Array, "b {upsampling}*h {upsampling}*w o"]:
    """Convolution of stride 1 with zero padding ("SAME"), after nearest-neighbour upsampling.

    Args:
      x: images, channels last.
      kernel: the kernel of the ordinary convolution, kh and kw odd. As in every deep-learning
        library this is a correlation: kernel[0, 0] weighs the neighbour above on the left.
      upsampling: every pixel is first repeated this many times along both axes.
      form: "lax" for the convolution of XLA, "banded" for matrix products (see `convolve_banded`),
        "auto" for "banded" on a CPU and an NVIDIA GPU and "lax" on every other platform.

    Returns:
      The convolved images, `upsampling` times as high and as wide.

    Raises:
      ValueError: `form` is none of the three, or a side of the kernel is even.
    """
    check_arguments(x, kernel, form)
    if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
        raise ValueError(f"the kernel needs odd sides to keep the size, got {kernel.shape[:2]}")
    return in_form(
        form, x, kernel, banded=convolve_banded, ordinary=convolve_lax, upsampling=upsampling
    )


def convolve_lax(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], *, upsampling: int = 1
) -> Float[Array, "b {upsampling}*h {upsampling}*w o"]:
    """`convolve` as it is usually written: repeats the pixels, then convolves."""
    if upsampling > 1:
        x = jnp.repeat(jnp.repeat(x, upsampling, axis=1), upsampling, axis=2)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


def convolve_banded(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw c o"], *, upsampling: int = 1
) -> Float[Array, "b {upsampling}*h {upsampling}*w o"]:
    """`convolve` as a product of whole image rows with banded matrices.

    With s = upsampling, output pixel s*p + r (0 <= r < s, along either axis) reads through tap t of
    a kernel with 2m + 1 taps the pixel s*p + r + t - m of the upsampled image, which is

        pixel p + floor((r + t - m) / s) of x.

    So 5 taps with s = 2 meet 3 pixels of x: phase r = 0 weighs them by (k0 + k1, k2 + k3, k4) and
    r = 1 by (k0, k1 + k2, k3 + k4), and the upsampled image, with 25/9 of the products, is never
    formed. Outside the image both are zero, hence the same "SAME" padding. For s = 1 this is the
    plain convolution.

    Along the height the offset d of the pixel is kept as an index. Along the width it is written
    out as a matrix that is zero outside a band: B[d] maps a whole row (w*c values) to the s rows of
    s*w*o values to which it contributes. Most of its entries are zero but are multiplied all the
    same, about w/kw times too many operations, which the speed of a dense product of this size more
    than makes up for.
    """
    (b, h, w, c), (kh, kw, _, o) = x.shape, kernel.shape
    s = upsampling
    reach = _floor_offset(kh, s).max()
    rows = _floor_offset(kh, s)[None] == np.arange(-reach, reach + 1)[:, None, None]  # (d, r, t)
    # Column j = s*p + r of the output reads column p + floor(...) of x.
    source = np.arange(w)[:, None, None] + _floor_offset(kw, s)[None]  # (p, r, t)
    columns = source.reshape(1, s * w, kw) == np.arange(w)[:, None, None]  # (i, j, t)
    if s == 1:  # each tap along the height has an offset of its own: d = t
        matrices = bands(kernel, "iju,tuco->ticjo", columns)
    else:
        matrices = bands(kernel, "drt,iju,tuco->dicrjo", rows, columns)
    y = _convolve_rows(x.reshape(b, h, w * c), matrices.reshape(len(rows), w * c, s * s * w * o))
    return y.reshape(b, h * s, w * s, o)  # (b, h, r, j, o): the phases r are rows already in order


def _floor_offset(taps: int, upsampling: int) -> np.ndarray:
    """floor((r + t - m) / s) for every phase r and tap t, shape (upsampling, taps)."""
    phase, tap = np.ogrid[:upsampling, :taps]
    return (phase + tap - taps // 2) // upsampling


def _convolve_rows(x: Float[Array, "b h m"], bands: Float[Array, "d m n"]) -> Float[Array, "b h n"]:
    """y[:, p] = sum over d of x[:, p + d - reach] @ bands[d], zero outside, as one product.

    Either the rows of x are shifted before the product, or its result after it, whichever has the
    shorter rows. There is one product of two matrices, not of a stack of them, which would make a
    whole training step 15% slower on XLA's CPU backend.
    """
    (b, h, m), (offsets, _, n) = x.shape, bands.shape
    reach = offsets // 2
    margin = ((0, 0), (reach, reach), (0, 0))
    if m <= n:
        x = jnp.pad(x, margin)
        x = jnp.concatenate([x[:, d : d + h] for d in range(offsets)], axis=-1)
        y = jnp.dot(x.reshape(b * h, offsets * m), bands.reshape(offsets * m, n))
        return y.reshape(b, h, n)
    y = jnp.dot(x.reshape(b * h, m), bands.transpose(1, 0, 2).reshape(m, offsets * n))
    y = jnp.pad(y.reshape(b, h, offsets * n), margin)
    shifted = [y[:, d : d + h, d * n : (d + 1) * n] for d in range(offsets)]
    return jnp.sum(jnp.stack(shifted), axis=0)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    """Maximum over windows of 2x2 pixels; h and w even.

    Among equal maxima the first in reading order (above before below, left before right) gets the
    whole gradient, as in PyTorch and in XLA's own pooling. A NaN in a window makes its maximum NaN.
    The maximum is written with comparisons because XLA's pooling scatters its gradient, which is
    slow on a CPU.

    Raises:
      ValueError: h or w is odd.
    """
    b, h, w, c = x.shape
    if h % 2 or w % 2:
        raise ValueError(f"max_pool needs an even height and width, got {h} x {w}")
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    above = _first_max(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
    below = _first_max(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
    return _first_max(above, below)


def _first_max(first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The larger entry, which gets the whole gradient; the first if both are equal."""
    takes_first: Bool[Array, "*n"] = (first >= second) | jnp.isnan(first)
    return jnp.where(takes_first, first, second)
