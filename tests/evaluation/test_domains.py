"""Scores without the domain, on images whose domains are known."""

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, silhouette_samples

from ocsvm_jax.evaluation import domains
from ocsvm_jax.evaluation.domains import Domains, fit_domains, fit_groups, group_of, normalized

KEY = jax.random.key(0)


def images(kinds, seed=0):
    """Noisy squares on a dark, a bright or a striped ground, by kind 0, 1, 2; 3 is white noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 0.1, (len(kinds), 28, 28, 1))
    x[:, 10:18, 10:18] += rng.uniform(0.4, 0.6, (len(kinds), 1, 1, 1))
    kinds = np.asarray(kinds)
    x[kinds == 1] += 0.3
    x[kinds == 2, :, ::4] += 0.5
    x[kinds == 3] = rng.uniform(size=(np.sum(kinds == 3), 28, 28, 1)) > 0.5
    return (255 * np.clip(x, 0, 1)).astype(np.uint8)


KINDS = np.arange(300) % 3
IMAGES = images(KINDS)


def scored(kinds, seed=0, share=0.5):
    """Labels, and scores that an anomaly raises by 2 and a domain by up to 40."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=len(kinds)) < share).astype(int)
    return labels, {"a": 2.0 * labels + 20.0 * kinds + rng.normal(size=len(kinds))}


def partition(group):
    """Pairs of images of one group."""
    return group[:, None] == group[None, :]


def test_statistics_by_hand():
    image = np.zeros((1, 5, 6, 1), np.uint8)
    image[0, :, 0] = 255  # the left column of five rows and six columns
    found = dict(zip(domains.STATISTICS, domains.statistics(image)[0], strict=True))
    assert found["mean"] == pytest.approx(5 / 30)
    assert found["standard deviation"] == pytest.approx(np.sqrt(5 / 30 * 25 / 30))
    assert found["mean of the upper and lower border"] == pytest.approx(4 / 24)
    assert found["mean of the left and right border"] == pytest.approx(5 / 20)
    assert found["energy of the horizontal gradient"] == pytest.approx(5 / 25)
    assert found["energy of the vertical gradient"] == 0


def test_the_groups_are_the_domains():
    groups = fit_groups(IMAGES, KEY)
    assert len(groups.centres) == 3
    np.testing.assert_array_equal(partition(group_of(groups, IMAGES)), partition(KINDS))
    new = np.array([2, 2, 0, 1, 1, 0] * 5)
    np.testing.assert_array_equal(partition(group_of(groups, images(new, seed=1))), partition(new))


def test_silhouette_is_that_of_the_definition():
    groups = fit_groups(IMAGES, KEY)
    points = (domains.statistics(IMAGES) - groups.mean) / groups.sd
    np.testing.assert_allclose(points.std(0), 1, rtol=1e-9)
    expected = silhouette_samples(points, group_of(groups, IMAGES)).mean()
    assert groups.silhouette == pytest.approx(expected)
    own = [points[kind == KINDS].mean(0) for kind in range(3)]
    order = [np.argmin(np.linalg.norm(groups.centres - c, axis=1)) for c in own]
    np.testing.assert_allclose(groups.centres[order], own, atol=1e-9)


def test_one_domain_is_one_group():
    """Nothing but noise: the score is centred and scaled as a whole, and its ranks stay."""
    some = images(np.zeros(200, int))
    labels, scores = scored(np.zeros(200))
    found = fit_domains(some, scores, KEY)
    assert len(found.groups.centres) == 1
    assert np.isnan(found.groups.silhouette)
    out = normalized(found, some, scores).scores["a"]
    assert roc_auc_score(labels, out) == roc_auc_score(labels, scores["a"])


def test_a_few_odd_images_make_no_group():
    kinds = np.repeat([0, 1], [200, 10])
    assert len(fit_groups(images(kinds), KEY).centres) == 1


def test_medians_and_quartiles_of_each_group_by_hand():
    _, scores = scored(KINDS)
    found = fit_domains(IMAGES, scores, KEY)
    out = normalized(found, IMAGES, scores)
    assert not out.far.any()
    for kind in range(3):
        values = scores["a"][kind == KINDS]
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        np.testing.assert_allclose(out.scores["a"][kind == KINDS], (values - middle) / (high - low))


def test_the_domain_is_taken_out():
    _, scores = scored(KINDS)
    found = fit_domains(IMAGES, scores, KEY)
    kinds = np.arange(600) % 3
    labels, new = scored(kinds, seed=5)
    out = normalized(found, images(kinds, seed=5), new)
    assert roc_auc_score(labels, new["a"]) < 0.7
    # Two normal distributions of sd 1 whose means differ by 2: Phi(sqrt 2) = .921.
    assert roc_auc_score(labels, out.scores["a"]) == pytest.approx(0.921, abs=0.03)


def test_an_image_far_from_every_group_is_told():
    _, scores = scored(KINDS)
    found = fit_domains(IMAGES, scores, KEY)
    new = images([0, 3, 3], seed=2)
    values = np.array([1.0, 1.0, 50.0])
    out = normalized(found, new, {"a": values})
    np.testing.assert_array_equal(out.far, [False, True, True])
    np.testing.assert_array_equal(out.group == 3, out.far)
    low, middle, high = np.quantile(scores["a"], (0.25, 0.5, 0.75))
    np.testing.assert_allclose(out.scores["a"][1:], (values[1:] - middle) / (high - low))


def test_images_that_are_all_the_same():
    same = np.full((40, 28, 28, 1), 7, np.uint8)
    found = fit_domains(same, {"a": np.full(40, 2.0)}, KEY)
    out = normalized(found, same[:3], {"a": np.array([2.0, 2.0, 5.0])})
    np.testing.assert_array_equal(out.scores["a"], [0, 0, 3])
    assert not out.far.any()


def test_labels_order_and_other_scores_do_not_matter():
    _, scores = scored(KINDS)
    order = np.random.default_rng(0).permutation(len(KINDS))
    one = fit_domains(IMAGES, scores, KEY)
    two = fit_domains(IMAGES[order], {n: v[order] for n, v in scores.items()} | {"b": KINDS}, KEY)
    ours, theirs = (normalized(d, IMAGES, scores).scores["a"] for d in (one, two))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_saved_and_loaded(tmp_path):
    _, scores = scored(KINDS)
    found = fit_domains(IMAGES, scores | {"contrast+error": scores["a"] ** 2}, KEY)
    found.save(tmp_path / "domains.npz")
    again = Domains.load(tmp_path / "domains.npz")
    assert set(again.median) == {"a", "contrast+error"}
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("some", "values", "message"),
    [
        (IMAGES[..., 0], np.zeros(300), r"images are uint8 of shape \(300, 28, 28\)"),
        (IMAGES / 255, np.zeros(300), "images are float64"),
        (IMAGES[:, :3], np.zeros(300), "4 pixels or more in each direction"),
        (IMAGES, np.zeros(3), r"a has shape \(3,\) and there are 300 images"),
        (IMAGES, np.full(300, np.nan), "a holds 300 NaN or infinite values"),
    ],
)
def test_bad_arguments(some, values, message):
    with pytest.raises(ValueError, match=message):
        fit_domains(some, {"a": values}, KEY)


def test_a_score_that_was_not_fitted():
    found = fit_domains(IMAGES, scored(KINDS)[1], KEY)
    with pytest.raises(ValueError, match="no score 'b' in the domains, which were fitted to a"):
        normalized(found, IMAGES, {"b": np.zeros(300)})
