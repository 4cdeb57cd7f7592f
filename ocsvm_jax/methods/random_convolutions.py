"""Images with other local textures and the same shapes, by random convolutions.

Source: Xu, Liu, Yang, Raffel and Niethammer, Robust and Generalizable Visual Representation
Learning via Random Convolutions, ICLR 2021. A network trained on such images depends less on the
domain that an image comes from.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ocsvm_jax.methods.turning import stretch

_SIZE = 3  # of a filter, in pixels


def randomly_convolved(
    images: Float[Array, "b h w c"], key: Array, share: float
) -> Float[Array, "b h w c"]:
    """A share of the images, each mixed with its convolution by a filter of its own.

    A filter has 3 x 3 x c x c independent normal weights. Image and convolution are scaled to
    [0, 1], mixed with a uniformly random weight, and scaled again. The other images stay as they
    are.

    Args:
      images: (b, h, w, c).
      key: a key.
      share: probability in [0, 1] that an image changes.
    """
    b, h, w, c = images.shape
    filter_key, mix_key, share_key = jax.random.split(key, 3)
    filters = jax.random.normal(filter_key, (b, _SIZE, _SIZE, c, c), images.dtype)
    margin = (_SIZE // 2, _SIZE // 2)
    padded = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode="edge")
    convolved = jnp.zeros_like(images)
    for i in range(_SIZE):
        for j in range(_SIZE):
            shifted = padded[:, i : i + h, j : j + w]
            convolved += jnp.einsum("bhwc,bcd->bhwd", shifted, filters[:, i, j])
    weight = jax.random.uniform(mix_key, (b, 1, 1, 1), images.dtype)
    mixed = stretch(weight * stretch(images) + (1 - weight) * stretch(convolved))
    changes = jax.random.bernoulli(share_key, share, (b, 1, 1, 1))
    return jnp.where(changes, mixed, images)
