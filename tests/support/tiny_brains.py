"""Brains of a few voxels: cohorts as arrays and as NIfTI files, and what trains on them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from support.small import adam

from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.experiments.brain.methods import patch_method
from ocsvm_jax.methods.base import Method
from ocsvm_jax.networks.pair import Network, Pair, stateless

SHAPE = (2, 20, 20)  # z, x, y


def cohort(
    name: str, n: int, *, shape: tuple[int, int, int] = SHAPE, patients: bool = False
) -> Cohort:
    """Subjects with something in common, masks that differ, and dark lesions of patients."""
    generator = np.random.default_rng(list(name.encode()))
    common = np.random.default_rng(7).normal(size=shape)
    images = np.stack([common + 0.4 * generator.normal(size=shape) for _ in range(n)])
    images = np.stack([ndimage.gaussian_filter(image, (0, 1.5, 1.5)) for image in images])
    images = 0.5 + 0.8 * images + 0.02 * generator.normal(size=images.shape)
    masks = np.zeros((n, *shape), bool)
    masks[:, :, 2:-2, 3:-1] = True
    for i in range(n):
        masks[i, :, 2, : 5 + i] = False  # at the border, not everybody has brain
    lesions = np.zeros_like(masks)
    if patients:
        for i in range(n):
            lesions[i, i % shape[0], 6 : 9 + i % 3, 8:11] = True
    images = np.where(lesions, 0.1, np.clip(images, 0.05, 1)) * masks
    subjects = tuple(f"{name}-{i}" for i in range(n))
    return Cohort(name, subjects, images.astype(np.float32), masks, lesions & masks, patients)


def write_nifti(folder: Path, made: Cohort, affine: np.ndarray, axes: str = "RAS") -> None:
    """Writes a cohort, whose affine is canonical, with the axes of the files as named."""
    import nibabel as nib

    there = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(axes))
    )
    folder.mkdir(parents=True)
    kinds: dict[str, Any] = {"T1": made.images, "mask": made.masks.astype(np.uint8)}
    if made.has_lesions:
        kinds["lesion"] = made.lesions.astype(np.uint8)
    for kind, volumes in kinds.items():
        for subject, volume in zip(made.subjects, volumes, strict=True):
            image = nib.Nifti1Image(np.moveaxis(volume, 0, 2), affine).as_reoriented(there)
            nib.save(image, folder / f"{subject}_{kind}.nii.gz")


# Those of the card but for a large nu and weights that show.
SETTINGS = {
    "centre_sd": 2.0,
    "guidance_weight": 0.01,
    "nu": 0.5,
    "gamma": 0.1,
    "standardize": False,
    "differentiate_dual": True,
    "schedule": "constant",
    "betas": (1.0, 1.0),
    "betas_second": (1.0, 1.0),
    "similarity_weight": 0.1,
    "num_epochs": 4,
}
LATENT = 3


def dense_network() -> Network:
    """One dense layer each way, in place of the patch autoencoder: it compiles in no time."""

    def pair(outputs: int, activation) -> Pair:
        def init(key, x):
            inputs = 225 if outputs == LATENT else LATENT
            return {"weights": jax.random.normal(key, (inputs, outputs), jnp.float32) / 15}

        def apply(params, x):
            leading = x.shape[:-3] if outputs == LATENT else x.shape[:-1]
            y = activation(x.reshape(-1, params["weights"].shape[0]) @ params["weights"])
            return y.reshape(*leading, *((LATENT,) if outputs == LATENT else (15, 15, 1)))

        return stateless(init, apply)

    return Network(pair(LATENT, lambda y: y), pair(225, jax.nn.sigmoid))


def dense_by_numpy(params, patches) -> tuple[np.ndarray, np.ndarray]:
    """Latents (l, b, 3) and reconstructions (l, b, 225) of the dense network, in float64."""
    x = np.asarray(patches, np.float64).reshape(*patches.shape[:2], 225)
    z = x @ np.asarray(params["encoder"]["weights"], np.float64)
    return z, 1 / (1 + np.exp(-z @ np.asarray(params["decoder"]["weights"], np.float64)))


def method(name: str, **changes) -> Method:
    """A patch method on the dense network."""
    settings = SETTINGS | changes
    return patch_method(name, dense_network(), adam(3e-3), settings)
