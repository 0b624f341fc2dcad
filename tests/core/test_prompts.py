"""Prompts are checked when they are made, and frozen after."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.prompts import Prompts


def test_points_with_labels():
    prompts = Prompts(points=[(1, 2), (3.5, 4)], labels=[1, 0])
    np.testing.assert_array_equal(prompts.points, [(1, 2), (3.5, 4)])
    assert prompts.points.dtype == np.float64
    np.testing.assert_array_equal(prompts.labels, [1, 0])
    assert prompts.box is None
    assert prompts.mask is None


def test_points_are_foreground_unless_said_otherwise():
    np.testing.assert_array_equal(Prompts(points=[(1, 2), (3, 4)]).labels, [1, 1])


def test_box_alone_and_mask_alone():
    assert Prompts(box=(1, 2, 3, 4)).points.shape == (0, 2)
    prompts = Prompts(mask=np.zeros((256, 256), dtype=np.float64))
    assert prompts.mask is not None
    assert prompts.mask.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "ambiguous"),
    [
        ({"points": [(1, 2)]}, True),
        ({"points": [(1, 2), (3, 4)]}, False),
        ({"points": [(1, 2)], "box": (0, 0, 4, 4)}, False),
        ({"points": [(1, 2)], "mask": np.zeros((4, 4))}, False),
        ({"box": (0, 0, 4, 4)}, False),
    ],
)
def test_one_point_alone_is_ambiguous(given, ambiguous):
    assert Prompts(**given).ambiguous is ambiguous


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "at least one"),
        ({"points": [], "labels": []}, "at least one"),
        ({"points": [(1, 2, 3)]}, r"shape \(n, 2\)"),
        ({"points": [1, 2]}, r"shape \(n, 2\)"),
        ({"points": [(np.nan, 2)]}, "finite"),
        ({"points": [(np.inf, 2)]}, "finite"),
        ({"points": [(1, 2)], "labels": [1, 0]}, "2 for 1"),
        ({"points": [(1, 2)], "labels": []}, "0 for 1"),
        ({"points": [(1, 2)], "labels": [2]}, r"got \[2\]"),
        ({"points": [(1, 2)], "labels": [-1]}, r"got \[-1\]"),
        ({"box": (1, 2, 3)}, "row_min"),
        ({"box": (3, 2, 1, 4)}, "row_min < row_max"),
        ({"box": (1, 4, 3, 4)}, "col_min < col_max"),
        ({"box": (1, 2, np.inf, 4)}, "finite"),
        ({"box": (np.nan, 2, 3, 4)}, "finite"),
        ({"mask": np.zeros((1, 4, 4))}, r"shape \(h, w\)"),
        ({"mask": np.zeros((0, 4))}, r"shape \(h, w\)"),
    ],
)
def test_refuses_in_one_sentence(given, words):
    with pytest.raises(ValueError, match=words) as caught:
        Prompts(**given)
    assert str(caught.value).endswith(".")


def test_keeps_copies_that_nobody_can_write():
    points, box, mask = np.array([(1.0, 2.0)]), np.array([0.0, 0, 4, 4]), np.zeros((4, 4), np.float32)
    prompts = Prompts(points=points, box=box, mask=mask)
    points[:], box[:], mask[:] = 9, 9, 9
    np.testing.assert_array_equal(prompts.points, [(1, 2)])
    np.testing.assert_array_equal(prompts.box, [0, 0, 4, 4])
    for kept in (prompts.points, prompts.labels, prompts.box, prompts.mask):
        with pytest.raises(ValueError, match="read-only"):
            kept[...] = 1
    with pytest.raises(AttributeError):
        prompts.box = None  # type: ignore[misc]
