import math
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from ocsvm_jax.experiments.brain import measures
from ocsvm_jax.experiments.brain.measures import KEYS, MEASURES, SMALLEST_COMPONENT

CASES = [(seed, decimals, planar) for seed in range(3) for decimals in (1, 12) for planar in (0, 1)]


def measure(*arguments, **options):
    """The measures by the names that tables give them."""
    return dict(zip(KEYS, measures.measure(*arguments, **options), strict=True))


def _patient(seed, decimals=12, shape=(3, 12, 14)):
    """A map, a lesion of several components, some beyond the mask, and a mask with a hole.

    One decimal leaves about 30 distinct scores, so nearly all are tied.
    """
    generator = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    mask[:, 1:-2, 2:-1] = True
    mask[1, 4:7, 5:8] = False
    field = ndimage.gaussian_filter(generator.normal(size=shape), (0.5, 1, 1))
    lesion = field > np.percentile(field, 85)
    noise = ndimage.gaussian_filter(generator.normal(size=shape), 0.7)
    score = np.round(noise / noise.std() + 0.8 * lesion, decimals)
    score[~mask] = np.nan
    return score, lesion, mask


def _structure(planar):
    structure = np.ones((3, 3, 3), bool)
    if planar:
        structure[[0, 2]] = False
    return structure


def _without_small(binary, smallest, planar):
    components, count = ndimage.label(binary, _structure(planar))
    kept = np.zeros_like(binary)
    for index in range(1, count + 1):
        if (components == index).sum() >= smallest:
            kept |= components == index
    return kept


def _dice(predicted, lesion, mask):
    predicted, lesion = predicted & mask, lesion & mask
    return 2 * (predicted & lesion).sum() / (predicted.sum() + lesion.sum())


def _aupro_by_definition(score, lesion, mask, planar, limit=0.3):
    """A loop over thresholds and components, then an exact integral of the broken line."""
    components, count = ndimage.label(lesion & mask, _structure(planar))
    regions = [components == index for index in range(1, count + 1)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(score[mask])[::-1]:
        predicted = mask & (score >= threshold)
        rate = (predicted & ~lesion).sum() / (mask & ~lesion).sum()
        overlap = np.mean([predicted[region].mean() for region in regions])
        points.append((rate, overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit and x0 < limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize(("seed", "decimals", "planar"), CASES)
def test_against_scikit_learn_and_the_definitions(seed, decimals, planar):
    score, lesion, mask = _patient(seed, decimals)
    found = measure(score, lesion, mask, threshold=1.0, planar=bool(planar))
    labels, scores = lesion[mask], score[mask]
    thresholds = np.unique(scores)
    expected = {
        "AUROC": roc_auc_score(labels, scores),
        "AUROC30": roc_auc_score(labels, scores, max_fpr=0.3),
        "AUPR": average_precision_score(labels, scores),
        "Dice best": max(_dice(score >= t, lesion, mask) for t in thresholds),
        "Dice at 1%": f1_score(labels, scores > 1.0),
        "AUPRO30": _aupro_by_definition(score, lesion, mask, planar),
        "prevalence": labels.mean(),
    }
    assert tuple(found) == KEYS
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("seed", "decimals", "planar"), CASES[:8])
@pytest.mark.parametrize("smallest", [2, SMALLEST_COMPONENT, 40])
def test_both_dice_leave_small_components_out(seed, decimals, planar, smallest):
    score, lesion, mask = _patient(seed, decimals, (2, 10, 12))

    def dice(above):
        return _dice(_without_small(mask & above, smallest, planar), lesion, mask)

    options = {"threshold": 0.5, "planar": bool(planar)}
    found = measure(score, lesion, mask, smallest=smallest, **options)
    best = max(dice(score >= t) for t in np.unique(score[mask]))
    assert found["Dice best"] == pytest.approx(best, abs=1e-12)
    assert found["Dice at 1%"] == pytest.approx(dice(score > 0.5), abs=1e-12)
    # The others do not look at components of predictions.
    raw = measure(score, lesion, mask, **options)
    others = [name for name in raw if not name.startswith("Dice")]
    assert [found[name] for name in others] == [raw[name] for name in others]


def test_dropping_components_is_an_area_opening():
    """Whole volumes at once, with plateaus: every seed is a map that thresholds differently."""
    morphology = pytest.importorskip("skimage.morphology")
    for seed in range(20):
        generator = np.random.default_rng(seed)
        smooth = ndimage.gaussian_filter(generator.normal(size=(1, 15, 17)), (0, 1, 1))
        score = np.round(smooth, 1 + seed % 2)
        found = measures._opened(score, np.ones(score.shape, bool), 8, True)
        expected = morphology.area_opening(score[0], 8, connectivity=2)
        np.testing.assert_array_equal(found[0], expected)


def test_components_that_are_all_too_small_are_no_prediction():
    score = np.zeros((1, 6, 6))
    lesion = np.zeros(score.shape, bool)
    mask = np.zeros(score.shape, bool)
    mask[0, ::2, ::2] = lesion[0, 0, 0] = True
    score[lesion] = 1.0
    found = measure(score, lesion, mask, threshold=0.5, smallest=2)
    assert (found["Dice best"], found["Dice at 1%"], found["AUROC"]) == (0.0, 0.0, 1.0)
    assert measure(score, lesion, mask, threshold=0.5)["Dice best"] == 1.0


def test_by_hand():
    """Lesions of 4 and 1 voxels among 10 healthy ones; the map finds the large one only."""
    lesion = np.zeros((1, 1, 15), bool)
    lesion[0, 0, [0, 1, 2, 3, 5]] = True
    score = np.where(lesion, 1.0, 0.0)
    score[0, 0, 5] = -1.0
    found = measure(score, lesion, np.ones(lesion.shape, int), threshold=0.5)
    assert found["AUROC"] == pytest.approx(4 / 5)
    # The curve of overlaps goes up to 1/2 at a rate of 0, and on to the right.
    assert found["AUPRO30"] == pytest.approx(0.5)
    assert found["Dice best"] == found["Dice at 1%"] == pytest.approx(2 * 4 / (4 + 5))
    assert found["prevalence"] == pytest.approx(1 / 3)


def test_the_limits_of_the_measures():
    _, lesion, mask = _patient(0)
    perfect = measure(lesion, lesion, mask, threshold=0.5)
    assert [perfect[name] for name in MEASURES] == [1.0] * 6
    reversed_ = measure(~lesion, lesion, mask, threshold=0.5)
    assert (reversed_["AUROC"], reversed_["Dice at 1%"], reversed_["AUPRO30"]) == (0.0, 0.0, 0.0)
    prevalence = perfect["prevalence"]
    constant = measure(np.ones(mask.shape), lesion, mask, threshold=1.0)
    chance = dict(zip(MEASURES, [0.5, 0.5, prevalence, 0.0, 0.0, 0.15], strict=True))
    # Everything predicted, at best.
    chance["Dice best"] = 2 * prevalence / (1 + prevalence)
    assert constant == pytest.approx(chance | {"prevalence": prevalence}, abs=1e-12)


@pytest.mark.parametrize("smallest", [1, SMALLEST_COMPONENT])
def test_a_monotone_transform_changes_nothing(smallest):
    score, lesion, mask = _patient(1, decimals=1)
    once = measure(score, lesion, mask, threshold=0.5, smallest=smallest)
    threshold = math.exp(2 * 0.5 + 3)
    again = measure(np.exp(2 * score + 3), lesion, mask, threshold=threshold, smallest=smallest)
    assert again == once


def test_what_lies_outside_the_mask_does_not_count():
    score, lesion, mask = _patient(2)
    once = measure(score, lesion, mask, threshold=0.5, smallest=8)
    other = np.where(mask, score, np.inf)
    assert measure(other, lesion | ~mask, mask.astype(float), threshold=0.5, smallest=8) == once


def test_permuted_voxels_have_the_same_ranks():
    score, lesion, mask = _patient(0, decimals=1)
    order = np.random.default_rng(0).permutation(mask.sum())
    moved, labels = score.copy(), lesion.copy()
    moved[mask], labels[mask] = score[mask][order], lesion[mask][order]
    once = measure(score, lesion, mask, threshold=0.5)
    again = measure(moved, labels, mask, threshold=0.5)
    assert all(again[n] == pytest.approx(once[n], abs=1e-12) for n in MEASURES if n != "AUPRO30")


def test_small_lesions_count_as_much_as_large_ones_in_aupro():
    lesion = np.zeros((1, 20, 20), bool)
    lesion[0, 2:8, 2:8] = True
    lesion[0, 15, 15] = True
    mask = np.ones(lesion.shape, bool)
    score = np.zeros(lesion.shape)
    found = []
    for part in (np.s_[0, 2:8, 2:8], np.s_[0, 15:16, 15:16]):
        map_ = score.copy()
        map_[part] = 1.0
        found.append(measure(map_, lesion, mask, threshold=0.5)["AUPRO30"])
    # Half found at once, the other half at random: 1/2 + 1/2 * 0.15.
    assert found == pytest.approx([0.575, 0.575])


def test_slices_far_apart_have_components_of_their_own():
    lesion = np.zeros((2, 8, 8), bool)
    lesion[0, 1:7, 1:7] = lesion[1, 3, 3] = True
    mask, score = np.ones(lesion.shape, bool), np.zeros(lesion.shape)
    score[1, 3, 3] = 1.0
    together = measure(score, lesion, mask, threshold=0.5)["AUPRO30"]
    apart = measure(score, lesion, mask, threshold=0.5, planar=True)["AUPRO30"]
    assert together == pytest.approx(1 / 37 + 36 / 37 * 0.15)
    assert apart == pytest.approx(0.5 + 0.5 * 0.15)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int32])
def test_types_of_scores(kind):
    score, lesion, mask = _patient(0, decimals=0)
    score = np.where(mask, score, 0.0)
    once = measure(score, lesion, mask, threshold=1, smallest=8)
    assert measure(score.astype(kind), lesion, mask, threshold=1, smallest=8) == once


def test_a_whole_map_takes_a_fifth_of_a_second():
    generator = np.random.default_rng(0)
    shape = (4, 197, 233)
    x, y = np.ogrid[-1:1:197j, -1:1:233j]
    mask = np.broadcast_to((x / 0.68) ** 2 + (y / 0.7) ** 2 < 1, shape)
    score = ndimage.gaussian_filter(generator.normal(size=shape), (0, 1, 1)).astype(np.float32)
    lesion = ndimage.gaussian_filter(generator.normal(size=shape), (0, 3, 3)) > 0.2
    assert 66_000 < mask.sum() < 70_000
    seconds = []
    for _ in range(3):
        start = time.process_time()
        measure(score, lesion, mask, threshold=0.1, smallest=8, planar=True)
        seconds.append(time.process_time() - start)
    # 0.1 s on one core; the rest is for slower machines.
    assert min(seconds) < 0.5


def test_threshold_is_the_smallest_that_keeps_the_rate():
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=(5, 2, 9, 7)), 1)
    masks = generator.random(scores.shape) < 0.8
    scores[~masks] = np.nan
    pooled = scores[masks]
    for fpr in (0.001, 0.01, 0.1, 0.3, 0.999):
        threshold = measures.threshold_at(scores, list(masks), fpr)
        assert (pooled > threshold).mean() <= fpr
        assert all((pooled > value).mean() > fpr for value in np.unique(pooled[pooled < threshold]))
    assert measures.threshold_at(scores, masks) == measures.threshold_at(scores, masks, 0.01)


def test_threshold_at_round_rates():
    scores, masks = np.arange(100.0).reshape(1, 1, 10, 10), np.ones((1, 1, 10, 10), bool)
    for percent in range(1, 100):
        assert measures.threshold_at(scores, masks, percent / 100) == 99 - percent
    # Half of all scores tied at the top: none may be above.
    assert measures.threshold_at(np.minimum(scores, 50), masks, 0.3) == 50


@pytest.mark.parametrize("planar", [True, False])
def test_postprocessing_by_definition(planar):
    score, _, mask = _patient(0, shape=(5, 14, 15))
    once = score.copy()
    filtered, eroded = measures.postprocessed(score, mask, median=3, erosion=2, planar=planar)
    np.testing.assert_array_equal(score, once)
    filled = np.where(mask, score, np.nanmin(score))
    padded = np.pad(filled, 1, mode="edge")
    for z, x, y in np.argwhere(mask):
        window = padded[z + 1 if planar else slice(z, z + 3), x : x + 3, y : y + 3]
        assert filtered[z, x, y] == np.median(window)
    # Voxels at most two steps from the outside, by sides; the volume's own borders are none.
    wide = np.pad(mask, 2, mode="edge")
    if planar:
        distance = [ndimage.distance_transform_cdt(plane, "taxicab") for plane in wide]
    else:
        distance = ndimage.distance_transform_cdt(wide, "taxicab")
    np.testing.assert_array_equal(eroded, np.asarray(distance)[2:-2, 2:-2, 2:-2] > 2)
    assert 0 < eroded.sum() < mask.sum()


def test_postprocessing_that_does_nothing():
    score, _, mask = _patient(0)
    filtered, same = measures.postprocessed(score.astype(np.float32), mask, median=1, erosion=0)
    np.testing.assert_array_equal(filtered[mask], score[mask].astype(np.float32))
    np.testing.assert_array_equal(same, mask)
    assert filtered.dtype == np.float32
    assert np.isfinite(filtered).all()


def test_postprocessing_removes_specks_and_keeps_lesions():
    lesion = np.zeros((1, 40, 40), bool)
    lesion[0, 12:20, 12:20] = True
    score = lesion.astype(float)
    score[0, 25:38:4, 8:38:4] = 2.0
    mask = np.ones(lesion.shape, bool)
    before = measure(score, lesion, mask, threshold=0.5)
    cleaned = measures.postprocessed(score, mask, planar=True)
    after = measure(cleaned[0], lesion, cleaned[1], threshold=0.5, smallest=8)
    # 32 specks; the filter rounds each corner of the square off by 3 of its 64 voxels.
    assert before["Dice at 1%"] == pytest.approx(2 * 64 / (64 + 96))
    assert after["Dice at 1%"] == pytest.approx(2 * 52 / (64 + 52))


def test_a_monotone_transform_commutes_with_postprocessing():
    score, _, mask = _patient(3)
    filtered, _ = measures.postprocessed(score, mask, planar=True)
    transformed, _ = measures.postprocessed(np.exp(score), mask, planar=True)
    np.testing.assert_allclose(transformed, np.exp(filtered), rtol=1e-12)


def test_image_score_is_minus_the_second_percentile_of_f():
    score, ventricles, mask = _patient(0)
    f = -score
    assert measures.image_score(score, mask) == pytest.approx(-np.percentile(f[mask], 2))
    expected = -np.percentile(f[mask & ~ventricles], 2)
    assert measures.image_score(score, mask, ventricles) == pytest.approx(expected)
    brighter = np.where(ventricles, score + 100, score)
    assert measures.image_score(brighter, mask, ventricles) == pytest.approx(expected)
    assert measures.image_score(brighter, mask) > 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lesion": np.zeros((3, 12, 14), bool)}, "0 of 288 voxels inside the mask are lesion"),
        ({"lesion": np.ones((3, 12, 14), bool)}, "288 of 288 voxels.*both kinds"),
        ({"lesion": np.ones((3, 12), bool)}, r"lesion has shape \(3, 12\) and score \(3, 12, 14\)"),
        ({"lesion": np.full((3, 12, 14), 2)}, "lesion holds 2: pass bool"),
        ({"mask": np.zeros((3, 12, 14))}, "mask is empty"),
        ({"mask": np.full((3, 12, 14), np.nan)}, "mask holds nan"),
        ({"mask": np.ones((3, 14, 12))}, r"mask has shape \(3, 14, 12\)"),
        ({"score": np.ones((12, 14))}, r"score has shape \(12, 14\)"),
        ({"score": np.full((3, 12, 14), "a")}, "pass real numbers"),
        ({"score": np.full((3, 12, 14), 1j)}, "type complex128: pass real numbers"),
        ({"score": np.full((3, 12, 14), np.nan)}, r"288 NaN.*\(0, 1, 2\): find out where"),
        ({"threshold": np.nan}, "threshold is nan"),
        ({"smallest": 0}, "smallest is 0"),
    ],
)
def test_bad_input(change, message):
    score, lesion, mask = _patient(0)
    arguments = {"score": score, "lesion": lesion, "mask": mask, "threshold": 0.0} | change
    with pytest.raises(ValueError, match=message):
        measure(**arguments)


def test_bad_input_of_the_others():
    score, _, mask = _patient(0)
    with pytest.raises(ValueError, match=r"fpr is 1\.0"):
        measures.threshold_at([score], [mask], 1.0)
    with pytest.raises(ValueError, match="2 score maps and 1 masks"):
        measures.threshold_at([score, score], [mask])
    with pytest.raises(ValueError, match="0 score maps"):
        measures.threshold_at([], [])
    with pytest.raises(ValueError, match="median is 4"):
        measures.postprocessed(score, mask, median=4)
    with pytest.raises(ValueError, match="erosion is -1"):
        measures.postprocessed(score, mask, erosion=-1)
    with pytest.raises(ValueError, match="Nothing of the mask is left after 9 erosions"):
        measures.postprocessed(score, mask, erosion=9)
    with pytest.raises(ValueError, match="exclude covers the whole mask"):
        measures.image_score(score, mask, mask)
    with pytest.raises(ValueError, match="exclude has shape"):
        measures.image_score(score, mask, mask[0])
