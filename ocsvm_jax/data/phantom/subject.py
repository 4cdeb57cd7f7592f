"""Draws a subject, as a pure function of profile, cohort, index and seed."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from ocsvm_jax.data.phantom import anatomy, lesions, scanner, shapes, tumours
from ocsvm_jax.data.phantom.anatomy import Tissue
from ocsvm_jax.data.phantom.cohorts import cohort_named, person, profile_named, streams
from ocsvm_jax.data.phantom.scanner import SCANNERS, Settings
from ocsvm_jax.data.phantom.shapes import Shape
from ocsvm_jax.data.phantom.template import Template

_STEPS = 8192  # grey values from 0 to 1


class Drawn(NamedTuple):
    """A subject. Volumes are (z, x, y).

    Attributes:
      subject: name, the same in every arm.
      kind: "control", "wmh" or "tumour".
      age: years.
      scanner: name of the scanner.
      image: the T1 image, 0 outside the brain; 1 is the 99.5th percentile of `without_lesion` in
        the brain.
      without_lesion: the same subject in the same acquisition with the same noise, but healthy.
      mask: the brain, the same for both.
      lesion: the lesions to be detected; all False for a control.
      changed: where the two images may differ: the lesion, and for a tumour everything it moves.
        As drawn, that is. A reader that scales each file by a percentile of its own, such as
        `data.brain` with intensity="percentile", moves all of an image by some 0.1%.
    """

    subject: str
    kind: str
    age: float
    scanner: str
    image: Float32[np.ndarray, "z x y"]
    without_lesion: Float32[np.ndarray, "z x y"]
    mask: Bool[np.ndarray, "z x y"]
    lesion: Bool[np.ndarray, "z x y"]
    changed: Bool[np.ndarray, "z x y"]


class _Found(NamedTuple):
    """Blurred intensities with the lesion, its mask, and where they differ from healthy ones."""

    values: np.ndarray
    lesion: np.ndarray
    changed: np.ndarray


def draw(
    template: Template,
    profile: str,
    cohort: str,
    index: int,
    seed: int,
    *,
    lesion_shapes: tuple[Shape, ...] = (),
) -> Drawn:
    """Draws a subject.

    Anatomy, scanner, lesion and noise have separate streams of random numbers, which depend only on
    the seed, the group of the cohort and the index. Subject i of a group is therefore the same
    person with the same lesion in every arm; only age and scanner differ.

    Args:
      template: template of the same profile, from `prepare`.
      profile: name of the profile.
      cohort: name of one of its cohorts.
      index: number of the subject in the cohort, from 0.
      seed: seed of the population.
      lesion_shapes: shapes of the white matter lesions, in place of random ones.

    Raises:
      ValueError: if the profile or cohort is unknown, the template belongs to another profile, or
        the cohort has no subject with this index.
    """
    sizes = profile_named(profile)
    if template.profile != profile:
        raise ValueError(f"The template is prepared for {template.profile!r}, not {profile!r}.")
    who = cohort_named(sizes, cohort)
    if not 0 <= index < who.size:
        raise ValueError(f"Cohort {cohort!r} has subjects 0 to {who.size - 1}, not {index}.")
    age, scanner_name = person(who, index, seed)
    anatomy_rng, scanner_rng, lesion_rng, noise_rng = streams(who, index, seed)

    places = anatomy.positions(template)
    traits = anatomy.draw_traits(anatomy_rng, template)
    tissue = anatomy.tissue(template, places + traits.displacement, traits, age)
    settings = scanner.draw_settings(scanner_rng, SCANNERS[scanner_name], template)
    noise = scanner.draw_noise(noise_rng, settings, tissue.mask.shape)
    healthy = scanner.blurred(scanner.contrast(tissue, settings), settings)
    if who.kind == "control":
        nowhere = np.zeros(tissue.mask.shape, bool)
        found = _Found(healthy, nowhere, nowhere)
    elif who.kind == "wmh":
        warped = places + traits.displacement
        found = _spotted(lesion_rng, template, tissue, settings, healthy, warped, lesion_shapes)
    else:
        found = _with_tumour(lesion_rng, template, tissue, settings, places, traits, age)

    without = scanner.detected(healthy, settings, noise)
    # Both use the same level, since otherwise a lesion would change the whole image.
    level = scanner.white_level(without, tissue.mask)
    image, without = (
        template.embed(_stored(np.where(tissue.mask, values / level, 0)))
        for values in (scanner.detected(found.values, settings, noise), without)
    )
    mask, lesion, changed = (
        template.embed(part) for part in (tissue.mask, found.lesion, found.changed & tissue.mask)
    )
    name = who.subject(index)
    return Drawn(name, who.kind, age, scanner_name, image, without, mask, lesion, changed)


def _stored(values: np.ndarray) -> np.ndarray:
    """Rounds to multiples of 1/8192, as scanners store integers.

    Processors differ in the last bits of a sum. After rounding, the images are very likely equal on
    all of them, so that their SHA-256 can be compared.
    """
    return (np.round(values * _STEPS) / _STEPS).astype(np.float32)


def _spotted(
    rng: np.random.Generator,
    template: Template,
    tissue: Tissue,
    settings: Settings,
    healthy: np.ndarray,
    warped: np.ndarray,
    lesion_shapes: tuple[Shape, ...],
) -> _Found:
    contrast = float(rng.uniform(*lesions.CONTRAST))
    if lesion_shapes:
        lesion = shapes.planted(rng, lesion_shapes, warped, tissue)
    else:
        lesion = lesions.white_matter_lesions(rng, tissue, template)
    # Added after the blur, with its own soft border, since blurring would spread it outside.
    values = healthy - lesions.darkening(lesion, tissue, contrast, settings.gm)
    return _Found(values, lesion, lesion)


def _with_tumour(
    rng: np.random.Generator,
    template: Template,
    tissue: Tissue,
    settings: Settings,
    places: np.ndarray,
    traits: anatomy.Traits,
    age: float,
) -> _Found:
    tumour = tumours.draw_tumour(rng, places, template)
    warped = places + traits.displacement - tumour.push
    moved = anatomy.tissue(template, warped, traits, age)._replace(mask=tissue.mask)
    values = scanner.contrast(moved, settings)
    values = tumours.grown(values, tumour, moved, settings.gm, settings.csf)
    return _Found(
        scanner.blurred(values, settings),
        tumours.extent(tumour, moved),
        tumours.changed(tumour, scanner.reach(settings)),
    )
