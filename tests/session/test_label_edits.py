"""Tools on labels in a viewer: on the label meant, in the layer meant, taken back by one undo."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession
from napari_samdepth.storage.journal import recoverable


@pytest.fixture
def stack(viewer_model: ViewerModel) -> Labels:
    """Return labels 1 and 2 in three slices, of which the middle one is shown, and 3 in the first alone."""
    data = np.zeros((3, 40, 50), np.uint8)
    data[:, 5:15, 5:20], data[:, 20:30, 5:20], data[0, 5:15, 30:40] = 1, 2, 3
    layer = viewer_model.add_labels(data, name="mine")
    viewer_model.dims.set_point(0, 1)
    return layer


@pytest.fixture
def on_stack(session: AnnotationSession, stack: Labels) -> AnnotationSession:
    session.masks.use(stack)
    return session


def test_delete_and_merge_reach_all_slices_in_one_step(on_stack: AnnotationSession, stack: Labels) -> None:
    before = stack.data.copy()
    on_stack.delete_labels([1, 3])
    assert np.array_equal(stack.data, np.where(before == 2, 2, 0))
    on_stack.undo()
    assert np.array_equal(stack.data, before)
    on_stack.redo()
    on_stack.undo()
    on_stack.merge_labels([1, 3], 2)
    assert np.array_equal(stack.data, np.where(before > 0, 2, 0))
    on_stack.undo()
    assert np.array_equal(stack.data, before)


def test_the_others_act_on_the_shown_slice(on_stack: AnnotationSession, stack: Labels) -> None:
    stack.data[1, 8:10, 8:10] = 0
    stack.data[1, 35, 45] = 1
    on_stack.fill_holes(1)
    on_stack.keep_largest(1)
    assert np.array_equal(stack.data[1], stack.data[2])
    number = on_stack.split_label(1, (10, 6), (10, 18))
    assert number == 4
    assert set(np.unique(stack.data[1])) == {0, 1, 2, 4}
    assert not (stack.data[2] == 4).any()
    for _ in range(3):
        on_stack.undo()
    assert stack.data[1, 35, 45] == 1
    assert stack.data[1, 8, 8] == 0


def test_a_new_number_widens_the_layer(session: AnnotationSession, viewer_model: ViewerModel) -> None:
    data = np.zeros((20, 40), np.uint8)
    data[5:15, 2:38] = 255
    layer = viewer_model.add_labels(data)
    session.masks.use(layer)
    assert session.split_label(255, (10, 4), (10, 35)) == 256
    assert (layer.data == 256).sum() + (layer.data == 255).sum() == 360


@pytest.mark.parametrize("label", [0, 3, 9])
def test_a_label_that_is_not_shown_is_refused(on_stack: AnnotationSession, label: int) -> None:
    with pytest.raises(LayerError, match=f"no label {label}"):
        on_stack.smooth_label(label)
    with pytest.raises(LayerError, match="no label 9"):
        on_stack.delete_labels([9])


def test_without_labels_tools_say_so(session: AnnotationSession) -> None:
    with pytest.raises(LayerError, match="no labels yet"):
        session.fill_holes(1)


def test_tools_are_in_the_journal(on_stack: AnnotationSession, stack: Labels) -> None:
    on_stack.delete_labels([1])
    on_stack.merge_labels([3], 2)
    on_stack.undo()
    held = stack.data.copy()
    on_stack.close()
    (item,) = recoverable()
    assert np.array_equal(item.work().labels, held)
    item.discard()


def test_a_typed_number_goes_on_with_an_object(started: AnnotationSession) -> None:
    points = started._viewer.layers["SAM prompts"]
    for number, at in ((7, (52, 49)), (7, (54, 100)), (8, (50, 155))):
        if at != (50, 155):
            started.number_next(7)
            assert started.state.next_label == 7
        points.add(at)
        assert started.wait(60)
        assert started.accept() == number
    layer = started.masks.layer
    assert layer is not None
    assert layer.data[52, 49] == layer.data[54, 100] == 7
    started.undo()
    started.undo()
    started.undo()
    started.undo()
    assert layer.data[52, 49] == 7
    assert layer.data[54, 100] == 0
    with pytest.raises(LayerError, match="above 0"):
        started.number_next(-1)


def test_clicks_are_off_while_another_layer_is_selected(started: AnnotationSession) -> None:
    assert not started.clicks_are_off
    started._viewer.layers.selection.active = started.image
    assert started.clicks_are_off
    started.click_on()
    assert not started.clicks_are_off
    started._viewer.layers["SAM prompts"].mode = "pan_zoom"
    assert started.clicks_are_off


def test_each_click_is_an_object(started: AnnotationSession) -> None:
    started.set_each_click()
    assert started.state.each_click
    for at in ((52, 49), (54, 100)):
        started._viewer.layers["SAM prompts"].add(at)
    assert started.state.waiting == 2
    assert started.wait(60)
    layer = started.masks.layer
    assert layer is not None
    assert (layer.data[52, 49], layer.data[54, 100]) == (1, 2)
    assert started.state.waiting == 0
