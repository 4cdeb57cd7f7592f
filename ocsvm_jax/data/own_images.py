"""A user's own images, from a .npy file."""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ocsvm_jax.data.base import IMAGE_SHAPE


def read_images(path: Path) -> UInt8[np.ndarray, "n h w c"]:
    """Reads (n, h, w) or (n, h, w, 1) of a .npy file, uint8 0..255 or float in [0, 1].

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not such an array; the message says what it is.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        with open(path, "rb") as file:
            images = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as a .npy array: {error}") from error
    if not isinstance(images, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays; save one array with np.save.")
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] != IMAGE_SHAPE or len(images) == 0:
        raise ValueError(f"{path} holds shape {images.shape}; images are (n, 28, 28) with n >= 1.")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{path} holds {images.dtype}; images are uint8 0..255 or float in [0, 1]."
        )
    if not np.all(np.isfinite(images)) or images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"{path} holds floats from {images.min()} to {images.max()}; they must lie in [0, 1]. "
            "Divide by 255 if these are grey values."
        )
    return np.round(images * 255).astype(np.uint8)
