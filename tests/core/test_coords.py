"""(row, col) to (x, y) and back."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.coords import box_from_xyxy, box_to_xywh, box_to_xyxy, points_to_xy


def test_points_are_turned():
    xy = points_to_xy([(3, 10), (0.5, 7)])
    np.testing.assert_array_equal(xy, [(10, 3), (7, 0.5)])
    assert xy.dtype == np.float64
    assert xy.flags.c_contiguous


def test_one_point_and_none():
    np.testing.assert_array_equal(points_to_xy((3, 10)), [(10, 3)])
    assert points_to_xy([]).shape == (0, 2)


def test_the_way_back():
    boxes = np.random.default_rng(0).normal(size=(5, 3, 4))
    np.testing.assert_array_equal(box_from_xyxy(box_to_xyxy(boxes)), boxes)


def test_boxes_name_the_same_pixels():
    """A filled box keeps its pixels when it is read as x and y."""
    picture = np.zeros((20, 30), dtype=bool)
    picture[4:9, 11:25] = True
    x_min, y_min, x_max, y_max = box_to_xyxy((4, 11, 9, 25)).astype(int)
    assert picture[y_min:y_max, x_min:x_max].all()
    x, y, width, height = box_to_xywh((4, 11, 9, 25)).astype(int)
    assert (x, y, width, height) == (11, 4, 14, 5)
    assert picture[y : y + height, x : x + width].sum() == picture.sum()


def test_turning_does_not_write_into_what_it_was_given():
    points = np.array([(1.0, 2.0)])
    points_to_xy(points)[:] = 0
    np.testing.assert_array_equal(points, [(1, 2)])


@pytest.mark.parametrize("bad", [[(1, 2, 3)], [1.0]])
def test_refuses_what_is_no_list_of_pairs(bad):
    with pytest.raises(ValueError, match="reshape"):
        points_to_xy(bad)
