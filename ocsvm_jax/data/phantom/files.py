"""NIfTI files of the population: written atomically, and read back to resume."""

import gzip
import hashlib
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float

from ocsvm_jax import extras
from ocsvm_jax.files import whole_file


def nibabel() -> ModuleType:
    """The module, imported when needed; MissingExtraError if it is not installed."""
    return extras.load("nibabel", "reading and writing NIfTI files", "mri")


def write(path: Path, values: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> None:
    """Writes values as a compressed NIfTI file.

    Args:
      path: the file.
      values: (z, x, y); bool becomes uint8.
      affine: (4, 4), voxel indices along x, y and z -> mm.
    """
    stored = np.moveaxis(values, 0, 2)
    stored = stored.astype(np.uint8) if stored.dtype == bool else stored
    image = nibabel().Nifti1Image(stored, affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header.set_xyzt_units("mm")
    # Noise hardly compresses at any level. Without a time stamp equal arrays give equal files.
    with whole_file(path) as file:
        file.write(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def read(path: Path) -> np.ndarray:
    """Reads a file written by `write`, (z, x, y) in the stored dtype.

    Raises:
      OSError: if the file does not exist.
      ValueError: if it is damaged.
    """
    nib = nibabel()
    content = path.read_bytes()
    try:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
        return np.moveaxis(np.asarray(image.dataobj), 2, 0)
    except Exception as error:  # nibabel, gzip and zlib have no common exception
        raise ValueError(f"{path} is damaged: {error}") from error


def digest(arrays: list[np.ndarray]) -> str:
    """SHA-256 over the values, shapes and dtypes of arrays; bool counts as uint8."""
    total = hashlib.sha256()
    for array in arrays:
        array = array.astype(np.uint8) if array.dtype == bool else array
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        total.update(repr((array.shape, array.dtype.str)).encode())
        total.update(array.tobytes())
    return total.hexdigest()


def joint(digests: list[str]) -> str:
    """SHA-256 over several digests, in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
