"""The forms of a convolution: XLA's own, or a product of image rows with banded matrices.

The networks of the paper have small kernels with 1 to 16 channels, too few to fill the convolution
routines of a CPU or a GPU. Written as the product of whole image rows with a matrix that is built
from the kernel, and is zero outside a band, a convolution becomes one matrix product of a good
size. Both forms are linear in the kernel and differentiable in both modes, without a rule of their
own. Both leave the precision of the product over the images at XLA's default, which is float32 on a
CPU and may be TF32 on a GPU, for XLA's convolution as for a matrix product.
"""

from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Form: TypeAlias = Literal["auto", "lax", "banded"]
"""How a convolution is computed; values and gradients agree up to round-off."""

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def check_arguments(x: Array, kernel: Array, form: Form) -> None:
    """Raises ValueError if the form is unknown, or x and the kernel differ in their channels.

    Args:
      x: (b, h, w, c) images.
      kernel: (kh, kw, c, o) kernel.
      form: how to compute the convolution.
    """
    if form not in ("auto", "lax", "banded"):
        raise ValueError(f'form must be "auto", "lax" or "banded", got {form!r}')
    if kernel.shape[2] != x.shape[3]:
        raise ValueError(
            f"the kernel reads {kernel.shape[2]} channels, the images have {x.shape[3]}"
        )


def in_form(
    form: Form,
    x: Array,
    kernel: Array,
    *,
    banded: Callable[..., Array],
    ordinary: Callable[..., Array],
    **options: Any,
) -> Array:
    """Applies one of two functions that compute the same convolution.

    Args:
      form: "banded", "lax" for the ordinary one, or "auto" for "banded" on a CPU and an NVIDIA GPU,
        where it was measured to be faster, and "lax" on every other platform.
      x: (b, h, w, c) images.
      kernel: (kh, kw, c, o) kernel.
      banded: computes the convolution of x and kernel as a matrix product.
      ordinary: computes it with XLA's convolution.
      **options: hashable keyword arguments of both functions.
    """
    banded, ordinary = _bound(banded, **options), _bound(ordinary, **options)
    if form == "auto":
        # The choice is left to the lowering. `jax.default_backend()` would decide while tracing,
        # and decide wrongly for a computation placed on the CPU of a machine with a GPU or
        # exported for another platform. Both forms are traced, one is lowered: under jit, grad
        # and vmap nothing of the other is compiled.
        return jax.lax.platform_dependent(x, kernel, cpu=banded, cuda=banded, default=ordinary)
    return (banded if form == "banded" else ordinary)(x, kernel)


@cache
def _bound(function: Callable[..., Array], **options: Any) -> Callable[..., Array]:
    # One object per set of options: outside jit, `platform_dependent` compiles its branches again
    # whenever it is given new function objects.
    return partial(function, **options)


def bands(kernel: Array, equation: str, *selections: np.ndarray) -> Array:
    """Banded matrices whose entries are those of the kernel, selected by an einsum.

    Args:
      kernel: (kh, kw, c, o) kernel.
      equation: the einsum of the selections and the kernel, in this order.
      *selections: arrays of 0 and 1 that say which tap of the kernel each pair of pixels meets.
    """
    factors = (jnp.asarray(selection, kernel.dtype) for selection in selections)
    # A CPU is fastest with products of matrices, one factor after the other. On a GPU each of them
    # is several launches around very little work, and their derivatives are as many again.
    one_sum, products = (
        _bound(how, equation=equation) for how in (_einsum_by_one_sum, _einsum_by_products)
    )
    return jax.lax.platform_dependent(*factors, kernel, cuda=one_sum, default=products)


def _einsum_by_products(*operands: Array, equation: str) -> Array:
    # The selections are 0 or 1 and only select entries, so the result is exact if the product is.
    return jnp.einsum(equation, *operands, precision=jax.lax.Precision.HIGHEST)


def _einsum_by_one_sum(*operands: Array, equation: str) -> Array:
    """The einsum as one sum of products of all operands, which XLA compiles to one GPU kernel."""
    terms, result = equation.split("->")
    axes = "".join(sorted(set(terms) - set(result) - {","})) + result

    def spread(operand: Array, term: str) -> Array:
        """The operand with an axis for each index: its own, or one of length 1."""
        sizes = dict(zip(term, operand.shape, strict=True))
        ordered = operand.transpose([term.index(axis) for axis in axes if axis in term])
        return ordered.reshape([sizes.get(axis, 1) for axis in axes])

    spreads = [spread(*pair) for pair in zip(operands, terms.split(","), strict=True)]
    shape = np.broadcast_shapes(*(operand.shape for operand in spreads))
    product = reduce(jnp.multiply, (jnp.broadcast_to(operand, shape) for operand in spreads))
    return jnp.sum(product, axis=tuple(range(len(axes) - len(result))))
