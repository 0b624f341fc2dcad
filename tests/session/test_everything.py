"""Everything in the picture: found on the lane, filtered at once, added in one step beside labels that are there."""

from __future__ import annotations

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT


def test_masks_are_found_filtered_and_added_in_one_step(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    labels = viewer_model.add_labels(np.zeros((303, 384), dtype=np.uint8), name="mine")
    labels.data[:60, :70] = 3
    before = labels.data.copy()
    started.masks.use(labels)
    started.everything.filter(0.5, 0.3)
    started.everything.search(points_per_side=6, crop_n_layers=0)
    assert started.wait(WAIT)
    loose = started.state.kept
    layer = viewer_model.layers["SAM everything"]
    assert started.state.found >= loose > 0
    assert len(np.unique(layer.data)) - 1 <= loose
    started.everything.filter(0.99, 0.99)
    assert started.state.kept < loose
    started.everything.filter(0.5, 0.3)
    assert started.state.kept == loose
    shown = layer.data.copy()
    assert started.everything.accept() == loose
    assert "SAM everything" not in viewer_model.layers
    assert (labels.data[:60, :70] == 3).all()
    free = before == 0
    assert np.array_equal(labels.data[free] > 0, shown[free] > 0)
    assert {"index", "parent", "predicted_iou", "stability_score"} <= set(labels.features.columns)
    started.undo()
    assert np.array_equal(labels.data, before)
    started.redo()
    assert np.array_equal(labels.data[free] > 0, shown[free] > 0)


def test_ending_early_keeps_what_is_found_and_cancelling_does_not(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    started.everything.search(points_per_side=64, crop_n_layers=0)
    started.everything.keep_found()
    assert started.wait(WAIT)
    assert not started.state.problem
    started.everything.search(points_per_side=64, crop_n_layers=0)
    started.stop()
    assert started.wait(WAIT)
    assert "SAM everything" not in viewer_model.layers or not viewer_model.layers["SAM everything"].data.any()


def test_it_needs_an_encoded_image(session: AnnotationSession) -> None:
    with pytest.raises(LayerError, match="Press Start"):
        session.everything.search(8, 0)


def test_a_layer_of_found_masks_that_was_changed_is_left_and_another_made(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    changed = viewer_model.layers["SAM everything"]
    changed.data = np.zeros((10, 12), dtype=np.int32)
    started.everything.filter(0.4, 0.3)
    assert started.everything.layer is not changed
    assert started.everything.accept()
    assert changed in viewer_model.layers


def test_what_has_its_label_is_left_out_and_said(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    started.everything.filter(0.7, 0.5)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    count = started.everything.accept()
    labels = viewer_model.layers["coins masks"]
    assert count == labels.data.max() > 2
    assert started.state.message == f"{count} masks were added as labels."
    # two objects go, of the others a rim of one pixel is free: such rims are no objects
    for number in range(1, count + 1):
        mask = labels.data == number
        labels.data[mask & ~ndimage.binary_erosion(mask)] = 0
    labels.data[np.isin(labels.data, (1, 2))] = 0
    before = labels.data.copy()
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    assert not viewer_model.layers["SAM everything"].editable
    assert started.everything.accept() == 2
    assert "left out, on labels that are there already" in started.state.message
    new = labels.data * (before == 0)
    assert sorted(np.unique(new)[1:]) == [count + 1, count + 2]
    assert sorted(labels.features["index"])[-2:] == [count + 1, count + 2]
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    assert started.everything.accept() == 0
    assert started.state.problem
    assert "add nothing" in started.state.message
    started.everything.search(6, 0)
    assert not started.state.problem
    assert started.wait(WAIT)


def test_a_search_of_an_image_that_looks_different_has_it_encoded(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    started._annotator.drop_plane()  # as when another look, too slow to follow by itself, was chosen
    with pytest.raises(LayerError, match="try again when that is done"):
        started.everything.search(4, 0)
    assert started.wait(WAIT)
    started.everything.search(4, 0)
    assert started.wait(WAIT)
    assert not started.state.problem


def test_undo_brings_back_what_was_added_or_discarded(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    found, kept = started.state.found, started.state.kept
    shown = viewer_model.layers["SAM everything"].data.copy()
    assert started.everything.accept() == kept
    features = viewer_model.layers["coins masks"].features.copy()
    started.undo()
    assert np.array_equal(viewer_model.layers["SAM everything"].data, shown)
    assert (started.state.found, started.state.kept) == (found, kept)
    assert len(viewer_model.layers["coins masks"].features) == 0
    started.everything.filter(0.9, 0.9)
    assert started.state.kept < kept
    started.everything.filter(0.5, 0.3)
    started.redo()
    assert "SAM everything" not in viewer_model.layers
    assert started.state.found == 0
    assert viewer_model.layers["coins masks"].features.equals(features)
    started.undo()
    started.everything.discard()
    assert "SAM everything" not in viewer_model.layers
    started.undo()
    assert np.array_equal(viewer_model.layers["SAM everything"].data, shown)
    del viewer_model.layers["SAM everything"]
    assert started.state.found == 0
    started.undo()
    assert np.array_equal(viewer_model.layers["SAM everything"].data, shown)
    started.undo()
    assert "SAM everything" not in viewer_model.layers, "the search itself is taken back"
    started.finish()
    started.undo()
    assert "SAM everything" not in viewer_model.layers


def test_a_search_goes_on_in_its_slice_and_clicks_elsewhere_do_not_wait_for_it(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(np.stack([coins, coins[::-1]]), name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start(image)
    assert session.wait(WAIT)
    session.everything.filter(0.5, 0.3)
    session.everything.search(12, 0)
    viewer_model.dims.set_current_step(0, 1)
    viewer_model.layers["SAM prompts"].add([1, 303 - COIN[0], COIN[1]])
    end = time.monotonic() + WAIT
    while not session.state.scores and time.monotonic() < end:
        session.deliver()
    assert session.state.scores
    assert session.lane.busy("everything"), "the mask is on offer while the search goes on"
    assert session.wait(WAIT)
    assert "go back to it" in session.state.message
    layer = viewer_model.layers["SAM everything"]
    assert session.state.found > 0
    assert layer.data[0].any()
    assert not layer.data[1].any()
    assert session.state.scores, "the mask on offer stays"
    with pytest.raises(LayerError, match="another slice"):
        session.everything.accept()
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    assert session.everything.accept()
    assert viewer_model.layers["stack masks"].data[0].any()


def test_other_data_and_a_new_start_end_a_search_and_say_so(
    started: AnnotationSession, viewer_model: ViewerModel, image: Image
) -> None:
    started.everything.search(64, 0)
    image.data = image.data[::-1].copy()
    assert "holds other data now. The search under way was ended" in started.state.message
    assert started.wait(WAIT)
    assert "SAM everything" not in viewer_model.layers
    started.start(image)
    assert started.wait(WAIT)
    started.everything.search(64, 0)
    started.start(image)
    assert "The search under way was ended" in started.state.message
    assert started.wait(WAIT)
    assert "SAM everything" not in viewer_model.layers
