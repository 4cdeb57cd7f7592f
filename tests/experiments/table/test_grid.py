import pytest

from ocsvm_jax.experiments.table import grid

GRID = {"a": (1, 2, 3), "b,c": (("x", (1.0, 0.0)), ("y", (0.5, 0.5))), "d": (True, False)}


def test_product_has_every_point_once():
    points = grid.product(GRID)
    assert len(points) == 12
    assert len(list(grid.distinct(points))) == 12
    assert {"a": 2, "b": "y", "c": [0.5, 0.5], "d": False} in points


def test_product_of_no_axes_is_the_card_itself():
    assert grid.product({}) == [{}]


def test_crossed_axes_leave_the_others_alone():
    points = grid.crossed(GRID, ("a", "d"))
    assert len(points) == 6
    assert all(point.keys() == {"a", "d"} for point in points)
    with pytest.raises(ValueError, match=r"no axis 'e'; its axes are \['a', 'b,c', 'd'\]"):
        grid.crossed(GRID, ("e",))


def test_sweeps_change_one_axis_at_a_time():
    around = {"a": 2, "d": True}
    points = grid.sweeps(GRID, ("a", "d"), around)
    assert points == [
        {"a": 2, "d": True, "b": "x", "c": [1.0, 0.0]},
        {"a": 2, "d": True, "b": "y", "c": [0.5, 0.5]},
    ]
    # Of two axes not crossed, never both at once.
    points = grid.sweeps(GRID, ("a",), {"a": 1})
    assert [point.keys() for point in points] == [{"a", "b", "c"}] * 2 + [{"a", "d"}] * 2


def test_points_are_equal_to_what_json_gives_back():
    (point,) = grid.product({"betas": ((1.0, 0.0),)})
    assert point == {"betas": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"a": ()}, "no values for a"),
        ({"a,b": ((1, 2, 3),)}, r"\(1, 2, 3\) in the grid is not a value for each of"),
    ],
)
def test_bad_grids(axes, message):
    with pytest.raises(ValueError, match=message):
        grid.product(axes)
