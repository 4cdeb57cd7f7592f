import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from ocsvm_jax.experiments.brain import pictures
from ocsvm_jax.reports import figures

LOOK = {"threshold": 2.0, "vmin": 0.0, "vmax": 3.0}


def _slices(rows=2, shape=(40, 50)):
    """Round brains; the scores are NaN outside, and high at the lesion at the left front."""
    x, y = np.ogrid[: shape[0], : shape[1]]
    masks = np.broadcast_to((x - 20) ** 2 + (y - 25) ** 2 < 15**2, (rows, *shape))
    lesions = np.broadcast_to((x - 12) ** 2 + (y - 32) ** 2 < 3**2, (rows, *shape))
    generator = np.random.default_rng(0)
    images = np.where(masks, generator.uniform(0.3, 0.8, masks.shape), 0.0)
    scores = np.where(masks, generator.uniform(-1.0, 1.9, masks.shape) + 3.0 * lesions, np.nan)
    return images, scores, masks, lesions


def _draw(lesions=True, **change):
    images, scores, masks, lesion = _slices()
    arguments = {"labels": ["z = 12", "z = 20"], **LOOK} | change
    return pictures.overlay(images, scores, masks, lesion if lesions else None, **arguments)


def _panels(figure, columns):
    """The axes of the slices by row and column; the colour bar comes last."""
    *panels, bar = figure.axes
    return np.reshape(np.array(panels, object), (-1, columns)), bar


def test_panels_show_what_their_titles_say():
    images, scores, masks, lesions = _slices()
    figure = _draw(title="patient 3")
    panels, bar = _panels(figure, 4)
    assert [axes.get_title() for axes in panels[0]] == ["T1", "score", "above threshold", "lesion"]
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["z = 12", "z = 20"]
    assert figure.get_suptitle() == "patient 3"
    assert bar.get_ylabel() == "score"
    # The brain spans x from 6 to 34 and y from 11 to 39, plus a margin of 3.
    cut = np.s_[:, 3:38, 8:43]
    for i, row in enumerate(panels):
        for axes in row:
            np.testing.assert_array_equal(axes.images[0].get_array(), images[cut][i].T)
        score, above = row[1].images[1].get_array(), row[2].images[1].get_array()
        np.testing.assert_array_equal(~np.ma.getmaskarray(score), masks[cut][i].T)
        np.testing.assert_array_equal(score.compressed(), scores[cut][i].T[masks[cut][i].T])
        expected = (masks & (scores > 2.0))[cut][i].T
        np.testing.assert_array_equal(~np.ma.getmaskarray(above), expected)
        assert expected.any()
        assert [len(axes.images) for axes in row] == [1, 2, 2, 1]
        assert [len(axes.collections) for axes in row] == [0, 0, 1, 1]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["score above 2", "outline of the lesion"]
    assert lesions.any()


def test_one_scale_of_colours_for_all_rows():
    panels, bar = _panels(_draw(), 4)
    limits = {axes.images[1].get_clim() for axes in panels[:, 1]}
    assert limits == {(0.0, 3.0)}
    assert bar.get_ylim() == (0.0, 3.0)
    whites = {axes.images[0].get_clim() for axes in panels.ravel()}
    assert whites == {(0.0, _slices()[0].max())}


def test_left_of_the_patient_is_left_and_front_is_on_top():
    """On the canvas, wherever the panel lies: the pixels above the threshold."""
    figure = _draw()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    panels, _ = _panels(figure, 4)
    box = panels[0, 2].get_window_extent()
    left, right = round(box.x0), round(box.x1)
    top, bottom = (round(pixels.shape[0] - y) for y in (box.y1, box.y0))
    vermilion = np.array([0xD5, 0x5E, 0x00])
    found = np.argwhere((np.abs(pixels[top:bottom, left:right] - vermilion) < 3).all(axis=-1))
    assert len(found) > 20
    down, right_of = found.mean(axis=0) / pixels[top:bottom, left:right].shape[:2]
    # The lesion is centred at x = 12 of [3, 38) and y = 32 of [8, 43), which points upwards.
    assert right_of == pytest.approx((12.5 - 3) / 35, abs=0.03)
    assert down == pytest.approx(1 - (32.5 - 8) / 35, abs=0.03)
    assert panels[0, 0].texts[0].get_text() == "L"
    assert panels[0, 0].texts[0].get_position()[0] < 0.1


def test_the_outline_surrounds_the_lesion():
    """At the edge of a slice too, where the outline has to close."""
    images, scores, masks, lesions = _slices(1)
    corner = np.zeros_like(lesions)
    corner[0, :4, :4] = True
    everywhere = np.ones_like(masks)
    for lesion in (lesions, corner):
        figure = pictures.overlay(
            images, np.nan_to_num(scores), everywhere, lesion, labels=["a"], **LOOK
        )
        panels, _ = _panels(figure, 4)
        (path,) = panels[0, 3].collections[0].get_paths()
        x, y = np.indices(lesion.shape[1:])
        inside = path.contains_points(np.stack([x.ravel(), y.ravel()], axis=1))
        np.testing.assert_array_equal(inside.reshape(lesion.shape[1:]), lesion[0])


def test_controls_have_no_lesion():
    panels, _ = _panels(_draw(lesions=False), 3)
    assert [axes.get_title() for axes in panels[0]] == ["T1", "score", "above threshold"]
    assert not any(axes.collections for axes in panels.ravel())


@pytest.mark.parametrize(
    ("vmin", "vmax", "lesions"),
    [(-2.0, 9.0, True), (-2.0, 1.0, False), (0.0, 9.0, False), (4.7, 4.8, True)],
)
def test_png(vmin, vmax, lesions):
    images, scores, masks, lesion = _slices()
    lesion = lesion & (np.arange(2) == 0)[:, None, None] if lesions else None
    arguments = {"labels": ["a", "b$\\frac{"], "threshold": 2.0, "vmin": vmin, "vmax": vmax}
    image = figures.png(pictures.overlay, images, scores, masks, lesion, **arguments)
    assert Image.open(io.BytesIO(image)).width > 900


def test_equal_figures_are_equal_files():
    arguments = {"labels": ["a"], **LOOK}
    first, second = (figures.png(pictures.overlay, *_slices(1), **arguments) for _ in range(2))
    assert first == second


def test_slices_that_are_hard_to_draw():
    images, scores, masks, _ = _slices()
    only_first = masks & (np.arange(2) == 0)[:, None, None]
    arguments = {"labels": ["a", "b"], **LOOK}
    nothing = np.zeros_like(masks)
    for values in (scores, 0.0 * scores):
        image = figures.png(
            pictures.overlay, 0.0 * images, values, only_first, nothing, **arguments
        )
        assert Image.open(io.BytesIO(image)).format == "PNG"


def test_colour_range():
    _, scores, masks, _ = _slices()
    low, high = pictures.colour_range(scores, masks)
    assert (low, high) == pytest.approx(tuple(np.percentile(scores[masks], (50, 99.5))))
    assert pictures.colour_range(list(scores), list(masks), (0, 100)) == pytest.approx(
        (np.nanmin(scores), np.nanmax(scores))
    )
    low, high = pictures.colour_range([np.full((2, 3), 7.0)], [np.ones((2, 3), bool)])
    assert low == 7.0 < high < 7.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["z = 12"]}, "1 labels and 2 slices"),
        ({"vmin": 3.0}, r"vmin is 3\.0, vmax 3\.0.*vmin below vmax"),
        ({"vmax": np.nan}, "vmax nan"),
        ({"threshold": np.inf}, "threshold inf"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(ValueError, match=message):
        _draw(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros((2, 40, 49))}, r"images \(2, 40, 50\), scores \(2, 40, 49\)"),
        ({"lesions": np.zeros((40, 50))}, r"lesions \(40, 50\): pass \(rows, x, y\)"),
        ({"masks": np.zeros((2, 40, 50))}, "masks is empty"),
        ({"scores": np.full((2, 40, 50), np.nan)}, "scores holds NaN"),
        ({"images": np.full((2, 40, 50), np.inf)}, "images holds NaN or infinite"),
    ],
)
def test_bad_arrays(change, message):
    arrays = dict(zip(("images", "scores", "masks", "lesions"), _slices(), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        pictures.overlay(**arrays, labels=["a", "b"], **LOOK)


@pytest.mark.parametrize(
    ("scores", "masks", "percentiles", "message"),
    [
        ([], [], (1, 99), "The masks hold 0 voxels"),
        ([[1.0, np.nan]], [[1, 1]], (1, 99), "2 voxels, 1 of them NaN"),
        ([[1.0, 2.0]], [[0, 0]], (1, 99), "The masks hold 0 voxels"),
        ([[1.0, 2.0]], [[1, 1, 1]], (1, 99), r"shapes \[\(2,\)\] and the masks \[\(3,\)\]"),
        ([[1.0, 2.0]], [], (1, 99), "1 and 0 in number"),
        ([[1.0, 2.0]], [[1, 1]], (99, 1), r"percentiles is \(99, 1\)"),
    ],
)
def test_bad_colour_range(scores, masks, percentiles, message):
    with pytest.raises(ValueError, match=message):
        pictures.colour_range(scores, masks, percentiles)
