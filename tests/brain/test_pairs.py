"""The same subject with and without its lesion: scores change near the lesion and nowhere else."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

pytest.importorskip("nilearn", reason="nilearn carries the template")

from ocsvm_jax.brain import maps, training
from ocsvm_jax.brain.mappers import localized_ocsvm, mahalanobis, minus_z
from ocsvm_jax.data.brain import Cohort
from ocsvm_jax.data.phantom import PROFILES, draw, prepare
from ocsvm_jax.networks.patch import RADIUS, PatchEncoder

pytestmark = pytest.mark.usefixtures("fast_compilation")

PATIENTS = 4


@pytest.fixture(scope="module")
def drawn():
    """Training subjects and patients of the population, as `draw` gives them."""
    template = prepare(PROFILES["ci"])
    return {
        name: [draw(template, "ci", name, i, 0) for i in range(n)]
        for name, n in {"train": 8, "matched_wmh": PATIENTS}.items()
    }


def cohort(name, subjects, images):
    masks, lesions = (np.stack([getattr(s, k) for s in subjects]) for k in ("mask", "lesion"))
    names = tuple(s.subject for s in subjects)
    return Cohort(name, names, np.stack(images), masks, lesions, True)


@pytest.fixture(scope="module")
def cohorts(drawn):
    train, patients = drawn["train"], drawn["matched_wmh"]
    return (
        cohort("train", train, [s.image for s in train]),
        cohort("with", patients, [s.image for s in patients]),
        cohort("without", patients, [s.without_lesion for s in patients]),
    )


def test_a_pair_is_one_subject(cohorts):
    _, ill, well = cohorts
    differs = ill.images != well.images
    assert not (differs & ~ill.lesions).any()
    assert (differs.sum(axis=(1, 2, 3)) > 5).all()
    assert differs.sum() > 0.9 * ill.lesions.sum()


def untrained(feed):
    """An encoder as it is before training, and a one-class SVM a voxel."""
    encoder = PatchEncoder()
    patch = jnp.zeros((1, 15, 15, 1), jnp.float32)
    variables = dict(jax.jit(encoder.init)(jax.random.key(0), patch))
    params = variables.pop("params")
    settings = SimpleNamespace(nu=0.3, gamma=1.0, standardize=True, scores=("-f",))
    return localized_ocsvm(encoder, params, variables, settings)


@pytest.mark.parametrize(
    ("build", "radius"),
    [
        (lambda feed: minus_z(), 0),
        (lambda feed: mahalanobis(feed, 0), RADIUS),
        (untrained, RADIUS),
    ],
    ids=["minus_z", "mahalanobis", "ocsvm"],
)
def test_scores_move_within_the_reach_of_a_patch_and_nowhere_else(cohorts, tmp_path, build, radius):
    train, ill, well = cohorts
    feed = training.feed_of(train.images, train.masks, train.images[:2], train.masks[:2])
    locations = maps.locations_of(train, 0.5)
    locations[:, ::2] = False  # half of them will do
    found = maps.make_maps(build(feed), train, [ill, well], locations, tmp_path, block=1024)
    ((with_lesion, without),) = found.values()
    side = 2 * radius + 1
    for i in range(PATIENTS):
        (lesion,) = ill.lesions[i]
        near = ndimage.binary_dilation(lesion, np.ones((side, side))) if radius else lesion
        pair = [maps.as_volume(scores[i], locations)[0] for scores in (with_lesion, without)]
        np.testing.assert_array_equal(*(np.where(near, 0, volume) for volume in pair))
        at = near & locations[0]
        assert at.sum() >= 3
        assert np.mean(pair[0][at] != pair[1][at]) > 0.5
