"""Prompts are checked when they are made, and frozen after."""

from __future__ import annotations

import numpy as np
import pytest

from napari_samdepth.core.candidates import MaskInput, Patch
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
        ({"points": [(1, 2)], "scribbles": [[(1, 2), (3, 4)]]}, False),
        ({"points": [(1, 2)], "lasso": [(0, 0), (0, 9), (9, 0)]}, False),
        ({"points": [(1, 2)], "mask": np.eye(4, dtype=bool)}, False),
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
        ({"mask": np.zeros((3, 4), bool)}, "at least one pixel"),
        ({"mask": Patch(np.zeros((0, 0), bool), (0, 0))}, "at least one pixel"),
        ({"scribbles": [[(1, 2, 3)]]}, r"scribbles must be \(n, 2\)"),
        ({"scribbles": [[]]}, r"scribbles must be \(n, 2\)"),
        ({"scribbles": [(1, 2)]}, r"scribbles must be \(n, 2\)"),
        ({"scribbles": [[(1, np.nan)]]}, "finite"),
        ({"scribbles": [[(1, 2)]], "scribble_labels": [1, 0]}, "scribble_labels must hold one number per scribble"),
        ({"scribbles": [[(1, 2)]], "scribble_labels": [3]}, r"got \[3\]"),
        ({"lasso": [(0, 0), (1, 1)]}, "at least 3"),
        ({"lasso": [(0, 0), (1, 1), (np.inf, 2)]}, "finite"),
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


def test_scribbles_and_a_lasso():
    prompts = Prompts(scribbles=[[(1, 2), (3, 4)], [(5, 6)]], scribble_labels=[1, 0], lasso=[(0, 0), (0, 9), (9, 0)])
    assert prompts.kinds == {"scribbles", "lasso"}
    np.testing.assert_array_equal(prompts.scribble_labels, [1, 0])
    np.testing.assert_array_equal(Prompts(scribbles=[[(1, 2)]]).scribble_labels, [1])
    for kept in (*prompts.scribbles, prompts.scribble_labels, prompts.lasso):
        with pytest.raises(ValueError, match="read-only"):
            kept[...] = 1


def test_a_mask_is_logits_or_a_mask_at_image_resolution():
    fed = MaskInput(np.zeros((4, 4)), (2, 2, 6, 6))
    assert Prompts(mask=fed).mask is fed.logits
    assert Prompts(mask=fed).mask_window == (2, 2, 6, 6)
    region = np.zeros((6, 8), bool)
    region[2:4, 3] = True
    for mask in (region, Patch(np.ones((2, 1), bool), (2, 3))):
        prompts = Prompts(mask=mask)
        assert prompts.mask is None
        assert prompts.region.box == (2, 3, 4, 4)
        assert prompts.kinds == {"mask"}
