"""Which image goes into which set, on a source whose images carry their own identity."""

import jaxtyping
import numpy as np
import pytest

from ocsvm_jax.data import Dataset, ImageSet, Source, holdout, holdout_rows
from ocsvm_jax.data.protocol import build

CORRUPTIONS = ("plain", "blurred", "striped", "bright")
LABELS = {
    "train": np.array([3, 8, 3, 5, 8, 3, 3, 8, 5, 3]),
    "test": np.array([8, 3, 5, 3, 8, 3, 8, 3, 5]),
}
REQUEST = {
    "normal": (3,),
    "anomalies": (8,),
    "train_corruptions": ("plain", "blurred"),
    "test_corruptions": ("striped", "bright"),
    "protocol": "paper",
}


def stamped(corruption: str, split: str, rows: np.ndarray) -> np.ndarray:
    """Images whose first pixels tell the corruption, the split and the position they come from."""
    images = np.zeros((len(rows), 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = CORRUPTIONS.index(corruption)
    images[:, 0, 1, 0] = split == "test"
    images[:, 0, 2, 0] = rows
    return images


def stamps(images: ImageSet) -> list[tuple[str, str, int]]:
    triples = images.images[:, 0, :3, 0].tolist()
    return [(CORRUPTIONS[c], ("train", "test")[s], position) for c, s, position in triples]


def expected(split: str, corruptions: tuple[str, ...], positions: tuple[int, ...]) -> list:
    return [(c, split, p) for c in corruptions for p in positions]


def make(labels=lambda corruption, split: LABELS[split], images=stamped) -> Source:
    return Source("stamped", "the stamped source", CORRUPTIONS, labels, images)


def test_paper_takes_the_positions_that_the_classes_occupy():
    data = build(make(), **REQUEST)
    assert data.name == "stamped"
    assert stamps(data.train) == expected("train", ("plain", "blurred"), (0, 2, 5, 6, 9))
    assert stamps(data.valid) == expected("test", ("striped", "bright"), (0, 1, 3, 4, 5, 6, 7))
    assert stamps(data.test) == expected("train", ("striped", "bright"), (0, 1, 2, 4, 5, 6, 7, 9))


def test_leak_free_divides_the_file_in_the_middle():
    data = build(make(), **REQUEST | {"protocol": "leak_free"})
    # Class 3 of split "test" lies at 1, 3, 5, 7 and class 8 at 0, 4, 6 of 9 positions.
    assert stamps(data.valid) == expected("test", ("striped", "bright"), (0, 1, 3))
    assert stamps(data.test) == expected("test", ("striped", "bright"), (4, 5, 6, 7))


def test_leak_free_keeps_a_writer_on_one_side():
    """Ten writers, each with a run of all ten digits, as in MNIST: none is in both sets."""
    labels = np.tile(np.array([3, 8, 5, 3, 8, 3, 8, 5, 3, 8]), 10)
    data = build(make(lambda _, split: labels), **REQUEST | {"protocol": "leak_free"})
    valid, test = ({row // 10 for _, _, row in stamps(part)} for part in (data.valid, data.test))
    assert valid == {0, 1, 2, 3, 4}
    assert test == {5, 6, 7, 8, 9}


def test_both_protocols_train_on_the_same_images():
    paper, leak_free = (build(make(), **REQUEST | {"protocol": p}) for p in ("paper", "leak_free"))
    for one, other in zip(paper.train, leak_free.train, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("protocol", ["paper", "leak_free"])
def test_records_describe_their_images(protocol):
    data = build(make(), **REQUEST | {"normal": [3, 5], "protocol": protocol})
    for images in data[1:]:
        count = len(images.images)
        assert images.images.shape == (count, 28, 28, 1)
        assert images.images.dtype == np.uint8
        assert images.classes.dtype == np.int64
        assert images.anomalous.dtype == np.int8
        assert {f.shape for f in images[1:]} == {(count,)}
        where = stamps(images)
        assert images.corruption.tolist() == [c for c, _, _ in where]
        assert images.classes.tolist() == [LABELS[s][p] for _, s, p in where]
        np.testing.assert_array_equal(images.anomalous, images.classes == 8)
    assert set(data.train.classes) == {3, 5}
    assert set(data.valid.classes) == set(data.test.classes) == {3, 5, 8}


def test_the_same_corruption_may_serve_training_and_test():
    data = build(make(), **REQUEST | {"test_corruptions": ("plain",)})
    assert set(data.train.corruption) == {"plain", "blurred"}
    assert set(data.test.corruption) == {"plain"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": ()}, r"normal is empty"),
        ({"anomalies": []}, r"anomalies is empty"),
        ({"normal": (3, 3)}, r"normal=\(3, 3\) contains a value twice"),
        ({"normal": (3, 8)}, r"classes \[8\] are in both"),
        ({"normal": (True,)}, r"must contain integers only.*normal=\(3,\)"),
        ({"normal": (4,)}, r"classes \[4\] are not in split 'train' of 'plain'.*\[3, 5, 8\]"),
        ({"anomalies": (8, 9)}, r"classes \[9\] are not in split 'test' of 'striped'"),
        ({"train_corruptions": ()}, r"train_corruptions is empty"),
        ({"train_corruptions": "plain"}, r"'plain' is not a sequence.*\(\"plain\",\)"),
        ({"test_corruptions": ("stripe",)}, r"'stripe'. Did you mean 'striped'\? Available: plain"),
        ({"test_corruptions": ("bright", "bright")}, r"contains a value twice"),
        ({"protocol": "leakfree"}, r"protocol 'leakfree'. Did you mean 'leak_free'\?"),
    ],
)
def test_what_cannot_be_served_is_refused_before_an_image_is_read(change, message):
    def images(*_):
        pytest.fail("an image was read")

    with pytest.raises(ValueError, match=message):
        build(make(images=images), **REQUEST | change)


@pytest.mark.parametrize("value", [3, "3"])
def test_a_class_instead_of_a_tuple_is_explained(monkeypatch, value):
    # The type checks of the tests would refuse it first; at run time there are none.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"not a sequence of class labels.*normal=\(3,\)"):
        build(make(), **REQUEST | {"normal": value})


def test_leak_free_refuses_corruptions_in_different_order():
    def labels(corruption, split):
        return LABELS[split][::-1] if corruption == "bright" else LABELS[split]

    assert isinstance(build(make(labels), **REQUEST), Dataset)
    with pytest.raises(ValueError, match=r"'bright'.*differ from those of 'striped'"):
        build(make(labels), **REQUEST | {"protocol": "leak_free"})


def test_a_digit_has_one_number_under_every_corruption():
    """That of its row in the source, where all corruptions have the same rows."""
    for part, split in (("train", "train"), ("valid", "test"), ("test", "train")):
        found = getattr(build(make(lambda _, split: LABELS[split]), **REQUEST), part)
        np.testing.assert_array_equal(LABELS[split][found.digit], found.classes)
        numbers = [found.digit[found.corruption == c] for c in np.unique(found.corruption)]
        assert len(numbers) == 2
        np.testing.assert_array_equal(*numbers)
        assert len(set(numbers[0])) == len(numbers[0])

    def labels(corruption, split):
        return LABELS[split][::-1] if corruption == "bright" else LABELS[split]

    assert build(make(labels), **REQUEST).test.digit is None


def test_leak_free_refuses_a_class_too_small_to_divide():
    labels = {"train": LABELS["train"], "test": np.array([3, 3, 8])}
    with pytest.raises(ValueError, match=r"classes \[8\] are not in the first half of split"):
        build(make(lambda _, split: labels[split]), **REQUEST | {"protocol": "leak_free"})


def numbered(count: int) -> ImageSet:
    return ImageSet(
        images=np.zeros((count, 28, 28, 1), np.uint8),
        classes=np.arange(count),
        corruption=np.array([f"c{i}" for i in range(count)]),
        anomalous=np.zeros(count, np.int8),
        digit=np.arange(count),
    )


@pytest.mark.parametrize(
    ("count", "fraction", "aside"),
    [(18_393, 0.1, 1_840), (100, 0.07, 7), (10, 0.1, 1), (11, 0.1, 2), (2, 0.01, 1)],
)
def test_holdout_divides_every_field_alike(count, fraction, aside):
    kept, held = holdout(numbered(count), fraction, seed=0)
    assert len(held.images) == aside
    assert sorted([*kept.classes, *held.classes]) == list(range(count))
    assert np.all(np.diff(kept.classes) > 0)
    for part in (kept, held):
        assert part.corruption.tolist() == [f"c{i}" for i in part.classes]
        assert {len(field) for field in part} == {len(part.classes)}


def test_holdout_depends_on_the_seed_alone():
    first, again, other = (holdout(numbered(50), 0.2, seed)[1].classes for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_held_out_batches_mix_what_the_images_are_sorted_by(seed):
    """Early stopping sees batches of the held-out images as they come, training random ones.

    3 x 600 sorted images, 180 held out: a random batch of 30 holds 10 of each third on average,
    with a hypergeometric standard deviation of 2.4.
    """
    _, held = holdout_rows(1800, 0.1, seed)
    batches = np.reshape(held // 600, (6, 30))
    counts = np.stack([np.bincount(batch, minlength=3) for batch in batches])
    assert np.min(counts) >= 1
    assert np.abs(counts - np.bincount(held // 600) / 6).max() < 4 * 2.4


def test_which_images_are_held_out_does_not_depend_on_their_order():
    """Those that the first draw of the seed puts in front, by NumPy."""
    kept, held = holdout_rows(100, 0.2, seed=7)
    expected = np.random.default_rng(7).permutation(100)[:20]
    np.testing.assert_array_equal(held, expected)
    np.testing.assert_array_equal(kept, np.setdiff1d(np.arange(100), expected))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_holdout_refuses_a_share_that_is_none(fraction):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        holdout(numbered(10), fraction, seed=0)


def test_holdout_keeps_something_to_train_on():
    with pytest.raises(ValueError, match="both parts need at least one image"):
        holdout(numbered(3), 0.9, seed=0)
