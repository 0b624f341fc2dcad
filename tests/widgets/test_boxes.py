"""Boxes drawn with all of napari's tools in a real window."""

from __future__ import annotations

import pytest
from napari.layers import Shapes
from skimage import data

from .conftest import Bench


def boxes_of_coins(bench: Bench) -> Shapes:
    """Start on the coins, and return the boxes layer, selected."""
    bench.viewer.add_image(data.coins(), name="coins")
    bench.settle()
    bench.segment.start_button.click()
    bench.until(lambda: bench.session.state.phase == "ready")
    boxes = bench.viewer.layers["SAM shapes"]
    bench.viewer.layers.selection.active = boxes
    return boxes


@pytest.mark.parametrize("mode", ["add_rectangle", "add_ellipse", "add_polygon_lasso"])
def test_a_box_or_lasso_replaces_the_one_before_and_can_be_undone(bench: Bench, mode: str) -> None:
    boxes = boxes_of_coins(bench)
    boxes.mode = mode
    for corner in (20, 80):
        bench.drag((30, corner), (75, corner), (75, corner + 26), (30, corner + 52), (75, corner + 52))
        bench.settle()
        assert boxes.nshapes == 1
        assert len(boxes.features) == 1
        assert bench.session.state.scores
    bench.key("Ctrl+Z")
    bench.settle()
    assert boxes.nshapes == 1
    assert boxes.data[0][:, 1].min() < 30, "the first box is back"
    bench.key("Ctrl+Shift+Z")
    bench.settle()
    assert boxes.data[0][:, 1].min() > 70
    bench.key("Return")
    bench.settle()
    assert bench.viewer.layers["coins masks"].data.any()
    assert boxes.nshapes == 0


@pytest.mark.parametrize("mode", ["add_path", "add_line"])
def test_paths_are_scribbles_that_add_up(bench: Bench, mode: str) -> None:
    shapes = boxes_of_coins(bench)
    shapes.mode = mode
    bench.drag((45, 40), (60, 60))
    bench.settle()
    assert shapes.nshapes == 1
    assert bench.session.state.scores
    preview = bench.viewer.layers["SAM preview"]
    assert preview.data[52, 49] == 1
    bench.session.toggle_foreground(False)
    bench.drag((5, 5), (10, 90))
    bench.settle()
    assert list(shapes.features["prompt"]) == ["foreground", "background"]
    assert preview.data[52, 49] == 1
    bench.key("Ctrl+Z")
    bench.settle()
    assert shapes.nshapes == 1
    bench.key("Return")
    bench.settle()
    assert bench.viewer.layers["coins masks"].data[52, 49]
    assert shapes.nshapes == 0


def test_a_lasso_too_small_to_be_kept_leaves_all_as_it_was(bench: Bench) -> None:
    boxes = boxes_of_coins(bench)
    boxes.mode = "add_rectangle"
    bench.drag((30, 20), (75, 72))
    bench.settle()
    boxes.mode = "add_polygon_lasso"
    bench.drag((100, 80), (140, 120))
    bench.settle()
    assert boxes.nshapes == len(boxes.features) == 1
    boxes.mode = "add_rectangle"
    bench.drag((30, 80), (75, 132))
    bench.settle()
    assert boxes.nshapes == 1
    assert boxes.data[0][:, 1].min() > 70


def test_selecting_the_boxes_is_enough_to_drag_one(bench: Bench) -> None:
    boxes = boxes_of_coins(bench)
    bench.drag((30, 20), (75, 72))
    bench.settle()
    assert boxes.nshapes == 1
    assert bench.session.state.scores
