"""Methods of a table that nothing is trained for: fitted in one step to the images of a run.

They have no epochs and no grid. Everything after the fit, from the final one-class SVMs to the
report, is that of the trained methods.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from ocsvm_jax.data.base import IMAGE_SHAPE
from ocsvm_jax.evaluation.pca import PCA
from ocsvm_jax.evaluation.scores import Images, Model
from ocsvm_jax.experiments.config import Config

BASELINES = ("pca",)


def settings_of(config: Config, name: str) -> dict[str, Any]:
    """The settings of a baseline in a card: `method.latent_dim` components.

    Raises:
      ValueError: if there are more components than pixels.
    """
    most = math.prod(IMAGE_SHAPE)
    if config.method.latent_dim > most:
        raise ValueError(
            f"method.latent_dim is {config.method.latent_dim}; the images of {name} have {most} "
            "pixels, so it must be at most that, or leave this method out of table.methods."
        )
    return {"name": name, "latent_dim": config.method.latent_dim}


def check(config: Config, num_images: int) -> None:
    """Raises ValueError if the table has a baseline and too few images to fit it.

    Args:
      config: the card.
      num_images: number of images that a run is fitted to.
    """
    asked = not config.table.methods or set(BASELINES) & set(config.table.methods)
    if asked and num_images <= config.method.latent_dim:
        raise ValueError(
            f"there are {num_images} images to train on, too few for {config.method.latent_dim} "
            "principal components: lower method.latent_dim, raise table.max_images, or leave "
            f"{', '.join(BASELINES)} out of table.methods."
        )


def fit(settings: dict[str, Any], images: Images) -> PCA:
    """Fits a baseline to the images of a run.

    Raises:
      ValueError: if there are fewer images than components.
    """
    return PCA.fit(images, settings["latent_dim"])


def state_shapes(settings: dict[str, Any]) -> Any:
    """What `fit` returns, with shapes and dtypes in place of arrays."""
    k, pixels = settings["latent_dim"], math.prod(IMAGE_SHAPE)
    shapes = {"mean": (pixels,), "components": (k, pixels), "sd": (k,)}
    arrays: dict[str, Any] = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    return PCA(**arrays)


def model(state: PCA) -> Model:
    """The function of a block of images for `evaluation.scores.see`."""
    return state.model()
