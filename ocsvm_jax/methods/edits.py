"""Artificial anomalies: images edited so that their parts no longer belong together.

Each edit is a function `edit(images, key) -> images` of a batch (b, h, w, c) that draws for each
image on its own and can be jitted. None is made for a class of images: they turn, mirror, remove,
insert, permute, bend and displace. Sizes are fractions of the image.

Edited images as negative examples are an idea of Golan and El-Yaniv (2018, symmetries and shifts)
and of Li, Sohn, Yoon and Pfister, CutPaste, CVPR 2021 (pasted parts). The others are known as
augmentations or pretext tasks: erased regions by DeVries and Taylor, Cutout, 2017; permuted parts
by Noroozi and Favaro, ECCV 2016; elastic deformations by Simard, Steinkraus and Platt, ICDAR 2003.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ocsvm_jax.methods.turning import check_images

Images = Float[Array, "b h w c"]
Edit = Callable[[Images, Array], Images]

_CENTRE = (0.2, 0.8)  # of a region, as fractions of height and width
_RADIUS = (0.07, 0.25)  # of the axes of its ellipse, as fractions of the smaller side
_SHARPNESS = 4.0  # of its edge, which fades over about a quarter of a radius
_BEND = 0.125  # standard deviation of the displacements of `bent`, of the smaller side
_KNOTS = 4  # of its field of displacements, per axis


def turned(images: Images, key: Array) -> Images:
    """One of the seven symmetries of the square but the identity; of three if h and w differ."""
    if images.shape[1] == images.shape[2]:
        views = [jnp.rot90(images, k, axes=(1, 2)) for k in (1, 2, 3)]
        views += [jnp.rot90(images[:, :, ::-1], k, axes=(1, 2)) for k in range(4)]
    else:
        views = [images[:, ::-1, ::-1], images[:, ::-1], images[:, :, ::-1]]
    which = jax.random.randint(key, (len(images),), 0, len(views))
    return jnp.stack(views)[which, jnp.arange(len(images))]


def erased(images: Images, key: Array) -> Images:
    """A region takes the median of the first and the last row."""
    mask = _region(images, key)
    border = jnp.concatenate([images[:, 0], images[:, -1]], axis=1)
    return _blend(images, jnp.median(border, axis=1)[:, None, None, :], mask)


def pasted(images: Images, key: Array) -> Images:
    """A region shows the next image of the batch, turned and shifted by up to a quarter."""
    region_key, turn_key, shift_key = jax.random.split(key, 3)
    other = turned(jnp.roll(images, 1, axis=0), turn_key)
    return _blend(images, _shifted(other, shift_key, 0.25), _region(images, region_key))


def displaced(images: Images, key: Array) -> Images:
    """A region shows the same image, shifted by up to a third."""
    region_key, shift_key = jax.random.split(key)
    return _blend(images, _shifted(images, shift_key, 1 / 3), _region(images, region_key))


def permuted(images: Images, key: Array) -> Images:
    """The four quarters change places, one of the 24 ways; of an odd size the middle stays."""
    b, h, w, _ = images.shape
    tall, wide = h // 2, w // 2
    corners = [(i, j) for i in (0, h - tall) for j in (0, w - wide)]
    parts = jnp.stack([images[:, i : i + tall, j : j + wide] for i, j in corners], axis=1)
    order = jax.vmap(lambda k: jax.random.permutation(k, 4))(jax.random.split(key, b))
    parts = jnp.take_along_axis(parts, order[:, :, None, None, None], axis=1)
    for part, (i, j) in enumerate(corners):
        images = images.at[:, i : i + tall, j : j + wide].set(parts[:, part])
    return images


def bent(images: Images, key: Array) -> Images:
    """Bends the image by a smooth random field of displacements."""
    b, h, w, _ = images.shape
    knots = jax.random.normal(key, (b, _KNOTS, _KNOTS, 2), images.dtype)
    field = _BEND * min(h, w) * jax.image.resize(knots, (b, h, w, 2), "cubic")
    where = _grid(images)[None] + field

    def of_channel(channel: Float[Array, "h w"], where: Float[Array, "h w 2"]) -> Array:
        at = [where[..., 0], where[..., 1]]
        return jax.scipy.ndimage.map_coordinates(channel, at, order=1, mode="nearest")

    each_channel = jax.vmap(of_channel, in_axes=(2, None), out_axes=2)
    return jax.vmap(each_channel)(images, where)


EDITS: dict[str, Edit] = {
    "turned": turned,
    "erased": erased,
    "pasted": pasted,
    "permuted": permuted,
    "bent": bent,
    "displaced": displaced,
}


def edited(images: Images, key: Array, names: tuple[str, ...]) -> list[Images]:
    """The images under each of the named edits.

    Args:
      images: (b, h, w, c), h and w at least 4.
      key: a key.
      names: names in `EDITS`.

    Raises:
      ValueError: if these are not such images.
    """
    check_images(images)
    if min(images.shape[1:3]) < 4:
        raise ValueError(
            f"the images have {images.shape[1]} x {images.shape[2]} pixels; edits take 4 x 4 or "
            "more."
        )
    keys = jax.random.split(key, len(names))
    return [EDITS[name](images, k) for name, k in zip(names, keys, strict=True)]


def _region(images: Images, key: Array) -> Float[Array, "b h w 1"]:
    """Masks of elongated regions, one per image: 1 inside, 0 outside, with a soft edge."""
    b, h, w, _ = images.shape
    centre_key, radius_key, angle_key = jax.random.split(key, 3)
    dtype, size = images.dtype, jnp.array([h, w], images.dtype)
    low, high = _CENTRE
    centre = jax.random.uniform(centre_key, (b, 1, 1, 2), dtype, low, high)
    low, high = (radius * min(h, w) for radius in _RADIUS)
    radii = jax.random.uniform(radius_key, (b, 1, 1, 2), dtype, low, high)
    angle = jax.random.uniform(angle_key, (b, 1, 1), dtype, 0, jnp.pi)
    y, x = jnp.moveaxis(_grid(images)[None] - centre * size[None, None, None], -1, 0)
    along = (y * jnp.cos(angle) + x * jnp.sin(angle)) / radii[..., 0]
    across = (x * jnp.cos(angle) - y * jnp.sin(angle)) / radii[..., 1]
    return jax.nn.sigmoid(_SHARPNESS * (1 - jnp.hypot(along, across)))[..., None]


def _grid(images: Images) -> Float[Array, "h w 2"]:
    """Row and column of each pixel."""
    rows, columns = (jnp.arange(n, dtype=images.dtype) for n in images.shape[1:3])
    return jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)


def _blend(
    images: Images, others: Float[Array, "b _ _ c"], mask: Float[Array, "b h w 1"]
) -> Images:
    return images * (1 - mask) + others * mask


def _shifted(images: Images, key: Array, most: float) -> Images:
    """Each image rolled by a random number of pixels, up to a fraction of its sides."""
    b, h, w, _ = images.shape
    limits = jnp.array([[int(most * h), int(most * w)]])
    shifts = jax.random.randint(key, (b, 2), -limits, limits + 1)
    return jax.vmap(lambda image, shift: jnp.roll(image, shift, axis=(0, 1)))(images, shifts)
