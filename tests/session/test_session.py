"""The main job without a window: start, click, refine, accept, undo, depth, readout."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from scipy import ndimage

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.session import AnnotationSession, session_of

from .conftest import COIN, WAIT


def click(session: AnnotationSession, viewer: ViewerModel, *position: float) -> None:
    viewer.layers["SAM prompts"].add(list(position))
    assert session.wait(WAIT)


def preview(viewer: ViewerModel) -> NDArray[np.bool_]:
    return np.asarray(viewer.layers["SAM preview"].data) == 1


def coin_by_threshold(coins: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The first coin as a plain threshold sees it: a reference that knows nothing of the model."""
    bright = ndimage.binary_fill_holes(ndimage.gaussian_filter(coins.astype(float), 1) > 110)
    regions, _ = ndimage.label(bright)
    return np.asarray(regions == regions[52, 49])


def test_a_click_on_a_coin_gives_the_coin(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    click(started, viewer_model, *COIN)
    mask, reference = preview(viewer_model), coin_by_threshold(coins)
    assert (mask & reference).sum() / (mask | reference).sum() > 0.7
    assert len(started.state.scores) == 3
    assert started.state.chosen == int(np.argmax(started.state.scores))


def test_accept_writes_the_mask_and_clears_the_prompts(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    click(started, viewer_model, *COIN)
    mask = preview(viewer_model)
    assert started.accept() == 1
    labels = viewer_model.layers["coins masks"]
    assert np.array_equal(labels.data == 1, mask)
    assert len(viewer_model.layers["SAM prompts"].data) == 0
    assert not preview(viewer_model).any()
    assert started.state.next_label == 2


def test_undo_and_redo_walk_through_clicks_and_labels_alike(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    points = viewer_model.layers["SAM prompts"]
    click(started, viewer_model, *COIN)
    first = preview(viewer_model)
    click(started, viewer_model, 60, 60)
    second = preview(viewer_model)
    started.accept()
    labels = viewer_model.layers["coins masks"]

    started.undo()
    assert started.wait(WAIT)
    assert not labels.data.any()
    assert len(points.data) == 2
    assert np.array_equal(preview(viewer_model), second)
    started.undo()
    assert started.wait(WAIT)
    assert len(points.data) == 1
    assert np.array_equal(preview(viewer_model), first)
    started.undo()
    assert started.wait(WAIT)
    assert len(points.data) == 0
    assert not preview(viewer_model).any()
    assert not started.state.can_undo
    for _ in range(3):
        started.redo()
        assert started.wait(WAIT)
    assert np.array_equal(labels.data == 1, second)
    assert not started.state.can_redo


def test_a_mask_never_overwrites_other_labels(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    own = np.zeros((303, 384), dtype=np.uint8)
    own[:, :50] = 255
    labels = viewer_model.add_labels(own.copy(), name="mine")
    started.start(started.image, labels=labels)
    assert started.wait(WAIT)
    click(started, viewer_model, *COIN)
    mask = preview(viewer_model)
    assert started.accept() == 256
    assert labels.data.dtype.itemsize > 1
    assert (labels.data[:, :50] == 255).all()
    assert np.array_equal(labels.data == 256, mask & (own == 0))
    started.undo()
    assert np.array_equal(labels.data, own)


def test_clicks_while_busy_are_kept_and_accepting_early_is_remembered(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.start(image)
    viewer_model.layers["SAM prompts"].add([52, 49])
    viewer_model.layers["SAM prompts"].add([60, 55])
    assert session.accept() is None
    assert session.wait(WAIT)
    assert (viewer_model.layers["coins masks"].data == 1).sum() > 500
    assert len(viewer_model.layers["SAM prompts"].data) == 0


def test_background_points_and_boxes_reach_the_model(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    viewer_model.layers["SAM shapes"].add_rectangles([[25, 20], [80, 80]])
    assert started.wait(WAIT)
    boxed = preview(viewer_model)
    assert boxed[52, 49]
    rows, cols = np.nonzero(boxed)
    assert rows.min() >= 15
    assert rows.max() <= 90
    assert cols.min() >= 10
    assert cols.max() <= 90
    started.toggle_foreground(False)
    click(started, viewer_model, 52, 49)
    assert list(viewer_model.layers["SAM prompts"].features["prompt"]) == ["background"]
    assert not preview(viewer_model)[52, 49]


def test_next_candidate_shows_another_mask_and_undo_goes_back(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    click(started, viewer_model, *COIN)
    before, chosen = preview(viewer_model), started.state.chosen
    started.next_candidate()
    assert started.state.chosen == (chosen + 1) % 3
    started.undo()
    assert started.state.chosen == chosen
    assert np.array_equal(preview(viewer_model), before)


def test_an_existing_label_is_refined_in_place(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    labels = viewer_model.add_labels(np.zeros((303, 384), dtype=np.int32), name="mine")
    labels.data[40:60, 35:60] = 7
    started.start(started.image, labels=labels)
    assert started.wait(WAIT)
    started.edit(7)
    assert started.wait(WAIT)
    assert np.mean(preview(viewer_model) == (labels.data == 7)) > 0.998
    click(started, viewer_model, *COIN)
    refined = preview(viewer_model)
    assert started.accept() == 7
    assert np.array_equal(labels.data == 7, refined)
    started.undo()
    assert (labels.data == 7).sum() == 500
    with pytest.raises(LayerError, match="no label 99"):
        started.edit(99)


def test_depth_and_readout(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    started.add_depth()
    assert started.wait(WAIT)
    depth = viewer_model.layers["coins depth"]
    assert depth.data.shape == (303, 384)
    assert depth.data.dtype == np.float32
    assert depth.colormap.name == "inferno"
    assert depth.colorbar.visible
    assert depth.metadata["napari-samdepth"]["kind"] == "inverse"
    table = started.readout()
    labels = viewer_model.layers["coins masks"]
    assert list(table.index) == [1]
    assert table.loc[1, "area"] == (labels.data == 1).sum()
    assert 0 <= table.loc[1, "nearness"] <= 1
    assert list(labels.features["index"]) == [1]
    assert "nearness: " in labels.get_status((52, 49))["value"]


def test_the_mask_on_offer_is_read_out_at_every_click(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    started.add_depth()
    assert started.wait(WAIT)
    click(started, viewer_model, *COIN)
    first = dict(started.state.live)
    assert {"median", "nearness", "spread"} <= set(first)
    click(started, viewer_model, 250, 300)
    assert started.state.live != first


def test_another_layer_can_serve_as_depth(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    click(started, viewer_model, *COIN)
    started.accept()
    ramp = np.tile(np.arange(192, dtype=np.float32), (152, 1))
    sensor = viewer_model.add_image(ramp, name="sensor", scale=(2, 2))
    started.use_depth(sensor, "height", "nm")
    table = started.readout()
    labels = viewer_model.layers["coins masks"].data == 1
    centre = np.nonzero(labels)[1].mean()
    assert table.loc[1, "median"] == pytest.approx(centre / 2, abs=2)
    assert "nm" in started.state.depth_text
    with pytest.raises(LayerError, match="colour"):
        started.use_depth(viewer_model.add_image(np.zeros((9, 9, 3)), rgb=True), "height")


def test_what_was_said_of_a_depth_goes_with_it(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.add_depth(image_layer=image)
    assert session.wait(WAIT)
    assert session.state.message.startswith("Depth by builtin")
    sensor = viewer_model.add_image(np.zeros((9, 9)), name="sensor")
    session.use_depth(sensor, "height")
    assert session.state.message == ""
    session.add_depth(image_layer=image)
    assert session.wait(WAIT)
    assert session.state.message.startswith("Depth by builtin")
    viewer_model.layers.remove("coins depth")
    assert session.state.depth_layer == "sensor"
    assert session.state.message == ""


def test_without_an_image_one_sentence_says_so(session: AnnotationSession) -> None:
    with pytest.raises(LayerError, match="There is no image"):
        session.start()
    with pytest.raises(LayerError, match="no labels"):
        session.readout()


def test_a_viewer_has_one_session_and_another_viewer_another(viewer_model: ViewerModel) -> None:
    other = ViewerModel()
    assert session_of(viewer_model) is session_of(viewer_model)
    assert session_of(viewer_model) is not session_of(other)
    session_of(viewer_model).close()
    session_of(other).close()
