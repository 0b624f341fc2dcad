"""What users do at odd moments: Escape while busy; another slice, model, picture or size of data; layers renamed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray

from napari_samdepth.core.errors import LayerError
from napari_samdepth.session.layers import read_plane
from napari_samdepth.session.session import AnnotationSession

from .conftest import COIN, WAIT
from .test_session import click, preview

OTHER = (120.0, 50.0)


def _own_labels(started: AnnotationSession, viewer: ViewerModel) -> NDArray[np.int32]:
    labels = viewer.add_labels(np.zeros((303, 384), dtype=np.int32), name="mine")
    labels.data[40:60, 35:60] = 7
    started.masks.use(labels)
    held: NDArray[np.int32] = labels.data
    return held


def test_escape_takes_back_an_early_accept(session: AnnotationSession, image: Image, viewer_model: ViewerModel) -> None:
    session.start(image)
    viewer_model.layers["SAM prompts"].add(list(COIN))
    assert session.accept() is None
    session.clear()
    assert session.wait(WAIT)
    click(session, viewer_model, *COIN)
    assert session.state.scores, "the new mask waits to be accepted"
    assert "coins masks" not in viewer_model.layers


def test_an_early_accept_is_written_in_its_own_slice(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    viewer_model.add_image(np.stack([coins, coins]), name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start()
    viewer_model.layers["SAM prompts"].add([0, *COIN])
    session.accept()
    viewer_model.dims.set_current_step(0, 1)
    assert session.state.waiting == 1
    assert session.wait(WAIT)
    assert session.state.waiting == 0
    click(session, viewer_model, 1, *OTHER)
    assert session.state.scores
    labels = viewer_model.layers["stack masks"].data
    assert labels[0][52, 49] == 1
    assert not labels[1].any()


def test_escape_while_a_label_is_fetched_ends_its_refining(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    _own_labels(started, viewer_model)
    started.edit(7)
    started.clear()
    assert started.wait(WAIT)
    assert started.state.editing == 0
    assert not preview(viewer_model).any()


def test_refining_starts_without_clicks_on_something_else(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    held = _own_labels(started, viewer_model)
    click(started, viewer_model, *OTHER)
    started.edit(7)
    assert started.wait(WAIT)
    assert len(viewer_model.layers["SAM prompts"].data) == 0
    assert np.mean(preview(viewer_model) == (held == 7)) > 0.998
    started.undo()
    assert started.wait(WAIT)
    assert len(viewer_model.layers["SAM prompts"].data) == 1


def test_a_click_before_the_label_is_fetched_refines_it_all_the_same(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    _own_labels(started, viewer_model)
    started.edit(7)
    assert started.wait(WAIT)
    click(started, viewer_model, 50, 62)
    patient = preview(viewer_model)
    started.clear()
    started.edit(7)
    viewer_model.layers["SAM prompts"].add([50, 62])
    assert started.wait(WAIT)
    assert np.array_equal(preview(viewer_model), patient)


def test_refining_survives_another_look_but_not_another_slice(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(np.stack([coins, coins]), name="stack", contrast_limits=(0, 255))
    labels = viewer_model.add_labels(np.zeros((2, 303, 384), dtype=np.int32), name="mine")
    labels.data[0, 40:60, 35:60] = 7
    viewer_model.dims.set_current_step(0, 0)
    session.start(image, labels=labels)
    assert session.wait(WAIT)
    session.edit(7)
    assert session.wait(WAIT)
    image.contrast_limits = (0, 250)
    assert session.state.editing == 7
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    assert session.state.editing == 0
    viewer_model.dims.set_current_step(0, 0)
    assert session.wait(WAIT)
    click(session, viewer_model, 0, *OTHER)
    assert session.accept() == 8
    assert (labels.data[0] == 7).sum() == 500


def test_a_label_that_only_shrinks_keeps_its_number(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    held = _own_labels(started, viewer_model)
    held[40:60, 35:60] = 0
    held[20:90, 10:90] = 7
    started.edit(7)
    assert started.wait(WAIT)
    started.toggle_foreground(False)
    click(started, viewer_model, 22, 12)
    assert preview(viewer_model).sum() < (held == 7).sum()
    assert started.accept() == 7


def test_a_label_that_does_not_change_is_done_with(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    held = _own_labels(started, viewer_model)
    for _ in range(2):
        started.edit(7)
        assert started.wait(WAIT)
        held[...] = np.where(preview(viewer_model), 7, 0)
    assert started.accept() == 7
    assert started.state.editing == 0
    assert not started.state.problem


def test_a_label_outside_of_the_image_is_refused_in_one_sentence(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    labels = viewer_model.add_labels(np.zeros((400, 500), dtype=np.int32), name="larger")
    labels.data[350:360, 450:460] = 5
    labels.data[290:320, 100:120] = 6
    started.masks.use(labels)
    with pytest.raises(LayerError, match="label 5"):
        started.edit(5)
    started.edit(6)
    assert started.wait(WAIT)
    assert not started.state.problem, started.state.message
    assert preview(viewer_model)[295:303, 102:118].all()


def test_another_model_starts_from_the_clicks_alone(
    started: AnnotationSession, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    click(started, viewer_model, *COIN)
    click(started, viewer_model, 60, 55)
    asked: list[object] = []
    encoding = started._annotator.planes
    segmenter = encoding._segmenters["builtin"]

    def decode(embedding: Any, prompts: Any) -> object:
        asked.append(prompts)
        return segmenter.decode(embedding, prompts)

    other = SimpleNamespace(
        model=segmenter.model, device="cpu", device_reason="", encode=segmenter.encode, decode=decode
    )
    monkeypatch.setitem(encoding._segmenters, "other", other)  # type: ignore[arg-type]
    started.start(started.image, model="other")
    assert not started.state.scores
    assert started.wait(WAIT)
    assert [prompts.mask for prompts in asked] == [None]  # type: ignore[attr-defined]


def test_the_shown_slice_of_another_layer_does_not_stop_the_encoding(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    viewer_model.add_image(np.zeros((5, 30, 30)), name="stack")
    session.start(image)
    viewer_model.dims.set_current_step(0, 1)
    assert session.state.phase == "busy"
    assert "slice" not in session.state.message
    assert session.wait(WAIT)
    assert session.state.phase == "ready"


def test_data_of_another_size_end_the_annotation_with_a_word(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = started.image
    assert image is not None
    click(started, viewer_model, *COIN)
    started.accept()
    started.add_depth()
    assert started.wait(WAIT)
    image.data = np.pad(coins, ((300, 0), (200, 0)))
    assert "another size" in started.state.message
    started.start(image)
    click(started, viewer_model, COIN[0] + 300, COIN[1] + 200)
    assert preview(viewer_model)[352, 249]
    assert started.accept()
    assert any(layer.data.shape == (603, 584) for layer in viewer_model.layers if layer.name.startswith("coins masks"))
    started.add_depth()
    assert started.wait(WAIT)
    assert not started.state.problem, started.state.message


def test_choosing_what_a_click_means_leaves_points_that_are_there(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    points = viewer_model.layers["SAM prompts"]
    click(started, viewer_model, *COIN)
    before = points.face_color.copy()
    started.toggle_foreground()
    assert np.array_equal(points.face_color, before)
    assert list(points.features["prompt"]) == ["foreground"]


def test_depth_added_while_a_mask_is_on_offer_is_read_at_once(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    click(started, viewer_model, *COIN)
    assert not started.state.live
    started.add_depth()
    assert started.wait(WAIT)
    assert {"median", "nearness", "spread"} <= set(started.state.live)
    assert started.state.scores


def test_renamed_layers_are_called_by_their_new_names(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    started.add_depth()
    assert started.wait(WAIT)
    viewer_model.layers["coins depth"].name = "far and near"
    viewer_model.layers["coins"].name = "money"
    assert started.state.depth_layer == "far and near"
    assert started.state.image == "money"


def test_depth_of_a_pyramid_that_is_coarser_along_the_stack_too(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_samdepth.session.layers.MAX_SIDE", 200)
    stack = np.stack([coins[:302]] * 8)
    viewer_model.add_image([stack, stack[::2, ::2, ::2]], name="pyramid", multiscale=True)
    viewer_model.dims.set_current_step(0, 7)
    session.add_depth()
    assert session.wait(WAIT)
    assert not session.state.problem, session.state.message
    depth = viewer_model.layers["pyramid depth"]
    assert np.isfinite(depth.data[3]).all()
    assert np.allclose(depth.data_to_world((3, 0, 0)), (6.5, 0.5, 0.5))


def test_found_masks_stay_in_the_slice_that_was_searched(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    viewer_model.add_image(np.stack([coins, coins]), name="stack")
    viewer_model.dims.set_current_step(0, 0)
    session.start()
    assert session.wait(WAIT)
    session.everything.filter(0.5, 0.3)
    session.everything.search(6, 0)
    assert session.wait(WAIT)
    viewer_model.dims.set_current_step(0, 1)
    assert session.wait(WAIT)
    session.everything.filter(0.4, 0.3)
    found = viewer_model.layers["SAM everything"].data
    assert found[0].any()
    assert not found[1].any()
    with pytest.raises(LayerError, match="another slice"):
        session.everything.accept()
    viewer_model.dims.set_current_step(0, 0)
    assert session.everything.accept()
    assert not viewer_model.layers["stack masks"].data[1].any()


def test_everything_in_the_next_image_gets_a_layer_of_its_own(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    other = viewer_model.add_image(coins[:200, :220], name="other")
    started.start(other)
    assert started.wait(WAIT)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    assert not started.state.problem, started.state.message
    assert [layer.data.shape for layer in viewer_model.layers if "everything" in layer.name] == [(200, 220)]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 40)])
def test_tiny_images_and_images_without_a_number(
    session: AnnotationSession, viewer_model: ViewerModel, shape: tuple[int, int]
) -> None:
    image = viewer_model.add_image(np.full(shape, np.nan, dtype=np.float32), name="nothing")
    session.start(image)
    click(session, viewer_model, 0, 0)
    session.add_depth()
    assert session.wait(WAIT)
    assert not session.state.problem, session.state.message
    session.accept()
    assert session.wait(WAIT)


def test_points_selected_to_be_dragged_stay_selected(started: AnnotationSession, viewer_model: ViewerModel) -> None:
    points = viewer_model.layers["SAM prompts"]
    click(started, viewer_model, *COIN)
    click(started, viewer_model, 60, 60)
    points.mode = "select"
    points.selected_data = {0, 1}
    points.mouse_drag_callbacks[0](points, SimpleNamespace(modifiers=()))
    assert set(points.selected_data) == {0, 1}


def test_a_word_about_another_look_goes_once_it_is_encoded(
    started: AnnotationSession, viewer_model: ViewerModel
) -> None:
    assert started.image is not None
    started.image.gamma = 0.5
    assert "encoded anew" in started.state.message
    click(started, viewer_model, *COIN)
    assert started.state.message == ""


def test_a_mask_on_offer_is_made_anew_when_the_image_looks_different(
    started: AnnotationSession, viewer_model: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, segmenter = started.image, started._annotator.planes._segmenters["builtin"]
    assert image is not None
    click(started, viewer_model, *COIN)
    encoded: list[NDArray[np.uint8]] = []
    encode = type(segmenter).encode

    def counted(self: Any, rgb: NDArray[np.uint8], *args: Any) -> object:
        encoded.append(rgb)
        return encode(self, rgb, *args)

    monkeypatch.setattr(type(segmenter), "encode", counted)
    for high in range(250, 200, -5):
        image.contrast_limits = (0, high)
    assert not started.state.scores, "the mask of another look is void"
    assert started.wait(WAIT)
    assert len(encoded) == 1, "while a slider moves nothing is encoded"
    assert started.state.scores
    assert preview(viewer_model)[52, 49]
    assert len(viewer_model.layers["SAM prompts"].data) == 1
    assert started.accept() == 1
    image.gamma = 0.8
    assert started.wait(WAIT)
    assert len(encoded) == 1, "without a mask on offer nobody waits for it"


def test_a_start_goes_on_when_the_image_looks_different_meanwhile(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.start(image)
    viewer_model.layers["SAM prompts"].add(list(COIN))
    image.contrast_limits = (0, 200)
    assert session.wait(WAIT)
    assert session.state.phase == "ready"
    assert session.state.scores


def test_a_view_in_3d_is_called_by_its_name(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    viewer_model.add_image(np.stack([coins, coins]), name="stack")
    session.start()
    viewer_model.layers["SAM prompts"].add([0, *COIN])
    viewer_model.dims.ndisplay = 3
    assert session.wait(WAIT)
    assert "3-D" in session.state.message
    assert session.accept() is None
    viewer_model.dims.ndisplay = 2
    assert session.wait(WAIT)


def test_of_a_tilted_stack_the_slice_that_napari_shows_is_read(viewer_model: ViewerModel) -> None:
    tilted = np.eye(4)
    tilted[0, 1] = 0.4
    stack = np.random.default_rng(0).integers(0, 256, (20, 30, 40), dtype=np.uint8)
    image = viewer_model.add_image(stack, affine=tilted, contrast_limits=(0, 255))
    for at in (3, 9, 15):
        viewer_model.dims.set_point(0, at)
        assert np.array_equal(read_plane(image, viewer_model).render().rgb[..., 0], stack[at])


def test_a_click_on_a_tilted_stack_that_lands_in_another_slice_is_said(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    tilted = np.eye(4)
    tilted[0, 1] = 0.02
    image = viewer_model.add_image(np.stack([coins] * 8), name="stack", affine=tilted)
    viewer_model.dims.set_point(0, 4)
    session.start(image)
    points, state = viewer_model.layers["SAM prompts"], session.state
    points.add(points.world_to_data((4, 120, 50)))
    assert session.wait(WAIT)
    assert "stack” is tilted" in state.message
    assert state.problem
    assert not state.scores
    points.add(points.world_to_data((4, 15, 49)))
    assert session.wait(WAIT)
    assert state.message == ""
    assert state.scores
    boxes = viewer_model.layers["SAM shapes"]
    corners = [(4, 100, 40), (4, 100, 80), (4, 140, 80), (4, 140, 40)]
    boxes.add_rectangles(np.array([boxes.world_to_data(at) for at in corners]))
    assert session.wait(WAIT)
    assert "tilted" in state.message


def test_a_point_added_in_another_slice_of_a_plain_stack_waits_there_without_a_word(
    session: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    image = viewer_model.add_image(np.stack([coins] * 2), name="stack", scale=(2, 1, 1))
    viewer_model.dims.set_point(0, 0)
    session.start(image)
    viewer_model.layers["SAM prompts"].add([1, *COIN])
    assert session.wait(WAIT)
    assert session.state.message == ""
    viewer_model.dims.set_point(0, 2)
    assert session.wait(WAIT)
    assert session.state.scores


def test_images_too_large_or_from_elsewhere_are_one_sentence_and_change_nothing(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    before = started.image
    many = np.broadcast_to(coins, (10**9, *coins.shape))
    huge = viewer_model.add_image(many, name="huge", contrast_limits=(0, 255))
    with pytest.raises(LayerError, match="too large"):
        started.start(huge)
    with pytest.raises(LayerError, match="not in this viewer"):
        started.start(Image(coins))
    assert started.image is before
    viewer_model.layers.remove(huge)
    assert started.wait(WAIT)
    click(started, viewer_model, *COIN)
    assert started.state.scores


def test_depth_follows_the_image_that_was_moved(
    session: AnnotationSession, image: Image, viewer_model: ViewerModel
) -> None:
    session.add_depth()
    assert session.wait(WAIT)
    assert "builtin-depth" in session.state.depth_text
    assert ":" not in session.state.depth_text
    image.scale, image.translate = (0.5, 0.25), (3, 4)
    session.add_depth()
    assert session.wait(WAIT)
    depth = viewer_model.layers["coins depth"]
    assert np.allclose(depth.data_to_world((7, 9)), image.data_to_world((7, 9)))


def test_found_masks_go_when_the_image_holds_data_of_another_size(
    started: AnnotationSession, viewer_model: ViewerModel, coins: NDArray[np.uint8]
) -> None:
    started.everything.filter(0.5, 0.3)
    started.everything.search(6, 0)
    assert started.wait(WAIT)
    assert started.state.found
    assert started.image is not None
    started.image.data = coins[:100, :120]
    assert started.state.found == 0
    assert "SAM everything" not in viewer_model.layers
