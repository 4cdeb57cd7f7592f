"""A real T1 volume and its lesion mask through the reader and the map writer, with a picture.

    python benchmarks/real_volume.py --dir=FOLDER --out=DIR [--slices=4,20,28]

FOLDER holds <subject>_T1_MNI.nii.gz and <subject>_lesions_MNI.nii.gz (the names of the MSLUB set of
Lesjak et al., Neuroinformatics 2017). The map shows darkness: it checks that volumes are read and
written at the right place, and says nothing about detection.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ocsvm_jax.data import brain, nifti
from ocsvm_jax.experiments.brain import pictures
from ocsvm_jax.reports import figures


def main() -> None:
    """Reads, scores, writes, reads back, draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--slices", default="4,20,28", help="z in mm, separated by commas")
    given = parser.parse_args()
    slices = tuple(float(z) for z in given.slices.split(","))
    patterns: dict[str, Any] = {
        "image": "{subject}_T1_MNI.nii.gz",
        "lesion": "{subject}_lesions_MNI.nii.gz",
    }
    cohort, space = brain.read_cohort(
        given.dir, "", slices_mm=slices, intensity="percentile", mask="", **patterns
    )
    files = brain.find(given.dir, "", mask="", **patterns)
    print(
        f"{len(cohort.subjects)} subject: {', '.join(cohort.subjects)}; {space.shape} voxels, "
        f"{cohort.masks[0].sum():,} of the brain and {cohort.lesions[0].sum():,} of lesions in "
        f"slices at {slices} mm"
    )
    scores = (1 - cohort.images[0]) * cohort.masks[0]
    path = given.out / f"{cohort.subjects[0]}_darkness.nii.gz"
    like = nifti.read_header(files[0].image).file_affine
    brain.write_map(path, scores, space, like=like)
    again = nifti.read_image(path)[:, :, space.slices]
    assert np.array_equal(np.moveaxis(again, 2, 0), scores)
    assert np.array_equal(nifti.read_header(path).file_affine, like)
    low, high = pictures.colour_range(scores, cohort.masks[0])
    image = figures.png(
        pictures.overlay,
        cohort.images[0],
        scores,
        cohort.masks[0],
        cohort.lesions[0],
        labels=[f"z = {z:g} mm" for z in sorted(slices)],
        threshold=float(np.quantile(scores[cohort.masks[0]], 0.95)),
        vmin=low,
        vmax=high,
        title=f"{cohort.subjects[0]}: darkness, not a detection",
    )
    picture = given.out / f"{cohort.subjects[0]}.png"
    picture.write_bytes(image)
    print(f"written and read back equal: {path}; picture: {picture}")


if __name__ == "__main__":
    main()
